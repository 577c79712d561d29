//! What the run keeps in the cache: artifacts by digest, traces by key, and the last trace of every node name.
//!
//! ```text
//! reading:  cache ──▶ below, the home's cache if it is only read ──▶ tier, the remote
//! writing:  cache ──▶ tier, in the background
//! ```
//!
//! | space | key | value |
//! |---|---|---|
//! | `trace` | artifact key | [`Trace`] as JSON: the key's parts, output digests, seconds |
//! | `latest` | `kind/node name` | the artifact key of the last run of that node |
//! | `part` | what a part of a node's work depends on | its result: verdicts of a chunk |
//! | `row-use` | artifact key | the chunks of frozen rows that the node read: set and digest of keys, 64 bytes each |
//! | `checkpoint` | artifact key | where a stopped stage goes on, as JSON that names payloads by digest |
//! | `pin` | run id | [`Pin`] as JSON: what stays in the cache for that run |
//! | `file-digest` | digest of (path, length, times of modification and change) | digest of the file's content |

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use heddle_cache::{Cache, CacheError, Holder, Payload, RowChunk, RowSet, RowsElsewhere, Wait};
use heddle_graph::{
    digest::Digest,
    plan::{Known, Trace},
};
use heddle_remote::{Address, Traffic, Turns};
use serde::{Deserialize, Serialize};

use super::{
    context::{Output, Outputs},
    modes::Access,
    record::RunRecord,
    scratch::Scratch,
    tier::Tier,
};

const PIN: &str = "pin";
const ROW_USE: &str = "row-use";

/// The cache as runs use it.
#[derive(Clone)]
pub struct Store {
    /// Where everything is written.
    cache: Cache,
    /// The cache of the home folder, if it is only read.
    below: Option<Cache>,
    tier: Option<Arc<Tier>>,
    /// Where `cache` lies if the home's is only read. Last, since it goes when nobody uses it.
    scratch: Option<Arc<Scratch>>,
    /// Whose turn it is to fill a set of rows.
    filling: Arc<Turns>,
}

/// How the caches are used.
#[derive(Debug, Clone, Default)]
pub struct CacheUse {
    /// The local cache is only read.
    pub local_is_read_only: bool,
    /// The remote, and what may be done with it.
    pub remote: Option<(Address, Access)>,
    /// Payloads are hashed at every read.
    pub paranoid: bool,
}

/// What a run used: its traces and artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The experiment file as it was named.
    pub file: String,
    /// Artifact keys of its nodes.
    pub keys: BTreeSet<Digest>,
    /// Its artifacts, also those of nodes that left no trace.
    pub artifacts: BTreeSet<Digest>,
}

impl Pin {
    /// Of a run.
    pub fn of(record: &RunRecord) -> Self {
        let outputs = record.nodes.iter().flat_map(|node| node.outputs.values());
        Self {
            file: record.file.clone(),
            keys: record.nodes.iter().filter_map(|node| node.key).collect(),
            artifacts: outputs.map(|output| output.digest).collect(),
        }
    }
}

/// A chunk of frozen rows: its set and the digest of its keys.
pub type ChunkName = (Digest, Digest);

/// The cache failed, or holds something that is not what was written there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache itself.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A trace or a pin could not be written or read as JSON.
    #[error("a value of the cache as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Store {
    /// Opens the cache under `home` alone, or says who holds it.
    pub fn open(home: &Path, what: &str, wait: Wait) -> Result<Self, StoreError> {
        Self::open_with(home, what, wait, &CacheUse::default())
    }

    /// Opens the cache under `home`, and what is used beside it. A remote that cannot be opened is a warning.
    ///
    /// # Errors
    /// If a cache on this machine is held by another process, or does not open.
    pub fn open_with(home: &Path, what: &str, wait: Wait, used: &CacheUse) -> Result<Self, StoreError> {
        let holder = Holder { pid: std::process::id(), what: what.to_owned(), since_unix: crate::now_unix() };
        let folder = home.join("cache");
        let (cache, below, scratch) = if used.local_is_read_only {
            let below = folder.is_dir().then(|| Cache::open(&folder, &holder, wait)).transpose()?;
            let (cache, scratch) = Scratch::make(home, &holder, wait)?;
            (cache, below, Some(Arc::new(scratch)))
        } else {
            (Cache::open(&folder, &holder, wait)?, None, None)
        };
        if used.paranoid {
            [Some(&cache), below.as_ref()].into_iter().flatten().for_each(Cache::check_every_read);
        }
        let tier = used.remote.as_ref();
        let tier = tier.and_then(|(address, access)| Tier::open(address, *access, &cache, below.as_ref()));
        Ok(Self { cache, below, tier: tier.map(Arc::new), scratch, filling: Arc::default() })
    }

    /// The cache that is written.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Whether what is written stays when the command ends.
    pub fn is_lasting(&self) -> bool {
        self.scratch.is_none()
    }

    /// An artifact's bytes, checked; out of the remote if they are nowhere else.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Payload>, StoreError> {
        Ok(self.bring(digest)?)
    }

    /// An artifact's bytes, checked, if they are on this machine.
    pub fn here(&self, digest: &Digest) -> Result<Option<Payload>, CacheError> {
        self.local(|cache| cache.get(digest))
    }

    /// The length of an artifact on this machine; does not look at its bytes.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.local(|cache| cache.size(digest)).ok().flatten()
    }

    fn bring(&self, digest: &Digest) -> Result<Option<Payload>, CacheError> {
        match (self.here(digest)?, &self.tier) {
            (None, Some(tier)) => tier.bring(digest, &self.cache),
            (found, _) => Ok(found),
        }
    }

    /// What the first of the caches on this machine has.
    fn local<T>(
        &self,
        ask: impl Fn(&Cache) -> Result<Option<T>, CacheError>,
    ) -> Result<Option<T>, CacheError> {
        match (ask(&self.cache)?, &self.below) {
            (None, Some(below)) => ask(below),
            (found, _) => Ok(found),
        }
    }

    /// A small value on this machine.
    pub fn value(&self, space: &str, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        self.local(|cache| cache.value(space, key))
    }

    /// Rows of this machine and of the remote; see [`RowSet`].
    pub fn rows(&self, set: Digest, row_bytes: usize) -> Result<RowSet, CacheError> {
        let has_more = self.below.is_some() || self.tier.is_some();
        let elsewhere = has_more.then(|| Arc::new(Lower(self.clone())) as Arc<dyn RowsElsewhere>);
        RowSet::open_over(&self.cache, elsewhere, set, row_bytes)
    }

    /// Does `work` while no other node of this process fills this set of rows: variants side by side need the same ones.
    pub fn alone_with<T>(&self, set: &Digest, work: impl FnOnce() -> T) -> T {
        self.filling.take(set, work)
    }

    /// The trace under a key if all its artifacts are on this machine and whole: damage is a miss.
    pub fn hit_here(&self, key: &Digest) -> Option<Trace> {
        let trace = self.read_trace(key)?;
        let whole = |digest: &Digest| matches!(self.here(digest), Ok(Some(_)));
        trace.outputs.values().all(whole).then_some(trace)
    }

    /// Whether there is a remote that may have what is not here.
    pub fn has_remote(&self) -> bool {
        self.tier.is_some()
    }

    /// The trace under a key once all its artifacts have been brought here from the remote.
    ///
    /// # Errors
    /// If the local cache does not take them.
    pub fn hit_remote(&self, key: &Digest) -> Result<Option<Trace>, StoreError> {
        let Some(tier) = &self.tier else { return Ok(None) };
        // Artifacts that are gone here may be there; else another machine's run of the node counts.
        for trace in self.read_trace(key).into_iter().chain(tier.trace(key)) {
            if self.bring_all(trace.outputs.values())? {
                self.set_trace(key, &trace)?;
                return Ok(Some(trace));
            }
        }
        Ok(None)
    }

    fn bring_all<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<bool, CacheError> {
        for digest in digests {
            if self.bring(digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Publishes a trace that was found here and the rows that its node read, in the background, unless the remote has them.
    pub fn publish(&self, trace: &Trace) {
        let Some(tier) = &self.tier else { return };
        tier.publish_trace(trace);
        let key = trace.parts.digest();
        if let Err(error) = self.rows_of(&key).and_then(|chunks| self.publish_rows(&chunks)) {
            tracing::warn!(%key, %error, "the rows that a node read could not be found, and are not published");
        }
    }

    fn publish_rows(&self, chunks: &BTreeSet<ChunkName>) -> Result<(), StoreError> {
        let Some(tier) = &self.tier else { return Ok(()) };
        for (set, keys) in chunks {
            let chunk = self.local(|cache| RowChunk::find(cache, set, keys))?;
            chunk.into_iter().for_each(|chunk| tier.publish_chunk(chunk));
        }
        Ok(())
    }

    /// Waits until all that was to be published is, or `is_stopped`.
    pub fn finish_publishing(&self, is_stopped: &dyn Fn() -> bool) {
        if let Some(tier) = &self.tier {
            tier.finish(is_stopped);
        }
    }

    /// Ends what waits for the remote: the run was interrupted. From here on it counts as having nothing.
    pub fn stop_remote(&self) {
        if let Some(tier) = &self.tier {
            tier.stop();
        }
    }

    /// The remote, and what went between it and here; `None` without one.
    pub fn traffic(&self) -> Option<(String, Traffic)> {
        self.tier.as_ref().map(|tier| (tier.address(), tier.traffic()))
    }

    /// Keeps the outputs of a node and then, if it is to be remembered, its trace: nothing names bytes that are not
    /// on disk.
    pub fn keep(&self, mut trace: Trace, outputs: &Outputs, remember: bool) -> Result<Trace, StoreError> {
        let mut bytes = Vec::new();
        let mut ports = Vec::new();
        for (port, output) in outputs {
            match output {
                Output::Bytes(content) => {
                    bytes.push(content.as_slice());
                    ports.push(port.clone());
                }
                Output::Kept(digest) => {
                    trace.outputs.insert(port.clone(), *digest);
                }
            }
        }
        trace.outputs.extend(ports.into_iter().zip(self.cache.put_many(&bytes)?));
        if remember {
            self.record(&trace)?;
        }
        Ok(trace)
    }

    /// Keeps a trace whose outputs are there already.
    pub fn record(&self, trace: &Trace) -> Result<(), StoreError> {
        let key = trace.parts.digest();
        self.set_trace(&key, trace)?;
        self.remember(&trace.node, &trace.parts.kind, &key)?;
        // Its rows were published when they were noted.
        if let Some(tier) = &self.tier {
            tier.publish_trace(trace);
        }
        Ok(())
    }

    fn set_trace(&self, key: &Digest, trace: &Trace) -> Result<(), StoreError> {
        Ok(self.cache.set("trace", key.as_bytes(), &serde_json::to_vec(trace)?)?)
    }

    /// Notes that this is what the node of this name now stands for.
    pub fn remember(&self, node: &str, kind: &str, key: &Digest) -> Result<(), StoreError> {
        let name = latest_key(node, kind);
        if self.value("latest", &name)?.as_deref() != Some(key.as_bytes().as_slice()) {
            self.cache.set("latest", &name, key.as_bytes())?;
        }
        Ok(())
    }

    /// A value of the file digest memo.
    pub fn file_digest(&self, stamp: &Digest) -> Option<Digest> {
        let value = self.value("file-digest", stamp.as_bytes()).ok()??;
        Some(Digest::from_bytes(value.try_into().ok()?))
    }

    /// Remembers the digest of a file.
    pub fn set_file_digest(&self, stamp: &Digest, digest: &Digest) -> Result<(), StoreError> {
        Ok(self.cache.set("file-digest", stamp.as_bytes(), digest.as_bytes())?)
    }

    /// The value that a node kept of a part of its work (a chunk's verdicts), by what it depends on.
    pub fn part(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.value("part", key.as_bytes())?)
    }

    /// Keeps values of parts of a node's work.
    pub fn keep_parts(&self, parts: &[(Digest, Vec<u8>)]) -> Result<(), StoreError> {
        let items: Vec<(&[u8], &[u8])> =
            parts.iter().map(|(key, value)| (key.as_bytes().as_slice(), value.as_slice())).collect();
        Ok(self.cache.set_many("part", &items)?)
    }

    /// Notes that a node read rows: per set, the digests of the keys of its chunks. What was noted before stays. Chunks that are here are
    /// published.
    pub fn note_rows(
        &self,
        key: &Digest,
        chunks: impl IntoIterator<Item = (Digest, Vec<Digest>)>,
    ) -> Result<(), StoreError> {
        let old = self.rows_of(key)?;
        let named =
            chunks.into_iter().flat_map(|(set, chunks)| chunks.into_iter().map(move |chunk| (set, chunk)));
        let all: BTreeSet<ChunkName> = old.iter().copied().chain(named).collect();
        if all != old {
            let bytes: Vec<u8> =
                all.iter().flat_map(|(set, keys)| [set, keys]).flat_map(|d| *d.as_bytes()).collect();
            self.cache.set(ROW_USE, key.as_bytes(), &bytes)?;
        }
        self.publish_rows(&all)
    }

    /// The chunks of rows that a node read.
    pub fn rows_of(&self, key: &Digest) -> Result<BTreeSet<ChunkName>, StoreError> {
        let bytes = self.value(ROW_USE, key.as_bytes())?.unwrap_or_default();
        let (digests, _) = bytes.as_chunks::<32>();
        let name = |[set, keys]: &[[u8; 32]; 2]| (Digest::from_bytes(*set), Digest::from_bytes(*keys));
        Ok(digests.as_chunks::<2>().0.iter().map(name).collect())
    }

    /// The pinned runs by id, with what stays for them.
    pub fn pins(&self) -> Result<Vec<(String, Pin)>, StoreError> {
        let mut pins = Vec::new();
        for entry in self.cache.entries(PIN) {
            let (id, value) = entry?;
            pins.push((String::from_utf8_lossy(&id).into_owned(), serde_json::from_slice(&value)?));
        }
        Ok(pins)
    }

    /// Keeps what a run used until it is unpinned.
    pub fn pin(&self, id: &str, pin: &Pin) -> Result<(), StoreError> {
        Ok(self.cache.set(PIN, id.as_bytes(), &serde_json::to_vec(pin)?)?)
    }

    /// Lets go of a run.
    pub fn unpin(&self, id: &str) -> Result<(), StoreError> {
        Ok(self.cache.remove(PIN, id.as_bytes())?)
    }

    /// The trace under a key on this machine.
    fn read_trace(&self, key: &Digest) -> Option<Trace> {
        let bytes = match self.value("trace", key.as_bytes()) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%key, %error, "a trace could not be read and counts as a miss");
                return None;
            }
        };
        match serde_json::from_slice::<Trace>(&bytes) {
            // The parts say what the key is; a trace under another key is damage, and so a miss.
            Ok(trace) => Some(trace).filter(|trace| trace.parts.digest() == *key),
            Err(error) => {
                tracing::warn!(%key, %error, "a trace does not parse and counts as a miss");
                None
            }
        }
    }
}

fn latest_key(node: &str, kind: &str) -> Vec<u8> {
    format!("{kind}/{node}").into_bytes()
}

/// What lies below the cache that is written: rows of the home's cache, if that is only read, and of the remote.
struct Lower(Store);

impl fmt::Debug for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lower")
    }
}

impl RowsElsewhere for Lower {
    fn chunks(&self, set: &Digest) -> Vec<RowChunk> {
        let Self(Store { below, tier, .. }) = self;
        // A cache that does not read has no rows: they are computed.
        let near = below.as_ref().and_then(|below| RowChunk::of_set(below, set).ok()).unwrap_or_default();
        let far = tier.as_ref().map(|tier| tier.chunks(set)).unwrap_or_default();
        near.into_iter().chain(far).collect()
    }

    fn payload(&self, digest: &Digest) -> Result<Option<Payload>, CacheError> {
        self.0.bring(digest)
    }
}

impl Known for Store {
    fn trace(&self, key: &Digest) -> Option<Trace> {
        self.read_trace(key).or_else(|| self.tier.as_ref()?.trace(key))
    }

    fn latest(&self, node: &str, kind: &str) -> Option<Trace> {
        let key = self.value("latest", &latest_key(node, kind)).ok()??;
        self.read_trace(&Digest::from_bytes(key.try_into().ok()?))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.is_here(digest) || self.tier.as_ref().is_some_and(|tier| tier.has(digest))
    }

    fn is_here(&self, digest: &Digest) -> bool {
        let caches = [Some(&self.cache), self.below.as_ref()];
        caches.into_iter().flatten().any(|cache| cache.contains(digest).unwrap_or(false))
    }
}
