//! What a node sees while it runs, and what it gives back.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use heddle_cache::{CacheError, Payload, PayloadWriter};
use heddle_data::ManifestError;
use heddle_graph::{
    digest::Digest,
    plan::{Facts, FileKey},
};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::{event::Progress, library::Library, record::RowCount, store::Store};
use crate::device::{Compute, DeviceError};

/// One input artifact, as an edge brings it.
#[derive(Clone)]
pub struct Artifact {
    /// The label within the port (`weights = { vit = ... }`).
    pub label: Option<String>,
    /// The part that is used (`"stage1/vit"`).
    pub part: Option<String>,
    /// The node that made it, for messages and reports.
    pub from: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Payload,
}

/// The artifacts that the node at a place takes, out of the cache: `digests` in the order of its inputs.
///
/// # Errors
/// A sentence, if the cache does not read or has lost one.
pub fn inputs_of(
    store: &Store,
    facts: &[Facts],
    place: usize,
    digests: &[Digest],
) -> Result<IndexMap<String, Vec<Artifact>>, String> {
    let mut inputs: IndexMap<String, Vec<Artifact>> = IndexMap::new();
    for (input, digest) in facts[place].inputs.iter().zip(digests) {
        let from = &facts[input.from].name;
        let bytes = store.artifact(digest).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| {
            format!(
                "the artifact of `{from}` is damaged in the cache and was dropped; run again to make it anew"
            )
        })?;
        inputs.entry(input.port.clone()).or_default().push(Artifact {
            label: input.label.clone(),
            part: input.part.clone(),
            from: from.clone(),
            digest: *digest,
            bytes,
        });
    }
    Ok(inputs)
}

/// What a node gives on a port.
pub enum Output {
    /// Bytes that are about to be kept.
    Bytes(Vec<u8>),
    /// Bytes that the node wrote itself, through [`RunContext::writer`].
    Kept(Digest),
}

impl From<Vec<u8>> for Output {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// What a node gives, by output port.
pub type Outputs = BTreeMap<String, Output>;

/// Bytes on one output port.
pub fn output(port: impl Into<String>, bytes: Vec<u8>) -> Outputs {
    Outputs::from([(port.into(), bytes.into())])
}

/// The world of a running node: its inputs, nothing else.
pub struct RunContext<'a> {
    /// The node's name, for messages.
    pub node: &'a str,
    /// The seed of the experiment.
    pub seed: u64,
    /// The key of its artifacts.
    pub key: Digest,
    /// Whether nothing of an earlier run that was stopped may be used.
    pub fresh: bool,
    /// The artifacts on each port.
    pub inputs: IndexMap<String, Vec<Artifact>>,
    /// The files that each field names, in order.
    pub files: &'a BTreeMap<String, Vec<FileKey>>,
    /// Where tensors live.
    pub compute: Compute,
    /// Opens files by digest.
    pub library: &'a Library,
    /// The cache: large outputs are written to it bit by bit, parts of results are kept in it.
    pub store: &'a Store,
    /// Progress goes here.
    pub progress: Progress,
    /// Checked at step boundaries.
    pub cancel: CancellationToken,
    /// See [`RunContext::do_not_remember`].
    pub passing: &'a AtomicBool,
    /// See [`RunContext::count_rows`].
    pub rows: &'a Mutex<BTreeMap<String, RowCount>>,
}

impl RunContext<'_> {
    /// The results of this run are used and not remembered: another run may end otherwise (a deadline passed).
    pub fn do_not_remember(&self) {
        self.passing.store(true, Ordering::Relaxed);
    }

    /// Says how many records' values of an output were in the cache, and how many were computed: for the record of the run, and
    /// for the user.
    pub fn count_rows(&self, output: &str, count: RowCount) {
        let RowCount { hit, new } = count;
        if hit + new > 0 {
            self.progress.note(format!("{output}: {hit} records from the cache, {new} computed"));
        }
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(output.to_owned(), count);
    }

    /// The artifact on a port that takes exactly one.
    pub fn input(&self, port: &str) -> Result<&Artifact, NodeError> {
        self.optional(port).ok_or_else(|| NodeError::Other(format!("nothing arrived at port `{port}`")))
    }

    /// The artifact on a port that takes at most one.
    pub fn optional(&self, port: &str) -> Option<&Artifact> {
        self.inputs.get(port).and_then(|artifacts| artifacts.first())
    }

    /// The files that a field names.
    pub fn files(&self, field: &str) -> &[FileKey] {
        self.files.get(field).map_or(&[], Vec::as_slice)
    }

    /// The one file that a field names.
    pub fn file(&self, field: &str) -> Result<Vec<u8>, NodeError> {
        let file = self.files(field).first();
        let file = file.ok_or_else(|| NodeError::Other(format!("the node names no file under `{field}`")))?;
        Ok(self.library.bytes(&file.digest)?)
    }

    /// Takes an output that is larger than memory; its digest goes into [`Output::Kept`].
    pub fn writer(&self) -> Result<PayloadWriter, NodeError> {
        Ok(self.store.cache().writer()?)
    }

    /// All artifacts on a port.
    pub fn all(&self, port: &str) -> &[Artifact] {
        self.inputs.get(port).map_or(&[], Vec::as_slice)
    }

    /// Fails if the run is being stopped.
    pub fn check_cancelled(&self) -> Result<(), NodeError> {
        if self.cancel.is_cancelled() { Err(NodeError::Cancelled) } else { Ok(()) }
    }
}

/// Why a node did not finish.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The run is being stopped; not a failure.
    #[error("stopped")]
    Cancelled,
    /// Tensors.
    #[error(transparent)]
    Tensor(#[from] heddle_tensor::TensorError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Records, images, text.
    #[error(transparent)]
    Data(Box<dyn std::error::Error + Send + Sync>),
    /// A file that the node reads.
    #[error(transparent)]
    Library(#[from] super::library::LibraryError),
    /// Bytes of an artifact could not be written.
    #[error("cannot write an artifact: {0}")]
    Write(#[from] std::io::Error),
    /// An artifact that does not read as what its port promises.
    #[error("the artifact of `{from}` does not read as {expected}: {reason}")]
    Artifact {
        /// The node that made it.
        from: String,
        /// What its port promises.
        expected: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// Anything that is a sentence.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// An error of the data crate, which has a type per module.
    pub fn data(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Data(Box::new(error))
    }
}
