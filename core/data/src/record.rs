//! One record of a data set: named parts that stay in their shard, and the columns that describe them.
//!
//! Plain data. How records are found is `webdataset`'s affair, how sets of them are kept is `manifest`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::digest::{Digest, FieldHasher};

/// Extensions (lower case) of the parts that count as the record's image, in order of preference.
pub const IMAGE_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "gif"];

/// Bytes of a record inside a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Digest of the shard that holds the bytes.
    pub shard: Digest,
    /// In a folder, the file's path below it, with forward slashes; empty in a file.
    pub path: String,
    /// Offset of the first byte in the shard's decompressed bytes; 0 in a folder.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Digest of the bytes.
    pub digest: Digest,
}

/// A text that describes the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caption {
    /// The text.
    pub text: String,
    /// Its language as a BCP 47 tag (`en`, `zh`), where the data set says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

impl Caption {
    /// A caption in a language, or in an unknown one.
    pub fn new(text: impl Into<String>, language: Option<&str>) -> Self {
        Self { text: text.into(), language: language.map(str::to_owned) }
    }

    /// Captions as JSON has them: a list of texts, a list of `{ text, language }`, or an object of texts or lists of texts
    /// by language (`und` where it is unknown). `None` for anything else.
    pub fn list(value: &Value) -> Option<Vec<Self>> {
        let texts = |value: &Value, language: Option<&str>| match value {
            Value::String(text) => Some(vec![Self::new(text, language)]),
            Value::Array(texts) => {
                texts.iter().map(|text| Some(Self::new(text.as_str()?, language))).collect()
            }
            _ => None,
        };
        match value {
            Value::Array(items) if items.iter().all(Value::is_object) => {
                items.iter().map(|item| Self::deserialize(item).ok()).collect()
            }
            Value::Array(_) => texts(value, None),
            Value::Object(by_language) => {
                let mut captions = Vec::new();
                for (language, value) in by_language {
                    captions.extend(texts(value, Some(&**language).filter(|name| *name != "und"))?);
                }
                Some(captions)
            }
            _ => None,
        }
    }
}

/// Names of columns that every record has; a data set's own column of such a name is called `user.NAME`.
pub const FIXED_COLUMNS: [&str; 8] =
    ["key", "source", "shard", "parts", "digest", "captions", "width", "height"];

/// A record: what a webdataset calls a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What the data set calls it; for a webdataset the member's name up to the first dot of its last component.
    pub key: String,
    /// The data set that it comes from, as the experiment names it; reports count by it.
    pub source: String,
    /// Digest of the shard that holds the parts.
    pub shard: Digest,
    /// Parts by extension (lower case, without the first dot).
    pub parts: BTreeMap<String, Part>,
    /// The texts that describe it.
    pub captions: Vec<Caption>,
    /// Width and height in pixels, where they are known without decoding.
    pub size: Option<[u32; 2]>,
    /// The data set's own columns.
    pub columns: Map<String, Value>,
    /// Digest of the parts' names and bytes. Shard, offset, key, captions and columns do not count.
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
        Self { key, source: String::new(), shard, parts, captions: Vec::new(), size: None, columns, digest }
    }

    /// The image, if the record has a part with one of [`IMAGE_EXTENSIONS`].
    pub fn image(&self) -> Option<&Part> {
        IMAGE_EXTENSIONS.iter().find_map(|extension| self.parts.get(*extension))
    }

    /// A column by name. A name that no column bears is read as a path: `keywords.en` is field `en` of column
    /// `keywords`. The record's own fields are not among them; see [`Record::with_fields`].
    pub fn column(&self, name: &str) -> Option<&Value> {
        self.columns.get(name).or_else(|| {
            let (head, rest) = name.split_once('.')?;
            rest.split('.').try_fold(self.columns.get(head)?, |value, field| value.get(field))
        })
    }

    /// Takes what the columns say of the record's own fields: `captions` as [`Caption::list`] reads them, else the texts
    /// `txt` or `caption`; `width` and `height`. So are they found in what img2dataset and `heddle data export` write.
    pub fn adopt_columns(mut self) -> Self {
        if let Some(captions) = self.columns.get("captions").and_then(Caption::list) {
            self.columns.shift_remove("captions");
            // The file of text that other readers see says the first caption again.
            let first = captions.first().map(|caption| Value::from(caption.text.as_str()));
            for again in ["txt", "caption"] {
                if first.is_some() && self.columns.get(again) == first.as_ref() {
                    self.columns.shift_remove(again);
                }
            }
            self.captions = captions;
        } else if self.captions.is_empty() {
            let text =
                self.columns.get("txt").or_else(|| self.columns.get("caption")).and_then(Value::as_str);
            let text = text.filter(|text| !text.is_empty());
            self.captions = text.map(|text| Caption::new(text, None)).into_iter().collect();
        }
        let side = |name| u32::try_from(self.columns.get(name)?.as_u64()?).ok().filter(|side| *side > 0);
        if let (Some(width), Some(height)) = (side("width"), side("height")) {
            self.size = Some([width, height]);
        }
        self
    }

    /// The record with `key`, `source`, `width`, `height` and `captions` among its columns: how nodes see it.
    /// Captions are a list, or an object of lists by language (`und` where it is unknown) if some language is known.
    pub fn with_fields(mut self) -> Self {
        self.columns.insert("key".into(), self.key.clone().into());
        self.columns.insert("source".into(), self.source.clone().into());
        if let Some([width, height]) = self.size {
            self.columns.insert("width".into(), width.into());
            self.columns.insert("height".into(), height.into());
        }
        if !self.captions.is_empty() {
            self.columns.insert("captions".into(), captions_value(&self.captions));
        }
        self
    }
}

fn captions_value(captions: &[Caption]) -> Value {
    if captions.iter().all(|caption| caption.language.is_none()) {
        return captions.iter().map(|caption| caption.text.as_str()).collect();
    }
    let mut by_language = Map::new();
    for caption in captions {
        let language = caption.language.as_deref().unwrap_or("und");
        let list = by_language.entry(language).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(caption.text.as_str().into());
        }
    }
    Value::Object(by_language)
}

/// Digest of a record's parts: their names and bytes.
pub fn content_digest(parts: &BTreeMap<String, Part>) -> Digest {
    let hasher = FieldHasher::new("heddle record 1");
    parts.iter().fold(hasher, |h, (ext, part)| h.field(ext.as_bytes()).field(&part.digest)).finish()
}

/// Something that was left out of a data set, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{shard}: {}{reason}", before_reason(.member))]
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

/// The member's name, where there is one: a file that is no archive has none.
fn before_reason(member: &str) -> String {
    if member.is_empty() { String::new() } else { format!("{member}: ") }
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
    #[error("the record has no image (png, jpg, jpeg, webp or gif)")]
    MissingImage,
    /// The image does not decode.
    #[error("the image does not decode: {message}")]
    Undecodable {
        /// The decoder's words.
        message: String,
    },
    /// A file or folder that cannot be read.
    #[error("it cannot be read: {message}")]
    Unreadable {
        /// The system's words.
        message: String,
    },
    /// An annotation names a file that is not there.
    #[error("there is no such file")]
    NoFile,
    /// A row of a table has no path.
    #[error("a row has no path in column `{column}`")]
    NoPath {
        /// The column.
        column: String,
    },
    /// A row of a table does not read.
    #[error("row at line {line}: {message}")]
    InvalidRow {
        /// Line, from 1.
        line: u64,
        /// The parser's words.
        message: String,
    },
    /// A caption of an image that is not listed.
    #[error("a caption is of image {id}, which is not among the images")]
    UnknownImage {
        /// The image's id.
        id: u64,
    },
    /// An entry of a JSON list that does not have the form that it should have.
    #[error("entry {place} (from 0): {message}")]
    InvalidEntry {
        /// Its place in the list, from 0.
        place: usize,
        /// What is wrong.
        message: String,
    },
    /// An image without a mask.
    #[error("there is no mask (a PNG of the same path) for the image")]
    NoMask,
    /// A row of a table that has no record in its shard, or a record that has no row.
    #[error("{message}")]
    NoRow {
        /// Which of the two is missing.
        message: String,
    },
    /// A label that none of the class names has.
    #[error("the label {label} has no name; there are {names} class names, counted from 0")]
    NoClass {
        /// The label, as JSON.
        label: String,
        /// How many names there are.
        names: usize,
    },
    /// An image without a caption.
    #[error("the image has no caption")]
    NoCaption,
    /// The part's bytes are not at hand, or not those that were scanned.
    #[error("the bytes are missing: {message}")]
    MissingBytes {
        /// What was looked for.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;

    fn record(offset: u64, bytes: &[u8]) -> Record {
        let shard = [offset as u8; 32];
        let part =
            Part { shard, path: String::new(), offset, len: bytes.len() as u64, digest: digest::of(bytes) };
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
    fn captions_and_size_are_adopted_from_columns() {
        let told = |columns: Value| {
            let Value::Object(columns) = columns else { unreachable!() };
            let record = Record { columns, ..record(0, b"x") }.adopt_columns();
            let captions: Vec<String> = record
                .captions
                .iter()
                .map(|caption| format!("{}:{}", caption.language.as_deref().unwrap_or("-"), caption.text))
                .collect();
            format!("{captions:?} {:?} {}", record.size, Value::Object(record.columns))
        };
        let all = [
            json!({ "txt": "a cat", "caption": "other" }),
            json!({ "caption": "a cat", "width": 3, "height": 2 }),
            json!({ "txt": "a", "captions": [{ "text": "a", "language": "en" }, { "text": "b" }] }),
            json!({ "captions": ["a", "b"], "txt": "c" }),
            json!({ "captions": { "en": "a", "und": ["b", "c"] } }),
            json!({ "captions": 3, "width": 0, "height": 2 }),
            json!({ "captions": ["a", 3], "txt": "" }),
        ];
        insta::assert_snapshot!(all.map(told).join("\n"), @r#"
        ["-:a cat"] None {"txt":"a cat","caption":"other"}
        ["-:a cat"] Some([3, 2]) {"caption":"a cat","width":3,"height":2}
        ["en:a", "-:b"] None {}
        ["-:a", "-:b"] None {"txt":"c"}
        ["en:a", "-:b", "-:c"] None {}
        [] None {"captions":3,"width":0,"height":2}
        [] None {"captions":["a",3],"txt":""}
        "#);
    }

    #[test]
    fn fields_become_columns_by_name() {
        let mut record = record(0, b"x");
        record.size = Some([3, 2]);
        record.captions = vec![Caption::new("a cat", None)];
        let plain = record.clone().with_fields();
        assert_eq!(plain.column("captions"), Some(&json!(["a cat"])));
        assert_eq!(plain.column("width"), Some(&json!(3)));
        record.captions.push(Caption::new("un gatto", Some("it")));
        let told = record.with_fields();
        assert_eq!(told.column("captions.it"), Some(&json!(["un gatto"])));
        assert_eq!(told.column("captions.und"), Some(&json!(["a cat"])));
    }
}
