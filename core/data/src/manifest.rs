//! A data set as a value: its records, the shards they lie in, and what was left out.
//!
//! Shards enter through [`Manifest::scan`]; bytes leave through [`Manifest::to_bytes`] and come back the same.
//! The form is JSON lines: a header, then records, then what was skipped. It holds file names without folders
//! and no times, so the same data gives the same bytes on every machine.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    digest::{self, Digest, FieldHasher},
    record::{Record, Skipped},
    shard::Shard,
    webdataset::{self, ScanOptions},
};

/// A manifest that does not read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A line is no valid JSON of the expected form.
    #[error("line {line} of the manifest is not valid")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// The header names another format.
    #[error("`{0}` is not a manifest format that this version reads (`{FORMAT}`)")]
    Format(String),
    /// The counts in the header do not fit the lines that follow.
    #[error("the manifest should have {expected} lines after its header, it has {found}")]
    Count {
        /// Lines promised.
        expected: usize,
        /// Lines found.
        found: usize,
    },
}

const FORMAT: &str = "heddle-manifest/1";

/// A shard as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// File name without folders.
    pub name: String,
    /// BLAKE3 of the decompressed bytes.
    #[serde(with = "digest::hex")]
    pub digest: Digest,
}

/// A set of records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// The shards that were scanned, in order.
    pub shards: Vec<ShardInfo>,
    /// The records, in the order of shards and members.
    pub records: Vec<Record>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    shards: Vec<ShardInfo>,
    records: usize,
    skipped: usize,
}

impl Manifest {
    /// Scans shards in the given order.
    pub fn scan(shards: &[Shard], options: &ScanOptions) -> Self {
        let mut manifest = Self::default();
        for shard in shards {
            let scan = webdataset::scan(shard, options);
            manifest.shards.push(ShardInfo { name: shard.name.clone(), digest: shard.digest });
            manifest.records.extend(scan.records);
            manifest.skipped.extend(scan.skipped);
        }
        manifest
    }

    /// The manifest as JSON lines.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = Header {
            format: FORMAT.into(),
            shards: self.shards.clone(),
            records: self.records.len(),
            skipped: self.skipped.len(),
        };
        let mut bytes = Vec::new();
        push_line(&mut bytes, &header);
        self.records.iter().for_each(|record| push_line(&mut bytes, record));
        self.skipped.iter().for_each(|skipped| push_line(&mut bytes, skipped));
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ManifestError`] with the line, if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let header: Header = read_line(&lines, 0)?;
        if header.format != FORMAT {
            return Err(ManifestError::Format(header.format));
        }
        // The last line ends in a newline, so one empty piece follows it.
        let (expected, found) =
            (header.records.saturating_add(header.skipped), lines.len().saturating_sub(2));
        if expected != found {
            return Err(ManifestError::Count { expected, found });
        }
        let first_skipped = 1 + header.records;
        Ok(Self {
            shards: header.shards,
            records: (1..first_skipped).map(|i| read_line(&lines, i)).collect::<Result<_, _>>()?,
            skipped: (first_skipped..=expected).map(|i| read_line(&lines, i)).collect::<Result<_, _>>()?,
        })
    }

    /// Digest of what the records are: keys, parts and columns in order. How they are spread over shards does
    /// not count, nor what was skipped.
    pub fn content_digest(&self) -> Digest {
        let hasher = FieldHasher::new("heddle manifest content 1");
        let record = |hasher: FieldHasher, record: &Record| {
            hasher.field(record.key.as_bytes()).field(&record.digest).field(&to_json(&record.columns))
        };
        self.records.iter().fold(hasher, record).finish()
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("string-keyed maps of plain values always serialise")
}

fn push_line(bytes: &mut Vec<u8>, value: &impl Serialize) {
    bytes.extend(to_json(value));
    bytes.push(b'\n');
}

fn read_line<T: DeserializeOwned>(lines: &[&[u8]], index: usize) -> Result<T, ManifestError> {
    serde_json::from_slice(lines[index]).map_err(|source| ManifestError::Line { line: index + 1, source })
}

#[cfg(all(test, feature = "emoji"))]
#[path = "manifest_tests.rs"]
mod tests;
