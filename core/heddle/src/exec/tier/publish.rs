//! [`Publisher`]: a thread that publishes what the run made, payloads first and then what names them.
//!
//! A run does not wait for it until its end. What is left when it stops, by an interrupt or because the remote failed, is published by
//! the next run that finds it in the local cache.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use heddle_cache::{Cache, RowChunk};
use heddle_graph::{digest::Digest, plan::Trace};
use heddle_remote::{Put, RemoteError};

use super::{Link, ROWS, TRACE, chunk, trace};

/// How often a wait for the end asks whether it is wanted any more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A thing to publish.
enum Job {
    Trace(Box<Trace>),
    Chunk(RowChunk),
}

/// The thread, and the way to it.
pub(super) struct Publisher {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pending: Arc<Pending>,
}

/// Jobs that are not done.
#[derive(Default)]
struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
    /// What is left is dropped.
    given_up: AtomicBool,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, usize> {
        // A number is whole whatever happens to who changes it.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, caches: Vec<Cache>) -> Self {
        let (jobs, receiver) = mpsc::channel();
        let pending = Arc::new(Pending::default());
        let work = Work { link, caches, pending: pending.clone() };
        let thread =
            thread::Builder::new().name("heddle-publish".to_owned()).spawn(move || work.run(&receiver));
        let thread = thread.map_err(|error| tracing::warn!(%error, "nothing is published: no thread")).ok();
        Self { jobs: thread.is_some().then_some(jobs), thread, pending }
    }

    pub(super) fn trace(&self, trace: Trace) {
        self.send(Job::Trace(Box::new(trace)));
    }

    pub(super) fn chunk(&self, chunk: RowChunk) {
        self.send(Job::Chunk(chunk));
    }

    fn send(&self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        *self.pending.lock() += 1;
        if jobs.send(job).is_err() {
            *self.pending.lock() -= 1;
        }
    }

    pub(super) fn finish(&self, is_stopped: &dyn Fn() -> bool) {
        let mut count = self.pending.lock();
        while *count > 0 && !self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            if is_stopped() {
                self.pending.given_up.store(true, Ordering::Relaxed);
            }
            let waited = self.pending.changed.wait_timeout(count, LOOK_EVERY);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.pending.given_up.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has said in the log what went wrong with it.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Work {
    link: Arc<Link>,
    /// Where payloads are read, in this order.
    caches: Vec<Cache>,
    pending: Arc<Pending>,
}

impl Work {
    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let is_wanted = !self.pending.given_up.load(Ordering::Relaxed) && self.link.writing.is_over();
            if is_wanted && let Err(error) = self.publish(&job) {
                self.link.failed(&self.link.writing, "is not written", &error);
            }
            *self.pending.lock() -= 1;
            self.pending.changed.notify_all();
        }
    }

    fn publish(&self, job: &Job) -> Result<(), RemoteError> {
        match job {
            Job::Trace(trace) => self.trace(trace),
            Job::Chunk(chunk) => self.chunk(chunk),
        }
    }

    /// Publishes a trace, unless there is one whose payloads are there.
    fn trace(&self, made: &Trace) -> Result<(), RemoteError> {
        let key = [made.parts.digest()];
        let known = trace(&self.link, &key[0]);
        if let Some(known) = &known {
            if self.are_there(known.outputs.values())? {
                return Ok(());
            }
            self.doubt(known.outputs.values());
        }
        let value = match serde_json::to_vec(made) {
            Ok(value) if self.payloads(made.outputs.values())? => value,
            _ => return Ok(()),
        };
        self.link.remote.put_value(TRACE, &key, &value, put(known.is_some()))
    }

    /// Publishes a chunk, unless there is one whose payloads are there.
    fn chunk(&self, made: &RowChunk) -> Result<(), RemoteError> {
        let key = [made.set, made.keys];
        let known = self.link.remote.value(ROWS, &key)?.and_then(|value| chunk(&key, &value));
        if let Some(known) = &known {
            if self.are_there([&known.keys, &known.rows])? {
                return Ok(());
            }
            self.doubt([&known.keys, &known.rows]);
        }
        match self.payloads([&made.keys, &made.rows])? {
            true => self.link.remote.put_value(ROWS, &key, &made.value(), put(known.is_some())),
            false => Ok(()),
        }
    }

    fn are_there<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<bool, RemoteError> {
        for digest in digests {
            if !self.link.remote.has(digest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of payloads that belong together, whoever found one gone or damaged has not read the others.
    fn doubt<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        digests.into_iter().for_each(|digest| self.link.remote.doubt(digest));
    }

    /// Publishes payloads; false if one is not here any more.
    fn payloads<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<bool, RemoteError> {
        for digest in digests.into_iter().collect::<BTreeSet<_>>() {
            let payload = self.caches.iter().find_map(|cache| cache.get(digest).ok().flatten());
            let Some(payload) = payload else { return Ok(false) };
            self.link.remote.publish(digest, Bytes::from_owner(payload))?;
        }
        Ok(true)
    }
}

/// What names payloads that are gone is replaced.
fn put(is_known: bool) -> Put {
    if is_known { Put::Replacing } else { Put::IfAbsent }
}
