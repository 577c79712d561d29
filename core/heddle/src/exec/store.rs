//! What the run keeps in the cache: artifacts by digest, traces by key, and the last trace of every node name.
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

use std::{collections::BTreeSet, path::Path};

use heddle_cache::{Cache, CacheError, Holder, Payload, Wait};
use heddle_graph::{
    digest::Digest,
    plan::{Known, Trace},
};
use serde::{Deserialize, Serialize};

use super::{
    context::{Output, Outputs},
    record::RunRecord,
};

const PIN: &str = "pin";
const ROW_USE: &str = "row-use";

/// The cache as runs use it.
#[derive(Clone)]
pub struct Store {
    cache: Cache,
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
    /// Opens the cache under `home`, or says who holds it.
    pub fn open(home: &Path, what: &str, wait: Wait) -> Result<Self, StoreError> {
        let holder = Holder { pid: std::process::id(), what: what.to_owned(), since_unix: crate::now_unix() };
        Ok(Self { cache: Cache::open(&home.join("cache"), &holder, wait)? })
    }

    /// The cache below.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// An artifact's bytes, checked.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Payload>, StoreError> {
        Ok(self.cache.get(digest)?)
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
        self.cache.set("trace", key.as_bytes(), &serde_json::to_vec(trace)?)?;
        self.remember(&trace.node, &trace.parts.kind, &key)
    }

    /// Notes that this is what the node of this name now stands for.
    pub fn remember(&self, node: &str, kind: &str, key: &Digest) -> Result<(), StoreError> {
        let name = latest_key(node, kind);
        if self.cache.value("latest", &name)?.as_deref() != Some(key.as_bytes().as_slice()) {
            self.cache.set("latest", &name, key.as_bytes())?;
        }
        Ok(())
    }

    /// A value of the file digest memo.
    pub fn file_digest(&self, stamp: &Digest) -> Option<Digest> {
        let value = self.cache.value("file-digest", stamp.as_bytes()).ok()??;
        Some(Digest::from_bytes(value.try_into().ok()?))
    }

    /// Remembers the digest of a file.
    pub fn set_file_digest(&self, stamp: &Digest, digest: &Digest) -> Result<(), StoreError> {
        Ok(self.cache.set("file-digest", stamp.as_bytes(), digest.as_bytes())?)
    }

    /// The value that a node kept of a part of its work (a chunk's verdicts), by what it depends on.
    pub fn part(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.cache.value("part", key.as_bytes())?)
    }

    /// Keeps values of parts of a node's work.
    pub fn keep_parts(&self, parts: &[(Digest, Vec<u8>)]) -> Result<(), StoreError> {
        let items: Vec<(&[u8], &[u8])> =
            parts.iter().map(|(key, value)| (key.as_bytes().as_slice(), value.as_slice())).collect();
        Ok(self.cache.set_many("part", &items)?)
    }

    /// Notes that a node read rows: per set, the digests of the keys of its chunks. What was noted before stays.
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
        Ok(())
    }

    /// The chunks of rows that a node read.
    pub fn rows_of(&self, key: &Digest) -> Result<BTreeSet<ChunkName>, StoreError> {
        let bytes = self.cache.value(ROW_USE, key.as_bytes())?.unwrap_or_default();
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

    fn read_trace(&self, key: &Digest) -> Option<Trace> {
        let bytes = match self.cache.value("trace", key.as_bytes()) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%key, %error, "a trace could not be read and counts as a miss");
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(trace) => Some(trace),
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

impl Known for Store {
    fn trace(&self, key: &Digest) -> Option<Trace> {
        // The parts say what the key is; a trace under another key is damage, and so a miss.
        self.read_trace(key).filter(|trace| trace.parts.digest() == *key)
    }

    fn latest(&self, node: &str, kind: &str) -> Option<Trace> {
        let key = self.cache.value("latest", &latest_key(node, kind)).ok()??;
        self.read_trace(&Digest::from_bytes(key.try_into().ok()?))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.cache.contains(digest).unwrap_or(false)
    }
}
