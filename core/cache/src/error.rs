//! [`CacheError`]: what stops the store, said so that a user can act on it.
//!
//! Damage is not here: damaged bytes are a miss with a warning, never an error.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::lock::Holder;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process has the folder and [`Wait::No`](crate::Wait::No) was asked.
    #[error("the cache is in use by {0}; wait for it to end, or use another cache folder")]
    Held(Holder),
    /// The operating system refused.
    #[error("failed to {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb phrase that the path completes.
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The index turned out to be damaged while in use: reads miss, writes stop here.
    #[error("the cache index {} is damaged; start again, and it is rebuilt from the pack files", .0.display())]
    IndexDamaged(PathBuf),
    /// An earlier sync failed, so the system may have thrown away bytes that it had accepted.
    #[error("{} could not be synced to disk earlier; check the disk, then start again", .0.display())]
    SyncFailed(PathBuf),
}

impl CacheError {
    /// For `map_err`: names what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<CacheError> for io::Error {
    /// For writers, whose errors are the system's: the kind stays, and the text says all.
    fn from(error: CacheError) -> Self {
        let kind = match &error {
            CacheError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// What the user can do about an error of the system, as the end of a message.
fn advice(source: &io::Error) -> &'static str {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match source.kind() {
        StorageFull | QuotaExceeded => {
            "; free space there (`heddle cache gc` removes what nothing uses), or name another folder with `--home`; nothing that was \
             finished is lost"
        }
        FileTooLarge => {
            "; files may not grow that large there: raise the limit (`ulimit -f`), or name another folder with `--home`; nothing that \
             was finished is lost"
        }
        PermissionDenied | ReadOnlyFilesystem => "; make it writable, or name another folder with `--home`",
        NotADirectory => "; a part of the path is a file: name another folder with `--home`",
        _ => "",
    }
}
