//! One process per folder: [`FolderLock`] on the file `lock`, and [`Holder`], who has it.
//!
//! The lock is the operating system's, so it ends with its process however that ends. `holder.json` beside it is
//! only read while the lock is taken; what a killed process left there is never believed.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::CacheError;

/// Who has the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id; 0 where it is not known.
    pub pid: u32,
    /// What that process does, in the user's words: `run quickstart.toml`.
    pub what: String,
    /// When it took the folder, in seconds since 1970.
    pub since_unix: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str(&self.what),
            pid => write!(f, "`{}` (process {pid})", self.what),
        }
    }
}

/// What to do while another process has the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Give up at once with [`CacheError::Held`].
    No,
    /// Block until the folder is free.
    Yes,
}

/// The folder is this process's while this lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    holder_path: PathBuf,
    file: File,
}

impl FolderLock {
    /// Takes `dir`, which must exist, for `holder`.
    pub(crate) fn acquire(dir: &Path, holder: &Holder, wait: Wait) -> Result<Self, CacheError> {
        let lock_path = dir.join("lock");
        let holder_path = dir.join("holder.json");
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&lock_path);
        let file = file.map_err(CacheError::io("create", &lock_path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => match wait {
                Wait::No => return Err(CacheError::Held(read_holder(&holder_path))),
                Wait::Yes => {
                    tracing::info!("waiting for the cache, which is in use by {}", read_holder(&holder_path));
                    file.lock().map_err(CacheError::io("lock", &lock_path))?;
                }
            },
            Err(TryLockError::Error(source)) => return Err(CacheError::io("lock", &lock_path)(source)),
        }
        match write_holder(dir, &holder_path, holder) {
            // The lock holds without it, and only who has the cache can make room there.
            Err(CacheError::Io { source, .. }) if is_full(&source) => {}
            written => written?,
        }
        Ok(Self { holder_path, file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A holder file that stays is harmless: it is not read while the lock is free.
        let _ = fs::remove_file(&self.holder_path);
        // Closing the file would do, but for a child process that is being started on another thread: until it runs
        // its own program it shares the open file, and with it the lock.
        let _ = self.file.unlock();
    }
}

/// The holder as it wrote itself down, or a stand-in in the moment between its lock and its file.
fn read_holder(path: &Path) -> Holder {
    let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.unwrap_or_else(|| Holder { pid: 0, what: "another process".to_owned(), since_unix: 0 })
}

/// Writes the holder under another name first, so that nobody reads half of it.
fn write_holder(dir: &Path, path: &Path, holder: &Holder) -> Result<(), CacheError> {
    let new = dir.join("holder.json.new");
    let bytes = serde_json::to_vec(holder).expect("numbers and text always serialise");
    fs::write(&new, bytes).map_err(|error| {
        // Half of it is of no use to anybody; what stays is written over.
        let _ = fs::remove_file(&new);
        CacheError::io("write", &new)(error)
    })?;
    fs::rename(&new, path).map_err(CacheError::io("write", path))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(what: &str) -> Holder {
        Holder { pid: 42, what: what.to_owned(), since_unix: 1_700_000_000 }
    }

    #[test]
    fn a_second_taker_hears_who_holds_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = FolderLock::acquire(dir.path(), &holder("run a.toml"), Wait::No).expect("free");
        let second = FolderLock::acquire(dir.path(), &holder("run b.toml"), Wait::No);
        let error = second.expect_err("held");
        assert!(matches!(&error, CacheError::Held(who) if *who == holder("run a.toml")));
        assert!(error.to_string().contains("`run a.toml` (process 42)"));
        drop(first);
        FolderLock::acquire(dir.path(), &holder("run b.toml"), Wait::No).expect("free again");
    }

    #[test]
    fn a_shared_handle_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = FolderLock::acquire(dir.path(), &holder("run a.toml"), Wait::No).expect("free");
        let shared = first.file.try_clone().expect("open");
        drop(first);
        FolderLock::acquire(dir.path(), &holder("run b.toml"), Wait::No).expect("released by the drop");
        drop(shared);
    }

    #[test]
    fn a_stale_holder_file_is_ignored() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("holder.json"), "{ not json").expect("writable");
        FolderLock::acquire(dir.path(), &holder("run"), Wait::No).expect("the lock itself is free");
    }
}
