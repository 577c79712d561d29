//! The file that carries what a run used: its form, and what makes it whole. Knows no cache.
//!
//! ```text
//! FILE.tar
//!   manifest.json        traces, chunks of rows, the list of payloads in their order
//!   payloads/DIGEST ...  each payload once
//! ```
//!
//! Strangers' bytes come in here: `tests/fuzz` has a target for this file alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read, Write},
};

use heddle_cache::RowChunk;
use heddle_graph::{digest::Digest, plan::Trace};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, Entry, EntryType, Header};

const FORMAT: &str = "heddle cache 1";
const MANIFEST: &str = "manifest.json";
/// More than this no manifest has: a chunk of 8 MiB takes some 300 bytes of it.
const MANIFEST_BYTES: u64 = 1 << 28;

/// The file's table of contents.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    heddle: String,
    /// The run.
    pub run: String,
    /// Its experiment file.
    pub file: String,
    /// What its nodes gave.
    pub traces: Vec<Trace>,
    /// Chunks of rows that they read.
    pub rows: Vec<Rows>,
    /// By artifact key: the chunks that the node read, as set and digest of keys.
    pub used: BTreeMap<Digest, BTreeSet<(Digest, Digest)>>,
    /// What follows, in its order.
    pub payloads: Vec<Listed>,
}

/// A chunk of rows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The set that it is of.
    pub set: Digest,
    /// The payload with the keys.
    pub keys: Digest,
    /// The payload with the rows.
    pub rows: Digest,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Seconds that the rows took to compute.
    pub seconds: f64,
}

/// A payload that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub bytes: u64,
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

/// The file is not what an export writes, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file is damaged, or is no export of a cache: {0}; nothing was imported")]
pub struct Refused(String);

impl Refused {
    /// The reason may quote the file: control characters are written out, so that none reaches a terminal.
    pub fn new(reason: impl AsRef<str>) -> Self {
        Self(reason.as_ref().chars().flat_map(written_out).collect())
    }
}

fn written_out(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

fn refused<T, E: From<Refused>>(reason: impl AsRef<str>) -> Result<T, E> {
    Err(Refused::new(reason).into())
}

fn unreadable(error: io::Error) -> Refused {
    Refused::new(error.to_string())
}

impl Manifest {
    /// Of a run, in this build's form.
    pub fn new(run: &str, file: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            heddle: env!("CARGO_PKG_VERSION").to_owned(),
            run: run.to_owned(),
            file: file.to_owned(),
            traces: Vec::new(),
            rows: Vec::new(),
            used: BTreeMap::new(),
            payloads: Vec::new(),
        }
    }

    /// Everything that is named is listed, nothing is listed twice, and names are text.
    fn check(&self) -> Result<(), Refused> {
        if self.format != FORMAT {
            return refused(format!("its format is `{}`, this heddle reads `{FORMAT}`", self.format));
        }
        if self.names().any(|name| name.chars().any(char::is_control)) {
            return refused("a name in it is no text");
        }
        let sizes: HashMap<Digest, u64> =
            self.payloads.iter().map(|listed| (listed.digest, listed.bytes)).collect();
        if sizes.len() != self.payloads.len() {
            return refused("it lists a payload twice");
        }
        let size = |digest: &Digest| -> Result<u64, Refused> {
            let unheld = || Refused::new(format!("it names {}, which it does not hold", digest.short()));
            sizes.get(digest).copied().ok_or_else(unheld)
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

    /// What people will read.
    fn names(&self) -> impl Iterator<Item = &str> {
        let nodes = self.traces.iter().flat_map(|trace| {
            let ports = trace.outputs.keys().chain(trace.parts.inputs.keys());
            [&trace.node, &trace.parts.kind].into_iter().chain(ports)
        });
        [&self.run, &self.file].into_iter().chain(nodes).map(String::as_str)
    }

    /// In numbers.
    pub fn contents(&self) -> Contents {
        let sizes: HashMap<Digest, u64> =
            self.payloads.iter().map(|listed| (listed.digest, listed.bytes)).collect();
        let rows =
            self.rows.iter().map(|chunk| RowChunk::count(sizes.get(&chunk.keys).copied().unwrap_or(0)));
        Contents {
            run: self.run.clone(),
            file: self.file.clone(),
            nodes: self.traces.len(),
            rows: rows.fold(0, u64::saturating_add),
            payloads: self.payloads.len(),
            bytes: self.payloads.iter().map(|listed| listed.bytes).fold(0, u64::saturating_add),
        }
    }
}

/// Writes a file; `payload` writes the bytes of each digest that is listed.
///
/// # Errors
/// Those of `payload`, and of writing.
pub fn write<E: From<io::Error>, P: AsRef<[u8]>>(
    to: &mut dyn Write,
    manifest: &Manifest,
    mut payload: impl FnMut(&Digest) -> Result<P, E>,
) -> Result<(), E> {
    let mut tar = Builder::new(to);
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from)?;
    tar.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
    for listed in &manifest.payloads {
        let bytes = payload(&listed.digest)?;
        tar.append_data(&mut header(listed.bytes), path_of(&listed.digest), bytes.as_ref())?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// Reads a file to its end: it holds what it names, with the digests that it says, and nothing else.
///
/// # Errors
/// [`Refused`].
pub fn check(from: &mut impl Read) -> Result<Manifest, Refused> {
    walk(from, |listed, entry| {
        let mut writer = Hashing::default();
        copy::<Refused>(entry, &mut writer, listed)?;
        match Digest::from_bytes(*writer.0.finalize().as_bytes()) == listed.digest {
            true => Ok(()),
            false => refused(format!("payload {} has changed", listed.digest.short())),
        }
    })
}

/// Reads a file from its start: the manifest, which must fit itself, and every payload that it lists, in order and nothing else.
///
/// # Errors
/// Those of `payload`, and [`Refused`].
pub fn walk<E: From<Refused>>(
    from: &mut impl Read,
    mut payload: impl FnMut(Listed, &mut dyn Read) -> Result<(), E>,
) -> Result<Manifest, E> {
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
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| Refused::new(format!("{MANIFEST}: {error}")))?;
    manifest.check()?;
    for listed in &manifest.payloads {
        let mut entry = match entries.next() {
            Some(entry) => entry.map_err(unreadable)?,
            None => return refused("it ends before its last payload"),
        };
        expect(&entry, &path_of(&listed.digest))?;
        if entry.size() != listed.bytes {
            let short = listed.digest.short();
            return refused(format!("payload {short} has another length than the manifest says"));
        }
        payload(*listed, &mut entry)?;
    }
    match entries.next() {
        None => Ok(manifest),
        Some(_) => refused("more follows its last payload"),
    }
}

/// Wants a plain file of this name.
fn expect<R: Read>(entry: &Entry<'_, R>, path: &str) -> Result<(), Refused> {
    let plain = entry.header().entry_type() == EntryType::Regular;
    if plain && *entry.path_bytes() == *path.as_bytes() {
        Ok(())
    } else {
        refused(format!("{path} is missing"))
    }
}

/// Copies a payload, all of it.
///
/// # Errors
/// [`Refused`] if it does not read, and those of writing.
pub fn copy<E: From<Refused> + From<io::Error>>(
    from: &mut dyn Read,
    to: &mut dyn Write,
    listed: Listed,
) -> Result<(), E> {
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

impl From<io::Error> for Refused {
    /// Of a writer into memory, which does not fail.
    fn from(error: io::Error) -> Self {
        unreadable(error)
    }
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
