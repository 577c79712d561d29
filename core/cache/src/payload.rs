//! [`Payload`]: the bytes of one entry, read in place from the memory map of its pack.

use std::{fmt, ops::Deref, ops::Range, sync::Arc};

use memmap2::Mmap;

/// Stored bytes, without a copy; starts at a multiple of 64 bytes in memory, so that it can be cast to a slice
/// of `f32`.
///
/// It keeps its map alive, so it outlives the cache and even [`Cache::clear`](crate::Cache::clear).
#[derive(Clone)]
pub struct Payload {
    map: Arc<Mmap>,
    /// Lies within the map: checked where a payload is made.
    at: Range<usize>,
}

impl Payload {
    /// The bytes `at` of a pack; `None` if the map ends before them.
    pub(crate) fn new(map: Arc<Mmap>, at: Range<usize>) -> Option<Self> {
        map.get(at.clone()).is_some().then_some(Self { map, at })
    }

    /// A part of it; `None` if it ends before that.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        Some(Self { map: self.map.clone(), at: self.at.start + range.start..self.at.start + range.end })
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.at.clone()]
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}
