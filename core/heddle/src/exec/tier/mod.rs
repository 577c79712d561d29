//! [`Tier`]: the cache that machines share, behind the local one.
//!
//! ```text
//! remote (heddle-remote)                        local cache
//!   objects/..             ──bring, checked──▶    payloads
//!   values/trace/KEY       ──────────────────▶    `trace`     once its payloads are here
//!   values/rows/SET/KEYS   ──────────────────▶    `rows`      once a row of the chunk is read
//!                          ◀────publish──────     payloads, then what names them; in the background
//! ```
//!
//! A remote that fails is left alone for a while, with one warning: the run goes on without it.

mod publish;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use heddle_cache::{Cache, CacheError, Payload, RowChunk};
use heddle_graph::{digest::Digest, plan::Trace};
use heddle_remote::{Address, Fetched, Remote, RemoteError, Traffic, Turns};

use self::publish::Publisher;
use super::modes::Access;

/// Spaces of values, as in the local cache.
const TRACE: &str = "trace";
const ROWS: &str = "rows";

/// So long a remote that failed is not asked again.
const REST: Duration = Duration::from_secs(60);

/// The remote, as runs use it.
pub(super) struct Tier {
    link: std::sync::Arc<Link>,
    turns: Turns,
    /// Stopped and joined when the tier goes.
    publisher: Option<Publisher>,
}

/// A remote, and whether it answers.
struct Link {
    remote: Remote,
    reading: Rest,
    writing: Rest,
}

/// Until when something is not tried.
#[derive(Default)]
struct Rest(Mutex<Option<Instant>>);

impl Rest {
    fn is_over(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() >= until)
    }

    /// Begins a rest; whether it is a new one.
    fn begin(&self) -> bool {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = until.is_none_or(|until| Instant::now() >= until);
        *until = Some(Instant::now() + REST);
        is_new
    }
}

impl Link {
    /// What reading gives; after a failure nothing, for a while.
    fn read<T>(&self, ask: impl FnOnce(&Remote) -> Result<T, RemoteError>) -> Option<T> {
        let answer = self.reading.is_over().then(|| ask(&self.remote))?;
        answer.map_err(|error| self.failed(&self.reading, "is not read", &error)).ok()
    }

    fn failed(&self, rest: &Rest, what: &str, error: &RemoteError) {
        if rest.begin() {
            let remote = self.remote.address();
            tracing::warn!("the remote {remote} {what} for now: {error}; going on with the local cache");
        }
    }
}

impl Tier {
    /// Opens a remote; none, with a warning, if that fails. What is published is read from `cache` and, if it is not there, `below`.
    pub(super) fn open(
        address: &Address,
        access: Access,
        cache: &Cache,
        below: Option<&Cache>,
    ) -> Option<Self> {
        let link = std::sync::Arc::new(link(address)?);
        let publisher = match access {
            Access::Read => None,
            Access::ReadWrite => {
                let caches = [Some(cache), below].into_iter().flatten().cloned().collect();
                Some(Publisher::new(link.clone(), caches))
            }
        };
        Some(Self { link, turns: Turns::default(), publisher })
    }

    /// The trace under a key. Whether its payloads can be had is another question.
    pub(super) fn trace(&self, key: &Digest) -> Option<Trace> {
        trace(&self.link, key)
    }

    /// Whether a payload is there; does not look at its bytes.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.link.read(|remote| remote.has(digest)).unwrap_or(false)
    }

    /// Brings a payload into the cache, once however many ask for it at a time. None if it is not there, is damaged, or the remote
    /// does not answer.
    pub(super) fn bring(&self, digest: &Digest, cache: &Cache) -> Result<Option<Payload>, CacheError> {
        self.turns.take(digest, || {
            if let Some(payload) = cache.get(digest)? {
                return Ok(Some(payload));
            }
            let mut writer = cache.writer()?;
            match self.link.read(|remote| remote.fetch(digest, &mut writer)) {
                Some(Fetched::Whole) => cache.get(&writer.finish()?),
                Some(Fetched::Absent | Fetched::Damaged) | None => Ok(None),
            }
        })
    }

    /// The chunks of a set of rows.
    pub(super) fn chunks(&self, set: &Digest) -> Vec<RowChunk> {
        let found = self.link.read(|remote| remote.values_under(ROWS, &[*set])).unwrap_or_default();
        found.into_iter().filter_map(|(key, value)| chunk(&key, &value)).collect()
    }

    /// Publishes a trace after its payloads, in the background, unless the remote has it or is only read.
    pub(super) fn publish_trace(&self, trace: &Trace) {
        if let Some(publisher) = &self.publisher {
            publisher.trace(trace.clone());
        }
    }

    /// Publishes a chunk of rows likewise.
    pub(super) fn publish_chunk(&self, chunk: RowChunk) {
        if let Some(publisher) = &self.publisher {
            publisher.chunk(chunk);
        }
    }

    /// Waits until everything is published; gives up when `is_stopped` says so.
    pub(super) fn finish(&self, is_stopped: &dyn Fn() -> bool) {
        if let Some(publisher) = &self.publisher {
            publisher.finish(is_stopped);
        }
    }

    /// What went over the wire so far.
    pub(super) fn traffic(&self) -> Traffic {
        self.link.remote.traffic()
    }

    /// Where the remote is.
    pub(super) fn address(&self) -> String {
        self.link.remote.address().to_string()
    }
}

/// Traces of a remote alone, for who has no local cache.
pub struct Elsewhere(Link);

impl Elsewhere {
    /// Opens a remote; none, with a warning, if that fails.
    pub fn open(address: &Address) -> Option<Self> {
        link(address).map(Self)
    }
}

impl heddle_graph::plan::Known for Elsewhere {
    fn trace(&self, key: &Digest) -> Option<Trace> {
        trace(&self.0, key)
    }

    fn latest(&self, _: &str, _: &str) -> Option<Trace> {
        None
    }

    fn has(&self, digest: &Digest) -> bool {
        self.0.read(|remote| remote.has(digest)).unwrap_or(false)
    }

    fn is_here(&self, _: &Digest) -> bool {
        false
    }
}

fn link(address: &Address) -> Option<Link> {
    match Remote::open(address) {
        Ok(remote) => Some(Link { remote, reading: Rest::default(), writing: Rest::default() }),
        Err(error) => {
            tracing::warn!("the remote {address} is not used: {error}; going on with the local cache");
            None
        }
    }
}

fn trace(link: &Link, key: &Digest) -> Option<Trace> {
    let value = link.read(|remote| remote.value(TRACE, &[*key]))??;
    let trace: Trace = serde_json::from_slice(&value).ok()?;
    // The parts say what the key is; another heddle may have written what this one does not read.
    (trace.parts.digest() == *key).then_some(trace)
}

fn chunk(key: &[Digest], value: &[u8]) -> Option<RowChunk> {
    let key: Vec<u8> = key.iter().flat_map(|digest| *digest.as_bytes()).collect();
    RowChunk::from_entry(&key, value)
}
