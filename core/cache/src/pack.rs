//! [`Packs`]: the pack files of a cache, as readers see them.
//!
//! Takes a [`Location`], gives a [`Payload`]. Knows which part of each file may be read; does not know digests,
//! so it does not know whether bytes are right.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use memmap2::{Mmap, MmapOptions};

use crate::{error::CacheError, format::Location, payload::Payload};

/// The packs of one folder, each with the length up to which it may be read.
#[derive(Debug)]
pub(crate) struct Packs {
    dir: PathBuf,
    readable: RwLock<BTreeMap<u32, Readable>>,
}

/// What readers may touch of one pack.
#[derive(Debug, Default)]
struct Readable {
    /// Everything before this is on disk and will not change.
    end: u64,
    /// Covers the file up to the `end` of when it was made; payloads keep older maps alive.
    map: Option<Arc<Mmap>>,
}

impl Packs {
    /// No packs yet; they are made known by [`publish`](Self::publish).
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, readable: RwLock::default() }
    }

    /// The folder of the packs.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of pack number `pack`.
    pub(crate) fn path(&self, pack: u32) -> PathBuf {
        self.dir.join(format!("{pack:06}.pack"))
    }

    /// The numbers of the packs in the folder, in order.
    pub(crate) fn list(&self) -> Result<Vec<u32>, CacheError> {
        let entries = fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(CacheError::io("list", &self.dir))?;
        let names = entries.iter().map(|entry| entry.file_name());
        let number = |name: &str| name.strip_suffix(".pack")?.parse().ok();
        let mut numbers: Vec<u32> = names.filter_map(|name| number(name.to_str()?)).collect();
        numbers.sort_unstable();
        // `7.pack` is not a name that we give: it would be opened as `000007.pack`.
        numbers.retain(|&pack| self.path(pack).is_file());
        numbers.dedup();
        Ok(numbers)
    }

    /// Lets readers see `pack` up to `end`; call once those bytes are on disk.
    pub(crate) fn publish(&self, pack: u32, end: u64) {
        let mut readable = self.readable.write().unwrap_or_else(PoisonError::into_inner);
        let state = readable.entry(pack).or_default();
        state.end = state.end.max(end);
    }

    /// Forgets all packs; payloads that are still held stay as they are.
    pub(crate) fn forget(&self) {
        self.readable.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets one pack; payloads of it that are still held stay as they are.
    pub(crate) fn forget_pack(&self, pack: u32) {
        self.readable.write().unwrap_or_else(PoisonError::into_inner).remove(&pack);
    }

    /// Whether the pack is there and long enough to hold `location`.
    pub(crate) fn covers(&self, location: &Location) -> bool {
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        readable.get(&location.pack).is_some_and(|state| location.end() <= state.end)
    }

    /// The bytes at `location`; `None` if the pack is missing or ends before them.
    pub(crate) fn read(&self, location: &Location) -> Result<Option<Payload>, CacheError> {
        if !self.covers(location) {
            return Ok(None);
        }
        let Some(map) = self.map(location)? else { return Ok(None) };
        let range = usize::try_from(location.offset).ok().zip(usize::try_from(location.len).ok());
        Ok(range.and_then(|(offset, len)| Payload::new(map, offset..offset + len)))
    }

    /// A map that covers `location`: the one at hand, or a new one if the pack has grown since.
    fn map(&self, location: &Location) -> Result<Option<Arc<Mmap>>, CacheError> {
        let enough = |state: &Readable| state.map.clone().filter(|map| map.len() as u64 >= location.end());
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = readable.get(&location.pack).and_then(enough) {
            return Ok(Some(map));
        }
        drop(readable);
        let mut readable = self.readable.write().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = readable.get_mut(&location.pack) else { return Ok(None) };
        if let Some(map) = enough(state) {
            return Ok(Some(map));
        }
        state.map = map_file(&self.path(location.pack), state.end)?.map(Arc::new);
        Ok(state.map.clone())
    }
}

/// Maps the first `len` bytes of a file; `None` if it is missing or shorter than that.
pub(crate) fn map_file(path: &Path, len: u64) -> Result<Option<Mmap>, CacheError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CacheError::io("open", path)(error)),
    };
    let there = file.metadata().map_err(CacheError::io("read the size of", path))?.len();
    let Some(len) = usize::try_from(len).ok().filter(|_| len <= there) else { return Ok(None) };
    // SAFETY: the caller asks for bytes that are already written, and nothing in this program changes them or
    // shortens the file below them: packs only grow, are cut only at open, before any map is made, and are removed
    // by unlinking. Other heddle processes are kept out by the folder's lock. A foreign program that cuts or
    // rewrites a pack meanwhile can break this; it is the one assumption that every reader by mmap makes.
    let map = unsafe { MmapOptions::new().len(len).map(&file) };
    map.map(Some).map_err(CacheError::io("map", path))
}
