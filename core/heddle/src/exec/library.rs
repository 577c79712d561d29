//! Files by digest: a record names its shard by content, the library knows where such content lies today.
//!
//! Digests are of the content as nodes read it, so `x.tar`, `x.tar.gz` and the embedded copy of the same shard
//! are one file. No path ever enters a key or an artifact.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::UNIX_EPOCH,
};

use heddle_data::{Manifest, Shard, Shards};
use heddle_graph::digest::{Digest, DigestWriter};

use super::store::Store;
use crate::files;

/// Where the files of an experiment lie, by the digest of their content.
#[derive(Default)]
pub struct Library {
    paths: HashMap<Digest, String>,
    /// Many nodes name the same file; it is looked at once.
    seen: HashMap<String, Digest>,
    open: Mutex<HashMap<Digest, Arc<Shard>>>,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Reading failed.
    #[error("cannot read `{path}`: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A record names a shard that no file of this experiment has.
    #[error(
        "no file of this experiment has the content of shard `{name}` ({digest}); was it moved or changed?"
    )]
    Unknown {
        /// The shard's file name when it was scanned.
        name: String,
        /// Its digest.
        digest: Digest,
    },
}

impl Library {
    /// Digests a file, with the store's memo in between where there is one, and remembers where it lies.
    pub fn add(&mut self, path: &str, memo: Option<&Store>) -> Result<Digest, LibraryError> {
        if let Some(digest) = self.seen.get(path) {
            return Ok(*digest);
        }
        let failed = |reason: String| LibraryError::Read { path: path.to_owned(), reason };
        let stamp = stamp(path).map_err(failed)?;
        let digest = match memo.and_then(|store| store.file_digest(&stamp)) {
            Some(digest) => digest,
            None => {
                let digest = if is_archive(path) {
                    let shard = open_shard(path).map_err(failed)?;
                    let digest = Digest::from_bytes(shard.digest);
                    self.lock().insert(digest, Arc::new(shard));
                    digest
                } else {
                    Digest::of(&files::read(path).map_err(failed)?)
                };
                if let Some(store) = memo
                    && let Err(error) = store.set_file_digest(&stamp, &digest)
                {
                    tracing::warn!(path, %error, "the file's digest could not be remembered");
                }
                digest
            }
        };
        self.paths.insert(digest, path.to_owned());
        self.seen.insert(path.to_owned(), digest);
        Ok(digest)
    }

    /// The bytes of a plain file.
    pub fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, LibraryError> {
        let path = self.path(digest, "a file")?;
        let bytes =
            files::read(path).map_err(|reason| LibraryError::Read { path: path.to_owned(), reason })?;
        if Digest::of(&bytes) != *digest {
            return Err(LibraryError::Unknown { name: path.to_owned(), digest: *digest });
        }
        Ok(bytes)
    }

    /// The shard with this content.
    pub fn shard(&self, digest: &Digest, name: &str) -> Result<Arc<Shard>, LibraryError> {
        if let Some(shard) = self.lock().get(digest) {
            return Ok(shard.clone());
        }
        let path = self.path(digest, name)?;
        let shard = open_shard(path)
            .map_err(|reason| LibraryError::Read { path: path.to_owned(), reason })
            .map(Arc::new)?;
        if shard.digest != *digest.as_bytes() {
            return Err(LibraryError::Unknown { name: name.to_owned(), digest: *digest });
        }
        self.lock().insert(*digest, shard.clone());
        Ok(shard)
    }

    /// All shards that the records of a manifest lie in.
    pub fn shards(&self, manifest: &Manifest) -> Result<Shards, LibraryError> {
        let mut shards = Shards::default();
        for info in &manifest.shards {
            shards.insert((*self.shard(&Digest::from_bytes(info.digest), &info.name)?).clone());
        }
        Ok(shards)
    }

    fn path(&self, digest: &Digest, name: &str) -> Result<&str, LibraryError> {
        let unknown = || LibraryError::Unknown { name: name.to_owned(), digest: *digest };
        self.paths.get(digest).map(String::as_str).ok_or_else(unknown)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Shard>>> {
        // A panic elsewhere cannot leave the map half-written: inserting is the only change.
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn is_archive(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|suffix| path.ends_with(suffix))
}

fn open_shard(path: &str) -> Result<Shard, String> {
    match files::embedded_shard(path) {
        Some(name) => Shard::embedded(name),
        None => Shard::open(Path::new(path)),
    }
    .map_err(|error| error.to_string())
}

/// What tells one state of a file from another without reading it: place, length, modification time; for
/// embedded files the packed bytes themselves.
fn stamp(path: &str) -> Result<Digest, String> {
    let mut writer = DigestWriter::new("heddle file stamp 1");
    if let Some(packed) = files::embedded_packed(path) {
        return Ok(writer.str(path).bytes(packed).finish());
    }
    let file = Path::new(path);
    let real = file.canonicalize().map_err(|error| error.to_string())?;
    let meta = real.metadata().map_err(|error| error.to_string())?;
    let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    writer.bytes(real.as_os_str().as_encoded_bytes()).u64(meta.len());
    if let Some(modified) = modified {
        writer.u64(modified.as_secs()).u64(modified.subsec_nanos().into());
    }
    Ok(writer.finish())
}
