//! [`Turns`]: who asks for what another is fetching waits for that one, and then finds it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use heddle_graph::digest::Digest;

/// One at a time for each digest; other digests do not wait.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<Digest, Arc<Mutex<()>>>>);

impl Turns {
    /// Does `work` when nobody else works for this digest. It should first look whether the one before has done it.
    pub fn take<T>(&self, digest: &Digest, work: impl FnOnce() -> T) -> T {
        let turn = self.lock().entry(*digest).or_default().clone();
        let result = {
            let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        };
        let mut turns = self.lock();
        // The map's and this one: nobody waits.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(digest);
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicU32, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn many_ask_and_one_fetches() {
        let (turns, fetched, found) = (Turns::default(), AtomicU32::new(0), AtomicBool::new(false));
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    turns.take(&Digest::of(b"weights"), || {
                        if !found.load(Ordering::SeqCst) {
                            thread::sleep(Duration::from_millis(20));
                            fetched.fetch_add(1, Ordering::SeqCst);
                            found.store(true, Ordering::SeqCst);
                        }
                    });
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn others_do_not_wait() {
        let turns = Turns::default();
        turns.take(&Digest::of(b"a"), || turns.take(&Digest::of(b"b"), || ()));
    }
}
