//! Makes values ahead of their use, in order.
//!
//! A range of steps and a function enter; its results leave in step order. Worker `k` of `n` makes steps `k`,
//! `k + n`, ... into its own bounded channel, and the reader goes round the channels: order and memory are
//! bounded without a reordering buffer. What the values are is not known here.

use std::{
    ops::Range,
    panic,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// How far to work ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefetchOptions {
    /// Threads that make values; at least one is used.
    pub threads: usize,
    /// Finished values that may wait per thread; at least one.
    pub depth: usize,
}

impl Default for PrefetchOptions {
    /// One thread, two values ahead.
    fn default() -> Self {
        Self { threads: 1, depth: 2 }
    }
}

/// An iterator over the results for every step of a range, made ahead. It ends after the first error.
///
/// Dropping it stops the threads once they finish the value at hand. A panic in the function comes up again in
/// the reader.
#[derive(Debug)]
pub struct Prefetch<T, E> {
    workers: Vec<Worker<T, E>>,
    /// Steps handed out so far, and how many there are.
    taken: u64,
    total: u64,
}

#[derive(Debug)]
struct Worker<T, E> {
    results: Receiver<Result<T, E>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static, E: Send + 'static> Prefetch<T, E> {
    /// Starts making `make(step)` for every step of the range.
    pub fn new<F>(steps: Range<u64>, options: PrefetchOptions, make: F) -> Self
    where
        F: Fn(u64) -> Result<T, E> + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        let threads = options.threads.max(1);
        let worker = |first: usize| {
            let (sender, results) = sync_channel(options.depth.max(1));
            let own = steps.clone().skip(first).step_by(threads);
            let make = make.clone();
            Worker { results, thread: thread::spawn(move || produce(own, &*make, &sender)) }
        };
        let total = steps.end.saturating_sub(steps.start);
        Self { workers: (0..threads).map(worker).collect(), taken: 0, total }
    }
}

/// Sends results until the steps are through, one fails, or nobody listens any more.
fn produce<T, E>(
    steps: impl Iterator<Item = u64>,
    make: &impl Fn(u64) -> Result<T, E>,
    sender: &SyncSender<Result<T, E>>,
) {
    for step in steps {
        let result = make(step);
        let failed = result.is_err();
        if sender.send(result).is_err() || failed {
            return;
        }
    }
}

impl<T, E> Iterator for Prefetch<T, E> {
    type Item = Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken == self.total {
            return None;
        }
        let turn = (self.taken % self.workers.len() as u64) as usize;
        match self.workers[turn].results.recv() {
            Ok(result) => {
                self.taken = if result.is_err() { self.total } else { self.taken + 1 };
                Some(result)
            }
            // The worker ended before its time: it panicked.
            Err(_) => {
                self.taken = self.total;
                if let Err(payload) = self.workers.swap_remove(turn).thread.join() {
                    panic::resume_unwind(payload);
                }
                None
            }
        }
    }
}

impl<T, E> Drop for Prefetch<T, E> {
    fn drop(&mut self) {
        for Worker { results, thread } in self.workers.drain(..) {
            // Hanging up makes the worker's next send fail; its own panic, if any, was not asked for.
            drop(results);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "prefetch_tests.rs"]
mod tests;
