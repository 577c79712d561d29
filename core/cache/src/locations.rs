//! Where payloads lie: the part of the index that maps digests to [`Location`]s.
//!
//! One tree, `payloads`, so that an entry and the mark that says how far its pack is indexed change together:
//!
//! ```text
//! "p" digest (32)          -> pack (4) offset (8) length (8) crc (4)
//! "e" pack (4, big-endian) -> end of the indexed part (8) crc (4)
//! ```
//!
//! The CRC-32 covers key and value, so an entry that is damaged or belongs to another key counts as absent.

use std::collections::BTreeMap;

use heddle_graph::digest::Digest;

use crate::{
    error::CacheError,
    format::Location,
    index::Index,
    sealed::{open_value, seal_value},
};

const TREE: &str = "payloads";
const READ: &str = "read payload locations in";
const WRITE: &str = "write payload locations to";

/// Where the payload with this digest lies.
pub(crate) fn find(index: &Index, digest: &Digest) -> Result<Option<Location>, CacheError> {
    let key = payload_key(digest);
    let value = index.ask(READ, |db| db.open_tree(TREE)?.get(&key))?.flatten();
    let Some(value) = value else { return Ok(None) };
    let location = open_value(&key, &value).and_then(Location::decode);
    if location.is_none() {
        tracing::warn!("the cache index has a damaged entry for {digest}; dropping it");
        index.ask(WRITE, |db| db.open_tree(TREE)?.compare_and_swap(&key, Some(value), None::<&[u8]>))?;
    }
    Ok(location)
}

/// Names entries that are on disk, and moves the marks of their packs; all or nothing.
pub(crate) fn record(index: &Index, entries: &[(Digest, Location)]) -> Result<(), CacheError> {
    let mut batch = sled::Batch::default();
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for (digest, location) in entries {
        let key = payload_key(digest);
        let value = seal_value(&key, &location.encode());
        batch.insert(key, value);
        let end = ends.entry(location.pack).or_default();
        *end = location.end().max(*end);
    }
    for (pack, end) in ends {
        let key = end_key(pack);
        let value = seal_value(&key, &end.to_le_bytes());
        batch.insert(key, value);
    }
    index.change(WRITE, |db| db.open_tree(TREE)?.apply_batch(batch))
}

/// Forgets where a payload lies, unless it has been stored anew meanwhile.
pub(crate) fn forget(index: &Index, digest: &Digest, location: &Location) -> Result<(), CacheError> {
    let key = payload_key(digest);
    let old = seal_value(&key, &location.encode());
    index.ask(WRITE, |db| db.open_tree(TREE)?.compare_and_swap(&key, Some(old), None::<&[u8]>)).map(drop)
}

/// Forgets payloads, all or none. For who holds off all writers.
pub(crate) fn forget_all(index: &Index, entries: &[(Digest, Location)]) -> Result<(), CacheError> {
    let mut batch = sled::Batch::default();
    entries.iter().for_each(|(digest, _)| batch.remove(payload_key(digest)));
    index.change(WRITE, |db| db.open_tree(TREE)?.apply_batch(batch))
}

/// How far each pack is indexed.
pub(crate) fn ends(index: &Index) -> Result<BTreeMap<u32, u64>, CacheError> {
    let rows = scan(index, b"e")?;
    Ok(rows.iter().filter_map(|(key, value)| read_end(key, value)).collect())
}

/// Says that `pack` is indexed up to `end`, or that there is no such pack.
pub(crate) fn set_end(index: &Index, pack: u32, end: Option<u64>) -> Result<(), CacheError> {
    let key = end_key(pack);
    index.change(WRITE, |db| {
        let tree = db.open_tree(TREE)?;
        match end {
            Some(end) => tree.insert(&key, seal_value(&key, &end.to_le_bytes())),
            None => tree.remove(&key),
        }
    })?;
    Ok(())
}

/// Every payload and where it lies, in the order of digests.
pub(crate) fn all(index: &Index) -> Result<Vec<(Digest, Location)>, CacheError> {
    let rows = scan(index, b"p")?;
    Ok(rows.iter().filter_map(|(key, value)| read_payload(key, value)).collect())
}

/// Forgets everything.
pub(crate) fn clear(index: &Index) -> Result<(), CacheError> {
    index.change(WRITE, |db| db.open_tree(TREE)?.clear())
}

fn scan(index: &Index, prefix: &[u8]) -> Result<Vec<(sled::IVec, sled::IVec)>, CacheError> {
    let rows =
        index.ask(READ, |db| db.open_tree(TREE)?.scan_prefix(prefix).collect::<sled::Result<Vec<_>>>())?;
    Ok(rows.unwrap_or_default())
}

fn read_payload(key: &[u8], value: &[u8]) -> Option<(Digest, Location)> {
    let digest: [u8; 32] = key.strip_prefix(b"p")?.try_into().ok()?;
    Some((Digest::from_bytes(digest), Location::decode(open_value(key, value)?)?))
}

fn read_end(key: &[u8], value: &[u8]) -> Option<(u32, u64)> {
    let pack = u32::from_be_bytes(key.strip_prefix(b"e")?.try_into().ok()?);
    Some((pack, u64::from_le_bytes(open_value(key, value)?.try_into().ok()?)))
}

fn payload_key(digest: &Digest) -> Vec<u8> {
    [b"p", digest.as_bytes().as_slice()].concat()
}

fn end_key(pack: u32) -> Vec<u8> {
    [b"e", pack.to_be_bytes().as_slice()].concat()
}
