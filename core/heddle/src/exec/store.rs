//! What the run keeps in the cache: artifacts by digest, traces by key, and the last trace of every node name.
//!
//! | space | key | value |
//! |---|---|---|
//! | `trace` | artifact key | [`Trace`] as JSON: the key's parts, output digests, seconds |
//! | `latest` | `kind/node name` | the artifact key of the last run of that node |
//! | `part` | what a part of a node's work depends on | its result: verdicts of a chunk |
//! | `file-digest` | digest of (path, length, modification time) | digest of the file's content |

use std::path::Path;

use heddle_cache::{Cache, CacheError, Holder, Payload, Wait};
use heddle_graph::{
    digest::Digest,
    plan::{Known, Trace},
};

use super::context::{Output, Outputs};

/// The cache as runs use it.
#[derive(Clone)]
pub struct Store {
    cache: Cache,
}

/// The cache failed, or holds something that is not what was written there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache itself.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A trace could not be written as JSON.
    #[error("writing a trace: {0}")]
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
    fn record(&self, trace: &Trace) -> Result<(), StoreError> {
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
