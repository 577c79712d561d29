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
    sync::{Arc, Mutex, PoisonError},
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
    link: Arc<Link>,
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
        let is_wanted = !matches!(error, RemoteError::Interrupted);
        if is_wanted && rest.begin() {
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
        let link = Arc::new(link(address)?);
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
    /// does not answer; that the cache does not take it is an error.
    pub(super) fn bring(&self, digest: &Digest, cache: &Cache) -> Result<Option<Payload>, CacheError> {
        self.turns.take(digest, || {
            if let Some(payload) = cache.get(digest)? {
                return Ok(Some(payload));
            }
            let mut writer = cache.writer()?;
            // That the local disk is full says nothing about the remote.
            let mut unwritten = Ok(());
            let fetched = self.link.read(|remote| match remote.fetch(digest, &mut writer) {
                Err(RemoteError::Write(error)) => {
                    unwritten = Err(writer.error(error));
                    Ok(Fetched::Absent)
                }
                answer => answer,
            });
            unwritten?;
            match fetched {
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

    /// Nobody waits for the remote any more.
    pub(super) fn stop(&self) {
        self.link.remote.stop();
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, sync::Barrier, thread};

    use heddle_cache::Wait;
    use heddle_graph::plan::{KeyParts, Known};

    use super::*;
    use crate::exec::{CacheUse, Store};

    fn open(home: &Path, shared: &Path) -> Store {
        let address = format!("file://{}", shared.display()).parse().expect("a folder");
        let used = CacheUse { remote: Some((address, Access::ReadWrite)), ..CacheUse::default() };
        Store::open_with(home, "test", Wait::No, &used).expect("free and writable")
    }

    fn traffic(store: &Store) -> Traffic {
        store.traffic().expect("it has a remote").1
    }

    /// A node that gave these bytes.
    fn ran(store: &Store, bytes: &[u8]) -> Trace {
        let parts = KeyParts {
            kind: "test".into(),
            version: 1,
            config: serde_json::Value::Null,
            model: None,
            seed: None,
            numerics: None,
            files: BTreeMap::new(),
            inputs: BTreeMap::new(),
        };
        let outputs = BTreeMap::from([("out".to_owned(), bytes.to_vec().into())]);
        let trace =
            Trace { node: "n".into(), parts, outputs: BTreeMap::new(), seconds: 1.0, finished_unix: 0 };
        let trace = store.keep(trace, &outputs, true).expect("kept");
        store.finish_publishing(&|| false);
        trace
    }

    #[test]
    fn many_nodes_ask_and_one_fetches() {
        let [first, second, shared] = [0; 3].map(|_| tempfile::tempdir().expect("a temporary folder"));
        let trace = ran(&open(first.path(), shared.path()), &[7; 100_000]);
        let digest = trace.outputs["out"];
        let store = open(second.path(), shared.path());
        assert!(store.has(&digest) && !store.is_here(&digest));
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let found = store.artifact(&digest).expect("readable").expect("there");
                    assert_eq!(*found, [7; 100_000]);
                });
            }
        });
        assert_eq!(traffic(&store), Traffic { fetched: 100_000, published: 0 });
    }

    /// Two machines whose bits differ: the first trace is everybody's, the other machine keeps its own.
    #[test]
    fn the_first_trace_stays_while_its_artifacts_are_there() {
        let [first, second, shared] = [0; 3].map(|_| tempfile::tempdir().expect("a temporary folder"));
        let (a, b) = (open(first.path(), shared.path()), open(second.path(), shared.path()));
        let (of_a, of_b) = (ran(&a, b"bits of a"), ran(&b, b"bits of b"));
        let key = of_a.parts.digest();
        assert_eq!((b.hit_here(&key), traffic(&b).published), (Some(of_b.clone()), 0));
        let third = tempfile::tempdir().expect("a temporary folder");
        let c = open(third.path(), shared.path());
        assert_eq!(c.hit_remote(&key).expect("kept"), Some(of_a.clone()));
        // Once they are gone, the next one's count.
        let digest = of_a.outputs["out"].to_string();
        let object = shared.path().join("v1/objects").join(&digest[..2]).join(&digest);
        std::fs::remove_file(object).expect("it is there");
        drop(b);
        let b = open(second.path(), shared.path());
        b.publish(&of_b);
        b.finish_publishing(&|| false);
        let fourth = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(open(fourth.path(), shared.path()).hit_remote(&key).expect("kept"), Some(of_b));
    }

    #[test]
    fn a_rest_is_announced_once() {
        let rest = Rest::default();
        assert!(rest.is_over() && rest.begin());
        assert!(!rest.is_over() && !rest.begin());
    }
}
