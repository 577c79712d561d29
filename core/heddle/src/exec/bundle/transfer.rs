//! Out of a cache into a file, and from a file into a cache.
//!
//! An import reads the file twice. First everything is checked: the manifest against itself, every payload against its digest and its
//! place in the list. Then payloads are stored, checked once more, and at last the values that name them. So a file that is damaged or
//! made up leaves nothing behind. What digests cannot tell is whether a trace is true: that these bytes are what the node computes is
//! the word of whoever made the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Seek, SeekFrom, Write},
};

use heddle_cache::{CacheError, RowChunk};
use heddle_graph::{
    digest::Digest,
    plan::{Known, Trace},
};

use super::{
    super::store::{ChunkName, Store, StoreError},
    file::{self, Contents, Listed, Manifest, Refused, Rows},
};

/// Why a file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The cache.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something that the run used is gone.
    #[error("{0} is not in the cache any more; run the experiment again first")]
    Gone(String),
    /// The file is not what an export writes, or is damaged.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<CacheError> for BundleError {
    fn from(error: CacheError) -> Self {
        Self::Store(error.into())
    }
}

/// Writes what the nodes with these keys gave and read.
///
/// # Errors
/// If something of it is gone, or reading or writing fails.
pub fn export(
    store: &Store,
    run: &str,
    file: &str,
    keys: &BTreeSet<Digest>,
    to: &mut dyn Write,
) -> Result<Contents, BundleError> {
    let mut manifest = Manifest::new(run, file);
    let mut wanted: BTreeSet<ChunkName> = BTreeSet::new();
    for key in keys {
        let gone = || BundleError::Gone(format!("the trace {} of the run", key.short()));
        manifest.traces.push(store.trace(key).ok_or_else(gone)?);
        let rows = store.rows_of(key)?;
        wanted.extend(&rows);
        if !rows.is_empty() {
            manifest.used.insert(*key, rows);
        }
    }
    // Chunks may have been evicted: the run's artifacts do without them.
    let chunks =
        RowChunk::all(store.cache())?.into_iter().filter(|chunk| wanted.contains(&(chunk.set, chunk.keys)));
    manifest.rows = chunks
        .map(|RowChunk { set, keys, rows, row_bytes, seconds }| Rows { set, keys, rows, row_bytes, seconds })
        .collect();
    let mut payloads = Payloads { store, listed: BTreeMap::new() };
    for trace in &manifest.traces {
        for (port, output) in &trace.outputs {
            payloads.add(output, || format!("the artifact `{}.{port}`", trace.node))?;
        }
    }
    for chunk in &manifest.rows {
        for digest in [&chunk.keys, &chunk.rows] {
            payloads.add(digest, || "a chunk of rows".to_owned())?;
        }
    }
    let listed = payloads.listed.into_iter();
    manifest.payloads = listed.map(|(digest, bytes)| Listed { digest, bytes }).collect();
    file::write(to, &manifest, |digest| {
        let gone = || BundleError::Gone(format!("the payload {}", digest.short()));
        store.artifact(digest)?.ok_or_else(gone)
    })?;
    Ok(manifest.contents())
}

/// Reads a file into the cache, all of it or nothing. What the cache knows already stays as it is.
///
/// # Errors
/// If the file is not whole, or the cache does not write.
pub fn import(store: &Store, from: &mut (impl Read + Seek)) -> Result<Contents, BundleError> {
    file::check(from)?;
    from.seek(SeekFrom::Start(0))?;
    let manifest = file::walk::<BundleError>(from, |listed, entry| {
        let mut writer = store.cache().writer()?;
        file::copy::<BundleError>(entry, &mut writer, listed)?;
        if writer.digest() != listed.digest {
            let reason = format!("payload {} changed while it was read", listed.digest.short());
            return Err(Refused::new(reason).into());
        }
        Ok(writer.finish().map(drop)?)
    })?;
    name(store, &manifest)?;
    Ok(manifest.contents())
}

/// Collects payloads to write.
struct Payloads<'a> {
    store: &'a Store,
    listed: BTreeMap<Digest, u64>,
}

impl Payloads<'_> {
    /// Adds a payload that is whole.
    fn add(&mut self, digest: &Digest, what: impl Fn() -> String) -> Result<(), BundleError> {
        if !self.listed.contains_key(digest) {
            let payload = self.store.artifact(digest)?.ok_or_else(|| BundleError::Gone(what()))?;
            self.listed.insert(*digest, payload.len() as u64);
        }
        Ok(())
    }
}

/// Names what was imported: rows, and then traces, since a trace says that a node has run.
fn name(store: &Store, manifest: &Manifest) -> Result<(), BundleError> {
    let known: BTreeMap<ChunkName, RowChunk> =
        RowChunk::all(store.cache())?.into_iter().map(|chunk| ((chunk.set, chunk.keys), chunk)).collect();
    let there = |chunk: &Rows| {
        let known = known.get(&(chunk.set, chunk.keys));
        known.is_some_and(|known| store.has(&known.rows))
    };
    let new = manifest.rows.iter().filter(|chunk| !there(chunk));
    let chunks: Vec<RowChunk> = new
        .map(|Rows { set, keys, rows, row_bytes, seconds }| RowChunk {
            set: *set,
            keys: *keys,
            rows: *rows,
            row_bytes: *row_bytes,
            seconds: *seconds,
        })
        .collect();
    RowChunk::name(store.cache(), &chunks)?;
    for (key, chunks) in &manifest.used {
        store.note_rows(key, chunks.iter().map(|(set, keys)| (*set, vec![*keys])))?;
    }
    for trace in &manifest.traces {
        let key = trace.parts.digest();
        let whole = |known: Trace| known.outputs.values().all(|output| store.has(output));
        if store.trace(&key).is_none_or(|known| !whole(known)) {
            store.record(trace)?;
        }
    }
    Ok(())
}
