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
    /// Where shards are that a node made.
    store: Option<Store>,
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
    /// A library that also finds shards among the artifacts of a cache.
    pub fn with_store(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Digests a file or folder, with the store's memo in between where there is one, and remembers where it lies.
    pub fn add(&mut self, path: &str, memo: Option<&Store>) -> Result<Digest, LibraryError> {
        if let Some(digest) = self.seen.get(path) {
            return Ok(*digest);
        }
        let failed = |reason: String| LibraryError::Read { path: path.to_owned(), reason };
        let stamp = stamp(path).map_err(failed)?;
        let digest = match memo.and_then(|store| store.file_digest(&stamp)) {
            Some(digest) => digest,
            None => {
                let shard = open_shard(path).map_err(failed)?;
                let digest = Digest::from_bytes(shard.digest);
                self.lock().insert(digest, Arc::new(shard));
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
        let shard = match self.made(digest, name) {
            Some(shard) => shard,
            None => {
                let path = self.path(digest, name)?;
                known_shard(path, digest)
                    .map_err(|reason| LibraryError::Read { path: path.to_owned(), reason })
                    .map(Arc::new)?
            }
        };
        if shard.digest != *digest.as_bytes() {
            return Err(LibraryError::Unknown { name: name.to_owned(), digest: *digest });
        }
        self.lock().insert(*digest, shard.clone());
        Ok(shard)
    }

    /// The shard whose listing or bytes have been read whole in this process: a folder of which only the place is
    /// known is listed now.
    pub fn whole_shard(&self, digest: &Digest, name: &str) -> Result<Arc<Shard>, LibraryError> {
        let shard = self.shard(digest, name)?;
        if !shard.is_unlisted_folder() {
            return Ok(shard);
        }
        let path = self.path(digest, name)?;
        let failed = |reason| LibraryError::Read { path: path.to_owned(), reason };
        let shard = Arc::new(open_shard(path).map_err(failed)?);
        if shard.digest != *digest.as_bytes() {
            return Err(LibraryError::Unknown { name: name.to_owned(), digest: *digest });
        }
        self.lock().insert(*digest, shard.clone());
        Ok(shard)
    }

    /// A shard among the artifacts, unless a file of the experiment has this content.
    fn made(&self, digest: &Digest, name: &str) -> Option<Arc<Shard>> {
        if self.paths.contains_key(digest) {
            return None;
        }
        let bytes = self.store.as_ref()?.artifact(digest).ok()??;
        Some(Arc::new(Shard::known_bytes(name, *digest.as_bytes(), Arc::new(bytes))))
    }

    /// All shards that the records of a manifest lie in.
    pub fn shards(&self, manifest: &Manifest) -> Result<Shards, LibraryError> {
        let mut shards = Shards::default();
        for info in &manifest.footer.shards {
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

fn open_shard(path: &str) -> Result<Shard, String> {
    embedded_shard(path).unwrap_or_else(|| Shard::open(Path::new(path)).map_err(|error| error.to_string()))
}

/// A file whose digest a stamp vouches for.
fn known_shard(path: &str, digest: &Digest) -> Result<Shard, String> {
    let open = || Shard::open_known(Path::new(path), *digest.as_bytes()).map_err(|error| error.to_string());
    embedded_shard(path).unwrap_or_else(open)
}

/// An embedded file as a shard; `None` for a path on disk.
fn embedded_shard(path: &str) -> Option<Result<Shard, String>> {
    Some(files::embedded_bytes(path)?.map(|(name, bytes)| Shard::from_bytes(name, Arc::new(bytes))))
}

/// What tells one state of a file from another without reading it: place, length, modification time, and on Unix also the time
/// of the last change of any kind, which no program can set; for embedded files the packed bytes themselves.
///
/// What remains: content that changes within one tick of the file system's clock, or, where there is no such time, content of
/// equal length that is given the modification time of before. Such a file counts as unchanged until it is touched.
fn stamp(path: &str) -> Result<Digest, String> {
    let mut writer = DigestWriter::new("heddle file stamp 2");
    if let Some(packed) = files::embedded_packed(path) {
        return Ok(writer.str(path).bytes(packed).finish());
    }
    let file = Path::new(path);
    let real = file.canonicalize().map_err(|error| error.to_string())?;
    let meta = real.metadata().map_err(|error| error.to_string())?;
    writer.bytes(real.as_os_str().as_encoded_bytes());
    if meta.is_dir() {
        // As `Folder` walks it, in an order of names.
        for entry in walkdir::WalkDir::new(&real).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) => {
                    writer.bytes(entry.path().as_os_str().as_encoded_bytes());
                    if let Ok(meta) = entry.metadata() {
                        state(&mut writer, &meta);
                    }
                }
                Err(error) => {
                    writer.str(&error.to_string());
                }
            }
        }
    } else {
        state(&mut writer, &meta);
    }
    Ok(writer.finish())
}

fn state(writer: &mut DigestWriter, meta: &std::fs::Metadata) {
    writer.u64(meta.len());
    // Times before 1970 count too.
    match meta.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => writer.str("after").u64(after.as_secs()).u64(after.subsec_nanos().into()),
        Ok(Err(before)) => {
            let before = before.duration();
            writer.str("before").u64(before.as_secs()).u64(before.subsec_nanos().into())
        }
        Err(_) => writer.str("no time"),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        writer.bytes(&meta.ctime().to_le_bytes()).bytes(&meta.ctime_nsec().to_le_bytes());
    }
}
