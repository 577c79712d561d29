//! What a run used as one file, for another cache: `heddle cache export` and `import`.
//!
//! ```text
//! FILE.tar
//!   manifest.json        traces, chunks of rows, the list of payloads in their order
//!   payloads/DIGEST ...  each payload once
//! ```
//!
//! An import reads the file twice. First everything is checked: the manifest against itself, every payload against its digest and its
//! place in the list. Then payloads are stored, checked once more, and at last the values that name them. So a file that is damaged or
//! made up leaves nothing behind. What digests cannot tell is whether a trace is true: that these bytes are what the node computes is
//! the word of whoever made the file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read, Seek, SeekFrom, Write},
};

use heddle_cache::{CacheError, RowChunk};
use heddle_graph::{
    digest::Digest,
    plan::{Known, Trace},
};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::store::{ChunkName, Store, StoreError};

const FORMAT: &str = "heddle cache 1";
const MANIFEST: &str = "manifest.json";
/// More than this no manifest has: a chunk of 8 MiB takes some 300 bytes of it.
const MANIFEST_BYTES: u64 = 1 << 28;

/// The file's table of contents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    heddle: String,
    run: String,
    file: String,
    traces: Vec<Trace>,
    rows: Vec<Rows>,
    /// By artifact key: the chunks that the node read.
    used: BTreeMap<Digest, BTreeSet<ChunkName>>,
    payloads: Vec<Listed>,
}

/// A chunk of rows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    set: Digest,
    keys: Digest,
    rows: Digest,
    row_bytes: u64,
    seconds: f64,
}

/// A payload that follows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    digest: Digest,
    bytes: u64,
}

/// What was written or read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The run.
    pub run: String,
    /// Its experiment file.
    pub file: String,
    /// Traces: one a node.
    pub nodes: usize,
    /// Rows of frozen parts.
    pub rows: u64,
    /// Payloads.
    pub payloads: usize,
    /// Their bytes.
    pub bytes: u64,
}

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
    #[error("the file is damaged, or is no export of a cache: {0}; nothing was imported")]
    Refused(String),
}

impl From<CacheError> for BundleError {
    fn from(error: CacheError) -> Self {
        Self::Store(error.into())
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, BundleError> {
    Err(BundleError::Refused(reason.into()))
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
    let mut traces = Vec::new();
    let mut used = BTreeMap::new();
    let mut wanted: BTreeSet<ChunkName> = BTreeSet::new();
    for key in keys {
        let gone = || BundleError::Gone(format!("the trace {} of the run", key.short()));
        traces.push(store.trace(key).ok_or_else(gone)?);
        let rows = store.rows_of(key)?;
        wanted.extend(&rows);
        if !rows.is_empty() {
            used.insert(*key, rows);
        }
    }
    // Chunks may have been evicted: the run's artifacts do without them.
    let chunks =
        RowChunk::all(store.cache())?.into_iter().filter(|chunk| wanted.contains(&(chunk.set, chunk.keys)));
    let rows: Vec<Rows> = chunks
        .map(|RowChunk { set, keys, rows, row_bytes, seconds }| Rows { set, keys, rows, row_bytes, seconds })
        .collect();
    let mut payloads = Payloads { store, listed: BTreeMap::new() };
    for trace in &traces {
        for (port, output) in &trace.outputs {
            payloads.add(output, || format!("the artifact `{}.{port}`", trace.node))?;
        }
    }
    for chunk in &rows {
        for digest in [&chunk.keys, &chunk.rows] {
            payloads.add(digest, || "a chunk of rows".to_owned())?;
        }
    }
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        heddle: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.to_owned(),
        file: file.to_owned(),
        traces,
        rows,
        used,
        payloads: payloads
            .listed
            .iter()
            .map(|(digest, bytes)| Listed { digest: *digest, bytes: *bytes })
            .collect(),
    };
    let mut tar = Builder::new(to);
    let text = serde_json::to_vec_pretty(&manifest).map_err(StoreError::from)?;
    tar.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
    for listed in &manifest.payloads {
        let bytes = store.artifact(&listed.digest)?;
        let bytes =
            bytes.ok_or_else(|| BundleError::Gone(format!("the payload {}", listed.digest.short())))?;
        tar.append_data(&mut header(listed.bytes), path_of(&listed.digest), &*bytes)?;
    }
    tar.into_inner()?.flush()?;
    let count = |chunk: &Rows| payloads.listed.get(&chunk.keys).map_or(0, |bytes| RowChunk::count(*bytes));
    Ok(manifest.contents(manifest.rows.iter().map(count).sum()))
}

/// Reads a file into the cache, all of it or nothing. What the cache knows already stays as it is.
///
/// # Errors
/// If the file is not whole, or the cache does not write.
pub fn import(store: &Store, from: &mut (impl Read + Seek)) -> Result<Contents, BundleError> {
    let mut rows = 0;
    let manifest = walk(from, |manifest, listed, entry| {
        let mut writer = Hashing::default();
        copy(entry, &mut writer, listed)?;
        if Digest::from_bytes(*writer.0.finalize().as_bytes()) != listed.digest {
            return refused(format!("payload {} has changed", listed.digest.short()));
        }
        if manifest.rows.iter().any(|chunk| chunk.keys == listed.digest) {
            rows += RowChunk::count(listed.bytes);
        }
        Ok(())
    })?;
    from.seek(SeekFrom::Start(0))?;
    walk(from, |_, listed, entry| {
        let mut writer = store.cache().writer()?;
        copy(entry, &mut writer, listed)?;
        if writer.digest() != listed.digest {
            return refused(format!("payload {} changed while it was read", listed.digest.short()));
        }
        Ok(writer.finish().map(drop)?)
    })?;
    name(store, &manifest)?;
    Ok(manifest.contents(rows))
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

/// Reads a file from its start: the manifest, which must fit itself, and every payload that it lists, in order and nothing else.
fn walk(
    from: &mut impl Read,
    mut payload: impl FnMut(&Manifest, Listed, &mut dyn Read) -> Result<(), BundleError>,
) -> Result<Manifest, BundleError> {
    let mut archive = Archive::new(from);
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut first = match entries.next() {
        Some(entry) => entry.map_err(unreadable)?,
        None => return refused("it is empty"),
    };
    expect(&first, MANIFEST)?;
    if first.size() > MANIFEST_BYTES {
        return refused("its manifest is too large");
    }
    let mut text = Vec::new();
    first.read_to_end(&mut text).map_err(unreadable)?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| BundleError::Refused(format!("{MANIFEST}: {error}")))?;
    manifest.check()?;
    for listed in &manifest.payloads {
        let mut entry = match entries.next() {
            Some(entry) => entry.map_err(unreadable)?,
            None => return refused("it ends before its last payload"),
        };
        expect(&entry, &path_of(&listed.digest))?;
        if entry.size() != listed.bytes {
            return refused(format!(
                "payload {} has another length than the manifest says",
                listed.digest.short()
            ));
        }
        payload(&manifest, *listed, &mut entry)?;
    }
    match entries.next() {
        None => Ok(manifest),
        Some(_) => refused("more follows its last payload"),
    }
}

/// Wants a plain file of this name.
fn expect<R: Read>(entry: &Entry<'_, R>, path: &str) -> Result<(), BundleError> {
    let plain = entry.header().entry_type() == EntryType::Regular;
    if plain && *entry.path_bytes() == *path.as_bytes() {
        Ok(())
    } else {
        refused(format!("{path} is missing"))
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, listed: Listed) -> Result<(), BundleError> {
    let mut buffer = vec![0; 1 << 16];
    let mut left = listed.bytes;
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(unreadable)?,
        };
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read as u64);
        to.write_all(&buffer[..read])?;
    }
    if left == 0 { Ok(()) } else { refused("it ends within a payload") }
}

fn unreadable(error: io::Error) -> BundleError {
    BundleError::Refused(error.to_string())
}

/// Hashes what is written.
#[derive(Default)]
struct Hashing(blake3::Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Manifest {
    /// Everything that is named is listed, and nothing is listed twice.
    fn check(&self) -> Result<(), BundleError> {
        if self.format != FORMAT {
            return refused(format!("its format is `{}`, this heddle reads `{FORMAT}`", self.format));
        }
        let sizes: HashMap<Digest, u64> =
            self.payloads.iter().map(|listed| (listed.digest, listed.bytes)).collect();
        if sizes.len() != self.payloads.len() {
            return refused("it lists a payload twice");
        }
        let size = |digest: &Digest| match sizes.get(digest) {
            Some(bytes) => Ok(*bytes),
            None => refused(format!("it names {}, which it does not hold", digest.short())),
        };
        for output in self.traces.iter().flat_map(|trace| trace.outputs.values()) {
            size(output)?;
        }
        for chunk in &self.rows {
            let (keys, rows) = (size(&chunk.keys)?, size(&chunk.rows)?);
            let fits = keys % 32 == 0 && RowChunk::count(keys).checked_mul(chunk.row_bytes) == Some(rows);
            if !fits || !chunk.seconds.is_finite() || chunk.seconds < 0.0 {
                return refused(format!("its rows {} do not fit their keys", chunk.rows.short()));
            }
        }
        let keys: BTreeSet<Digest> = self.traces.iter().map(|trace| trace.parts.digest()).collect();
        if !self.used.keys().all(|key| keys.contains(key)) {
            return refused("it says what a node read that it does not hold");
        }
        let seconds = self.traces.iter().all(|trace| trace.seconds.is_finite() && trace.seconds >= 0.0);
        if seconds { Ok(()) } else { refused("a trace took no possible time") }
    }

    fn contents(&self, rows: u64) -> Contents {
        Contents {
            run: self.run.clone(),
            file: self.file.clone(),
            nodes: self.traces.len(),
            rows,
            payloads: self.payloads.len(),
            bytes: self.payloads.iter().map(|listed| listed.bytes).fold(0, u64::saturating_add),
        }
    }
}

fn path_of(digest: &Digest) -> String {
    format!("payloads/{digest}")
}

/// The same for equal content: no time, no owner.
fn header(bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}
