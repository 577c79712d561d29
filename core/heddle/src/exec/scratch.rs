//! [`Scratch`]: a cache that lasts as long as a command, for one that only reads the home's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use heddle_cache::{Cache, CacheError, Holder, Wait};

/// The folder of a cache that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Makes an empty cache under `home`. What a command that was killed has left there goes first.
    pub(super) fn make(home: &Path, holder: &Holder, wait: Wait) -> Result<(Cache, Self), CacheError> {
        let folder = home.join("scratch");
        let cache = Cache::open(&folder, holder, wait)?;
        cache.clear()?;
        Ok((cache, Self { folder }))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!("{} could not be removed: {error}", self.folder.display());
        }
    }
}
