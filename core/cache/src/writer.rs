//! [`PayloadWriter`]: stores a payload that is written bit by bit.
//!
//! The digest is only known at the end, and entries of several writers must not mix, so the bytes wait outside the
//! packs: in memory as long as they are few, then in a file under `tmp/`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

use heddle_graph::digest::Digest;

use crate::{Cache, append::Source, error::CacheError};

/// Payloads up to this length never touch `tmp/`.
const MEMORY_BYTES: usize = 1 << 20;

/// Takes the bytes of one payload through [`io::Write`]; [`finish`](Self::finish) stores it. Dropping the writer
/// instead stores nothing.
#[derive(Debug)]
pub struct PayloadWriter {
    cache: Cache,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    spill: Option<Spill>,
}

/// A file under `tmp/`, removed with its writer.
#[derive(Debug)]
struct Spill {
    path: PathBuf,
    file: File,
    len: u64,
}

impl PayloadWriter {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache, hasher: blake3::Hasher::new(), buffer: Vec::new(), spill: None }
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }

    /// What its [`Write`] has said, as the store says it.
    pub fn error(&self, said: io::Error) -> CacheError {
        let folder = self.cache.next_tmp_path();
        said.downcast::<CacheError>().unwrap_or_else(CacheError::io("write", &folder))
    }

    /// Stores what was written; durable when it returns, like [`Cache::put`].
    pub fn finish(mut self) -> Result<Digest, CacheError> {
        let digest = self.digest();
        if self.cache.get(&digest)?.is_some() {
            return Ok(digest);
        }
        match &mut self.spill {
            None => self.cache.store(vec![(digest, Source::Bytes(&self.buffer))])?,
            Some(spill) => {
                spill.write(&self.buffer)?;
                self.cache.store(vec![(digest, Source::File(&mut spill.file, spill.len))])?;
            }
        }
        Ok(digest)
    }

    /// Moves the buffer to the file.
    fn spill(&mut self) -> Result<(), CacheError> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(self.cache.next_tmp_path())?),
        };
        spill.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for PayloadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= MEMORY_BYTES {
            self.spill()?;
        }
        let taken = &bytes[..bytes.len().min(MEMORY_BYTES)];
        self.buffer.extend_from_slice(taken);
        self.hasher.update(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spill {
    fn create(path: PathBuf) -> Result<Self, CacheError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(CacheError::io("create", &path))?;
        Ok(Self { path, file, len: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.file.write_all(bytes).map_err(CacheError::io("write", &self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // What stays is removed at the next open.
        let _ = fs::remove_file(&self.path);
    }
}
