//! [`RowSet`]: rows of one length under keys, such as what a frozen tower gives for each record.
//!
//! Rows come in chunks. A chunk is two payloads, the keys (32 bytes each) and the rows, in the same order, and a value in the space
//! `rows` that names them:
//!
//! ```text
//! set (32) keys (32) -> keys (32) rows (32) bytes of a row (8) seconds that they took to compute (8, an f64)
//! ```
//!
//! Values of earlier builds end before the seconds, which count as 0.
//!
//! The keys of all chunks are read when a set is opened, and an entry of 8 bytes a row finds them. A chunk's rows are checked when
//! the first of them is read; a chunk that is damaged is dropped, and its rows are not there.

use std::{
    collections::{BTreeSet, HashSet},
    sync::OnceLock,
};

use hashbrown::HashTable;
use heddle_graph::digest::Digest;

use crate::{Cache, error::CacheError, payload::Payload};

const SPACE: &str = "rows";
const KEY_BYTES: usize = 32;

/// Rows of one length under keys.
///
/// ```
/// # use heddle_cache::{Cache, Digest, Holder, RowSet, Wait};
/// # let dir = tempfile::tempdir()?;
/// # let holder = Holder { pid: 1, what: "run a.toml".into(), since_unix: 0 };
/// # let cache = Cache::open(dir.path(), &holder, Wait::No)?;
/// let mut tokens = RowSet::open(&cache, Digest::of(b"tokens of a tower"), 4)?;
/// let [cat, dog] = [Digest::of(b"cat.png"), Digest::of(b"dog.png")];
/// tokens.insert(&[cat, dog], b"1234abcd", 0.25)?;
/// assert_eq!(tokens.get(&dog)?.as_deref(), Some(b"abcd".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RowSet {
    cache: Cache,
    set: Digest,
    row_bytes: usize,
    chunks: Vec<Chunk>,
    /// Chunk and row of each key; later ones win.
    places: HashTable<(u32, u32)>,
}

/// Rows that were stored together.
#[derive(Debug)]
struct Chunk {
    keys: Payload,
    digests: ChunkDigests,
    /// Read, and checked, when it is first needed; none if it is damaged.
    rows: OnceLock<Option<Payload>>,
}

#[derive(Debug, Clone, Copy)]
struct ChunkDigests {
    keys: Digest,
    rows: Digest,
}

/// A chunk of rows, of whatever set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowChunk {
    /// The set that it is of.
    pub set: Digest,
    /// The payload with the keys.
    pub keys: Digest,
    /// The payload with the rows.
    pub rows: Digest,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Seconds that the rows took to compute; 0 where that is not known.
    pub seconds: f64,
}

impl RowChunk {
    /// Every chunk that the cache names, of all sets; their payloads may be gone.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn all(cache: &Cache) -> Result<Vec<Self>, CacheError> {
        let mut chunks = Vec::new();
        for entry in cache.entries(SPACE) {
            let (key, value) = entry?;
            let set = key.first_chunk::<KEY_BYTES>().map(|set| Digest::from_bytes(*set));
            let chunk = set.zip(decode(&value)).map(|(set, (digests, row_bytes, seconds))| {
                let ChunkDigests { keys, rows } = digests;
                Self { set, keys, rows, row_bytes, seconds }
            });
            chunks.extend(chunk.filter(|chunk| chunk.place() == *key));
        }
        Ok(chunks)
    }

    /// Names chunks whose payloads are stored; durable when it returns.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not write.
    pub fn name(cache: &Cache, chunks: &[Self]) -> Result<(), CacheError> {
        let places: Vec<Vec<u8>> = chunks.iter().map(Self::place).collect();
        let values: Vec<Vec<u8>> = chunks.iter().map(Self::value).collect();
        let items: Vec<(&[u8], &[u8])> =
            places.iter().zip(&values).map(|(place, value)| (place.as_slice(), value.as_slice())).collect();
        cache.set_many(SPACE, &items)
    }

    /// Forgets chunks, all or none; their payloads stay until they are dropped ([`Cache::retain`]).
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not write.
    pub fn forget(cache: &Cache, chunks: &[Self]) -> Result<(), CacheError> {
        let places: Vec<Vec<u8>> = chunks.iter().map(Self::place).collect();
        cache.remove_many(SPACE, &places.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// How many rows `bytes` of keys are.
    pub fn count(bytes: u64) -> u64 {
        bytes / KEY_BYTES as u64
    }

    fn place(&self) -> Vec<u8> {
        [self.set.as_bytes().as_slice(), self.keys.as_bytes()].concat()
    }

    fn value(&self) -> Vec<u8> {
        let (row_bytes, seconds) = (self.row_bytes.to_le_bytes(), self.seconds.to_le_bytes());
        [self.keys.as_bytes().as_slice(), self.rows.as_bytes(), &row_bytes, &seconds].concat()
    }
}

impl RowSet {
    /// Opens the set of a name, in which each row has `row_bytes` bytes. Chunks with rows of another length are not of this set.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn open(cache: &Cache, set: Digest, row_bytes: usize) -> Result<Self, CacheError> {
        let (chunks, places) = (Vec::new(), HashTable::new());
        let mut opened = Self { cache: cache.clone(), set, row_bytes, chunks, places };
        for entry in cache.entries_under(SPACE, set.as_bytes()) {
            let (key, value) = entry?;
            let Some((digests, bytes, _)) = decode(&value) else { continue };
            if bytes != row_bytes as u64 {
                continue;
            }
            match cache.get(&digests.keys)? {
                Some(keys) => opened.add(digests, keys),
                None => cache.remove(SPACE, &key)?,
            }
        }
        Ok(opened)
    }

    /// How many keys have a row.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a key has a row; does not look at its bytes.
    pub fn contains(&self, key: &Digest) -> bool {
        self.place(key).is_some()
    }

    /// The row of a key, read in place; `None` if there is none or it is damaged.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn get(&self, key: &Digest) -> Result<Option<Payload>, CacheError> {
        let Some((chunk, row)) = self.place(key) else { return Ok(None) };
        let Some(rows) = self.rows(chunk)? else { return Ok(None) };
        Ok(rows.part(row as usize * self.row_bytes..(row as usize + 1) * self.row_bytes))
    }

    /// Of these keys, those without a row that is right, each once, in order.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn missing(&self, keys: impl IntoIterator<Item = Digest>) -> Result<Vec<Digest>, CacheError> {
        let (mut seen, mut missing) = (HashSet::new(), Vec::new());
        for key in keys {
            if seen.insert(key) && self.get(&key)?.is_none() {
                missing.push(key);
            }
        }
        Ok(missing)
    }

    /// The set and, of each chunk that has a row of these keys, the digest of its keys.
    pub fn chunks_of(&self, keys: impl IntoIterator<Item = Digest>) -> (Digest, Vec<Digest>) {
        let chunks: BTreeSet<u32> = keys.into_iter().filter_map(|key| Some(self.place(&key)?.0)).collect();
        (self.set, chunks.into_iter().map(|chunk| self.chunks[chunk as usize].digests.keys).collect())
    }

    /// Stores rows, which lie one after the other, under their keys; durable when it returns. `seconds` is what they took to compute.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not write.
    ///
    /// # Panics
    /// If there are not `row_bytes` bytes for each key.
    pub fn insert(&mut self, keys: &[Digest], rows: &[u8], seconds: f64) -> Result<(), CacheError> {
        assert_eq!(rows.len(), keys.len() * self.row_bytes, "every key has a row");
        if keys.is_empty() {
            return Ok(());
        }
        let all: Vec<u8> = keys.iter().flat_map(|key| *key.as_bytes()).collect();
        let stored = self.cache.put_many(&[&all, rows])?;
        let digests = ChunkDigests { keys: stored[0], rows: stored[1] };
        let ChunkDigests { keys, rows } = digests;
        let chunk = RowChunk { set: self.set, keys, rows, row_bytes: self.row_bytes as u64, seconds };
        RowChunk::name(&self.cache, &[chunk])?;
        if let Some(keys) = self.cache.get(&digests.keys)? {
            self.add(digests, keys);
        }
        Ok(())
    }

    /// Makes the keys of a chunk known.
    fn add(&mut self, digests: ChunkDigests, keys: Payload) {
        let chunk = self.chunks.len() as u32;
        let count = (keys.len() / KEY_BYTES) as u32;
        self.chunks.push(Chunk { keys, digests, rows: OnceLock::new() });
        let chunks = &self.chunks;
        self.places.reserve(count as usize, |place| hash(key_at(chunks, *place)));
        for row in 0..count {
            let key = key_at(chunks, (chunk, row));
            let same = |place: &(u32, u32)| key_at(chunks, *place) == key;
            match self.places.find_mut(hash(key), same) {
                Some(place) => *place = (chunk, row),
                None => {
                    self.places.insert_unique(hash(key), (chunk, row), |place| hash(key_at(chunks, *place)));
                }
            }
        }
    }

    fn place(&self, key: &Digest) -> Option<(u32, u32)> {
        let key = key.as_bytes().as_slice();
        self.places.find(hash(key), |place| key_at(&self.chunks, *place) == key).copied()
    }

    fn rows(&self, chunk: u32) -> Result<Option<&Payload>, CacheError> {
        let chunk = &self.chunks[chunk as usize];
        if let Some(rows) = chunk.rows.get() {
            return Ok(rows.as_ref());
        }
        let rows = self.cache.get(&chunk.digests.rows)?;
        let whole = chunk.keys.len() / KEY_BYTES * self.row_bytes;
        let rows = rows.filter(|rows| rows.len() == whole);
        if rows.is_none() {
            self.cache.remove(SPACE, &self.key(&chunk.digests))?;
        }
        Ok(chunk.rows.get_or_init(|| rows).as_ref())
    }

    fn key(&self, digests: &ChunkDigests) -> Vec<u8> {
        [self.set.as_bytes().as_slice(), digests.keys.as_bytes()].concat()
    }
}

fn key_at(chunks: &[Chunk], (chunk, row): (u32, u32)) -> &[u8] {
    &chunks[chunk as usize].keys[row as usize * KEY_BYTES..(row as usize + 1) * KEY_BYTES]
}

/// Keys are digests: any of their bytes are as good as a hash.
fn hash(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

fn decode(value: &[u8]) -> Option<(ChunkDigests, u64, f64)> {
    let (keys, rest) = value.split_first_chunk::<KEY_BYTES>()?;
    let (rows, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
    let (bytes, rest) = rest.split_first_chunk()?;
    let seconds = match rest {
        [] => 0.0,
        rest => f64::from_le_bytes(rest.try_into().ok()?),
    };
    let digests = ChunkDigests { keys: Digest::from_bytes(*keys), rows: Digest::from_bytes(*rows) };
    Some((
        digests,
        u64::from_le_bytes(*bytes),
        Some(seconds).filter(|seconds| *seconds >= 0.0).unwrap_or(0.0),
    ))
}
