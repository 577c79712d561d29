//! Small values by namespace: one sled tree per space, each value with a checksum over its key and itself.
//!
//! A value whose checksum does not fit is dropped with a warning and counts as absent.

use std::collections::BTreeMap;

use crate::{
    error::CacheError,
    index::Index,
    sealed::{open_value, seal_value},
};

/// A key of a space, and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

const PREFIX: &str = "space:";
const READ: &str = "read values in";
const WRITE: &str = "write values to";

/// Stores values under their keys; durable once the index is flushed.
pub(crate) fn set(index: &Index, space: &str, items: &[(&[u8], &[u8])]) -> Result<(), CacheError> {
    let mut batch = sled::Batch::default();
    for (key, value) in items {
        batch.insert(*key, seal_value(key, value));
    }
    index.change(WRITE, |db| db.open_tree(tree(space))?.apply_batch(batch))
}

/// The value under `key`.
pub(crate) fn get(index: &Index, space: &str, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
    let stored = index.ask(READ, |db| db.open_tree(tree(space))?.get(key))?.flatten();
    stored.map_or(Ok(None), |stored| checked(index, space, key, &stored))
}

/// Removes the values under these keys, where there are any; all or none.
pub(crate) fn remove(index: &Index, space: &str, keys: &[&[u8]]) -> Result<(), CacheError> {
    let mut batch = sled::Batch::default();
    keys.iter().for_each(|key| batch.remove(*key));
    index.change(WRITE, |db| db.open_tree(tree(space))?.apply_batch(batch))
}

/// The first key behind `after` (or the very first) and its value.
pub(crate) fn next(index: &Index, space: &str, after: Option<&[u8]>) -> Result<Option<KeyValue>, CacheError> {
    let mut after = after.map(<[u8]>::to_vec);
    loop {
        let row = index.ask(READ, |db| match &after {
            Some(key) => db.open_tree(tree(space))?.get_gt(key),
            None => db.open_tree(tree(space))?.first(),
        })?;
        let Some((key, stored)) = row.flatten() else { return Ok(None) };
        if let Some(value) = checked(index, space, &key, &stored)? {
            return Ok(Some((key.to_vec(), value)));
        }
        after = Some(key.to_vec());
    }
}

/// How many values each space has, of those that have any: sled makes a tree when it is first looked into.
pub(crate) fn counts(index: &Index) -> Result<BTreeMap<String, u64>, CacheError> {
    let counted = index.ask(READ, |db| {
        let spaces = db.tree_names().into_iter().filter_map(|name| Some((space(&name)?, name)));
        spaces.map(|(space, name)| Ok((space, db.open_tree(name)?.len() as u64))).collect()
    })?;
    let mut counts: BTreeMap<String, u64> = counted.unwrap_or_default();
    counts.retain(|_, count| *count > 0);
    Ok(counts)
}

/// Removes all values of all spaces.
pub(crate) fn clear(index: &Index) -> Result<(), CacheError> {
    index.change(WRITE, |db| {
        let mut names = db.tree_names().into_iter().filter(|name| space(name).is_some());
        names.try_for_each(|name| db.drop_tree(name).map(drop))
    })
}

/// The value in stored bytes; if they are damaged, drops them from the index.
fn checked(index: &Index, space: &str, key: &[u8], stored: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
    let value = open_value(key, stored);
    if value.is_none() {
        tracing::warn!("the cache index has a damaged value in `{space}`; dropping it");
        let none = None::<&[u8]>;
        index.ask(WRITE, |db| db.open_tree(tree(space))?.compare_and_swap(key, Some(stored), none))?;
    }
    Ok(value.map(<[u8]>::to_vec))
}

fn tree(space: &str) -> String {
    format!("{PREFIX}{space}")
}

fn space(tree: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(tree).ok()?.strip_prefix(PREFIX)?.to_owned())
}
