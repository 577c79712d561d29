//! [`Scratch`]: a cache that lasts as long as a command, for one that only reads the home's.

use std::path::Path;

use heddle_cache::{Cache, CacheError, Holder, Wait};

/// A cache that is emptied when it is dropped, while it is still locked: the next command may wait for it.
#[derive(Debug)]
pub(super) struct Scratch(Cache);

impl Scratch {
    /// Makes an empty cache under `home`. What a command that was killed has left there goes first.
    pub(super) fn make(home: &Path, holder: &Holder, wait: Wait) -> Result<(Cache, Self), CacheError> {
        let folder = home.join("scratch");
        let cache = Cache::open(&folder, holder, wait)?;
        cache.clear()?;
        Ok((cache.clone(), Self(cache)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.0.clear() {
            tracing::warn!("what this command made could not be removed: {error}");
        }
    }
}
