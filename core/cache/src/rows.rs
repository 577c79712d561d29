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
//!
//! A set may have chunks elsewhere too ([`RowsElsewhere`]). Their keys are brought here when the set is opened, their rows when the
//! first of them is read, and only then does the cache name them.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Arc, OnceLock},
};

use hashbrown::HashTable;
use heddle_graph::digest::Digest;

use crate::{Cache, KeyValue, error::CacheError, payload::Payload};

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
    /// Chunk and row of each key; later ones win, those here before those elsewhere.
    places: HashTable<(u32, u32)>,
    elsewhere: Option<Arc<dyn RowsElsewhere>>,
}

/// Rows that were stored together.
#[derive(Debug)]
struct Chunk {
    keys: Payload,
    chunk: RowChunk,
    is_here: bool,
    /// Read, and checked, when it is first needed; none if it is damaged.
    rows: OnceLock<Option<Payload>>,
}

/// Another place that has chunks of rows.
pub trait RowsElsewhere: fmt::Debug + Send + Sync {
    /// The chunks of a set, as far as they can be had.
    fn chunks(&self, set: &Digest) -> Vec<RowChunk>;

    /// A payload of a chunk, checked; `None` if it cannot be had. It may be in the cache from then on.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not take it.
    fn payload(&self, digest: &Digest) -> Result<Option<Payload>, CacheError>;
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
        Self::read(cache.entries(SPACE))
    }

    /// Those of one set.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn of_set(cache: &Cache, set: &Digest) -> Result<Vec<Self>, CacheError> {
        Self::read(cache.entries_under(SPACE, set.as_bytes()))
    }

    /// The chunk of a set with these keys; its payloads may be gone.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn find(cache: &Cache, set: &Digest, keys: &Digest) -> Result<Option<Self>, CacheError> {
        let place = [set.as_bytes().as_slice(), keys.as_bytes()].concat();
        let value = cache.value(SPACE, &place)?;
        Ok(value.and_then(|value| Self::from_entry(&place, &value)))
    }

    fn read(entries: impl Iterator<Item = Result<KeyValue, CacheError>>) -> Result<Vec<Self>, CacheError> {
        let chunk = |entry: Result<KeyValue, CacheError>| match entry {
            Ok((key, value)) => Self::from_entry(&key, &value).map(Ok),
            Err(error) => Some(Err(error)),
        };
        entries.filter_map(chunk).collect()
    }

    /// A chunk out of its key and value; none if they are not of one.
    pub fn from_entry(key: &[u8], value: &[u8]) -> Option<Self> {
        let set = Digest::from_bytes(*key.first_chunk::<KEY_BYTES>()?);
        let (keys, rest) = value.split_first_chunk::<KEY_BYTES>()?;
        let (rows, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
        let (row_bytes, rest) = rest.split_first_chunk()?;
        let seconds = match rest {
            [] => 0.0,
            rest => f64::from_le_bytes(rest.try_into().ok()?),
        };
        let [keys, rows] = [keys, rows].map(|digest| Digest::from_bytes(*digest));
        let seconds = Some(seconds).filter(|seconds| *seconds >= 0.0).unwrap_or(0.0);
        let chunk = Self { set, keys, rows, row_bytes: u64::from_le_bytes(*row_bytes), seconds };
        (chunk.place() == *key).then_some(chunk)
    }

    /// Names chunks whose payloads are stored; durable when it returns.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not write.
    pub fn name(cache: &Cache, chunks: &[Self]) -> Result<(), CacheError> {
        Self::name_soon(cache, chunks)?;
        cache.sync()
    }

    /// The same, durable with the next sync.
    fn name_soon(cache: &Cache, chunks: &[Self]) -> Result<(), CacheError> {
        let places: Vec<Vec<u8>> = chunks.iter().map(Self::place).collect();
        let values: Vec<Vec<u8>> = chunks.iter().map(Self::value).collect();
        let items: Vec<(&[u8], &[u8])> =
            places.iter().zip(&values).map(|(place, value)| (place.as_slice(), value.as_slice())).collect();
        cache.set_soon(SPACE, &items)
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

    /// Whether payloads of these lengths are its keys and rows.
    pub fn fits(&self, keys: u64, rows: u64) -> bool {
        keys.is_multiple_of(KEY_BYTES as u64) && Self::count(keys).checked_mul(self.row_bytes) == Some(rows)
    }

    fn place(&self) -> Vec<u8> {
        [self.set.as_bytes().as_slice(), self.keys.as_bytes()].concat()
    }

    /// What the space `rows` has under its set and keys.
    pub fn value(&self) -> Vec<u8> {
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
        Self::open_over(cache, None, set, row_bytes)
    }

    /// The same with chunks that lie elsewhere, for keys that have no row here.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn open_over(
        cache: &Cache,
        elsewhere: Option<Arc<dyn RowsElsewhere>>,
        set: Digest,
        row_bytes: usize,
    ) -> Result<Self, CacheError> {
        let (chunks, places) = (Vec::new(), HashTable::new());
        let mut opened = Self { cache: cache.clone(), set, row_bytes, chunks, places, elsewhere };
        opened.refresh()?;
        let here: HashSet<Digest> = opened.chunks.iter().map(|chunk| chunk.chunk.keys).collect();
        if let Some(elsewhere) = opened.elsewhere.clone() {
            for chunk in elsewhere.chunks(&set) {
                let is_new =
                    chunk.set == set && chunk.row_bytes == row_bytes as u64 && !here.contains(&chunk.keys);
                if is_new && let Some(keys) = elsewhere.payload(&chunk.keys)? {
                    opened.add(chunk, keys, false);
                }
            }
        }
        Ok(opened)
    }

    /// Finds the chunks that were stored since the set was opened.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not read.
    pub fn refresh(&mut self) -> Result<(), CacheError> {
        let known: HashSet<Digest> =
            self.chunks.iter().filter(|chunk| chunk.is_here).map(|chunk| chunk.chunk.keys).collect();
        let of_this =
            |chunk: &RowChunk| chunk.row_bytes == self.row_bytes as u64 && !known.contains(&chunk.keys);
        let new: Vec<RowChunk> =
            RowChunk::of_set(&self.cache, &self.set)?.into_iter().filter(of_this).collect();
        for chunk in new {
            match self.cache.get(&chunk.keys)? {
                Some(keys) => self.add(chunk, keys, true),
                None => RowChunk::forget(&self.cache, &[chunk])?,
            }
        }
        Ok(())
    }

    /// The set.
    pub fn set(&self) -> Digest {
        self.set
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
        let Some(rows) = self.rows(&self.chunks[chunk as usize])? else { return Ok(None) };
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
        (self.set, chunks.into_iter().map(|chunk| self.chunks[chunk as usize].chunk.keys).collect())
    }

    /// Stores rows, which lie one after the other, under their keys; durable after [`RowSet::sync`]: before that a crash may lose
    /// them, and never gives wrong ones. `seconds` is what they took to compute.
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
        let (set, row_bytes) = (self.set, self.row_bytes as u64);
        let chunk = RowChunk { set, keys: stored[0], rows: stored[1], row_bytes, seconds };
        RowChunk::name_soon(&self.cache, &[chunk])?;
        if let Some(keys) = self.cache.get(&chunk.keys)? {
            self.add(chunk, keys, true);
        }
        Ok(())
    }

    /// Makes durable what was inserted.
    ///
    /// # Errors
    /// [`CacheError`] where the cache does not write.
    pub fn sync(&self) -> Result<(), CacheError> {
        self.cache.sync()
    }

    /// Makes the keys of a chunk known.
    fn add(&mut self, chunk: RowChunk, keys: Payload, is_here: bool) {
        let number = self.chunks.len() as u32;
        let count = (keys.len() / KEY_BYTES) as u32;
        self.chunks.push(Chunk { keys, chunk, is_here, rows: OnceLock::new() });
        let chunks = &self.chunks;
        self.places.reserve(count as usize, |place| hash(key_at(chunks, *place)));
        for row in 0..count {
            let key = key_at(chunks, (number, row));
            let same = |place: &(u32, u32)| key_at(chunks, *place) == key;
            match self.places.find_mut(hash(key), same) {
                Some(place) if is_here => *place = (number, row),
                Some(_) => {}
                None => {
                    self.places.insert_unique(hash(key), (number, row), |place| hash(key_at(chunks, *place)));
                }
            }
        }
    }

    fn place(&self, key: &Digest) -> Option<(u32, u32)> {
        let key = key.as_bytes().as_slice();
        self.places.find(hash(key), |place| key_at(&self.chunks, *place) == key).copied()
    }

    fn rows(&self, chunk: &Chunk) -> Result<Option<Payload>, CacheError> {
        if !self.cache.checks_every_read()
            && let Some(rows) = chunk.rows.get()
        {
            return Ok(rows.clone());
        }
        let rows = match &self.elsewhere {
            Some(elsewhere) if !chunk.is_here => elsewhere.payload(&chunk.chunk.rows)?,
            _ => self.cache.get(&chunk.chunk.rows)?,
        };
        let rows = rows.filter(|rows| chunk.chunk.fits(chunk.keys.len() as u64, rows.len() as u64));
        match (&rows, chunk.is_here) {
            (None, true) => RowChunk::forget(&self.cache, &[chunk.chunk])?,
            (Some(_), false) if chunk.rows.get().is_none() => self.adopt(&chunk.chunk)?,
            _ => {}
        }
        let _ = chunk.rows.set(rows.clone());
        Ok(rows)
    }

    /// Names a chunk that was brought here.
    fn adopt(&self, chunk: &RowChunk) -> Result<(), CacheError> {
        let is_here = self.cache.contains(&chunk.keys)? && self.cache.contains(&chunk.rows)?;
        if is_here { RowChunk::name(&self.cache, &[*chunk]) } else { Ok(()) }
    }
}

fn key_at(chunks: &[Chunk], (chunk, row): (u32, u32)) -> &[u8] {
    &chunks[chunk as usize].keys[row as usize * KEY_BYTES..(row as usize + 1) * KEY_BYTES]
}

/// Keys are digests: any of their bytes are as good as a hash.
fn hash(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
