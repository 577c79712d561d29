//! One record of a data set: named parts that stay in their shard, and the columns that describe them.
//!
//! Plain data. How records are found is `webdataset`'s affair, how sets of them are kept is `manifest`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::{self, Digest, FieldHasher};

/// Extensions (lower case) of the parts that count as the record's image, in order of preference.
pub const IMAGE_EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Bytes of a record inside a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Digest of the shard that holds the bytes.
    pub shard: Digest,
    /// Offset of the first byte in the shard's decompressed bytes.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Digest of the bytes.
    pub digest: Digest,
}

/// A record: what a webdataset calls a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Member name up to the first dot of its last component, folders included; unique within a shard.
    pub key: String,
    /// Digest of the shard that holds the parts.
    pub shard: Digest,
    /// Parts by extension (lower case, without the first dot).
    pub parts: BTreeMap<String, Part>,
    /// The `.json` member's fields, then `txt` and `cls` from members of those names, then what a join added.
    pub columns: Map<String, Value>,
    /// Digest of the parts' names and bytes. Shard, offset, key and joined columns do not count.
    pub digest: Digest,
}

impl Record {
    /// A record over the given parts; computes its content digest.
    pub fn new(
        key: String,
        shard: Digest,
        parts: BTreeMap<String, Part>,
        columns: Map<String, Value>,
    ) -> Self {
        let digest = content_digest(&parts);
        Self { key, shard, parts, columns, digest }
    }

    /// The image's bytes, if the record has a part with one of [`IMAGE_EXTENSIONS`].
    pub fn image(&self) -> Option<&Part> {
        IMAGE_EXTENSIONS.iter().find_map(|extension| self.parts.get(*extension))
    }

    /// A column by name. A name that no column bears is read as a path: `captions.en` is field `en` of column
    /// `captions`.
    pub fn column(&self, name: &str) -> Option<&Value> {
        self.columns.get(name).or_else(|| {
            let (head, rest) = name.split_once('.')?;
            rest.split('.').try_fold(self.columns.get(head)?, |value, field| value.get(field))
        })
    }
}

fn content_digest(parts: &BTreeMap<String, Part>) -> Digest {
    let hasher = FieldHasher::new("heddle record 1");
    parts.iter().fold(hasher, |h, (ext, part)| h.field(ext.as_bytes()).field(&part.digest)).finish()
}

/// Something that was left out of a data set, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{shard}: {member}: {reason}")]
pub struct Skipped {
    /// File name of the shard.
    pub shard: String,
    /// Key of the record, empty where the member belongs to none.
    pub key: String,
    /// Name of the member at fault.
    pub member: String,
    /// What is wrong with it.
    pub reason: SkipReason,
}

/// Why a member or a record was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SkipReason {
    /// The archive ends, or stops making sense, within or right after this member.
    #[error("the archive is torn here ({detail})")]
    TornArchive {
        /// What the reader met.
        detail: String,
    },
    /// The name is absolute or climbs with `..`.
    #[error("the name is absolute or contains `..`")]
    UnsafeName,
    /// The name is not UTF-8, or has no key before the first dot or no extension after it.
    #[error("the name is not `key.extension`")]
    NoKey,
    /// A link, device or another member that is not a plain file.
    #[error("not a plain file")]
    NotAFile,
    /// The key was seen before, apart from this group of members.
    #[error("the key was used before in this shard")]
    DuplicateKey,
    /// The record has two parts of this extension.
    #[error("the record already has a part of this extension")]
    DuplicatePart,
    /// The JSON member does not parse.
    #[error("invalid JSON at line {line}, column {column}: {message}")]
    InvalidJson {
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error, from 1.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// The JSON member is no object.
    #[error("the JSON is not an object")]
    NotAnObject,
    /// The text member is not UTF-8.
    #[error("the text is not UTF-8")]
    NotText,
    /// The record has no image part.
    #[error("the record has no image (png, jpg or jpeg)")]
    MissingImage,
    /// The image does not decode.
    #[error("the image does not decode: {message}")]
    Undecodable {
        /// The decoder's words.
        message: String,
    },
    /// The part's bytes are not at hand, or not those that were scanned.
    #[error("the bytes are missing: {message}")]
    MissingBytes {
        /// What was looked for.
        message: String,
    },
}

/// The form of a part in a manifest: the shard is written once, by the record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPart {
    offset: u64,
    len: u64,
    #[serde(with = "digest::hex")]
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    key: String,
    #[serde(with = "digest::hex")]
    shard: Digest,
    parts: BTreeMap<String, StoredPart>,
    columns: Map<String, Value>,
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let stored = |part: &Part| StoredPart { offset: part.offset, len: part.len, digest: part.digest };
        StoredRecord {
            key: self.key.clone(),
            shard: self.shard,
            parts: self.parts.iter().map(|(ext, part)| (ext.clone(), stored(part))).collect(),
            columns: self.columns.clone(),
        }
        .serialize(out)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let StoredRecord { key, shard, parts, columns } = StoredRecord::deserialize(input)?;
        let part = |p: StoredPart| Part { shard, offset: p.offset, len: p.len, digest: p.digest };
        let parts = parts.into_iter().map(|(ext, stored)| (ext, part(stored))).collect();
        Ok(Self::new(key, shard, parts, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(offset: u64, bytes: &[u8]) -> Record {
        let shard = [offset as u8; 32];
        let part = Part { shard, offset, len: bytes.len() as u64, digest: digest::of(bytes) };
        let Value::Object(columns) = json!({ "captions": { "en": "cat" }, "a.b": 1 }) else { unreachable!() };
        Record::new("k".into(), shard, [("png".to_owned(), part)].into(), columns)
    }

    #[test]
    fn the_digest_is_of_content_alone() {
        assert_eq!(record(0, b"x").digest, record(512, b"x").digest);
        assert_ne!(record(0, b"x").digest, record(0, b"y").digest);
    }

    #[test]
    fn columns_are_found_by_name_first_then_by_path() {
        let record = record(0, b"x");
        assert_eq!(record.column("captions.en"), Some(&json!("cat")));
        assert_eq!(record.column("a.b"), Some(&json!(1)));
        assert_eq!(record.column("captions.fr"), None);
        assert_eq!(record.column("nothing"), None);
    }

    #[test]
    fn records_round_trip_through_json() {
        let record = record(512, b"x");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
