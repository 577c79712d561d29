//! Numbers in [0, 1) that belong to records: what `data.split` and `data.sample` decide by.
//!
//! They depend on what a record is and on nothing else: not on its place, nor on what other records there are. So a record
//! that is added or taken away moves no other one from one side to the other.

use heddle_data::Record;
use heddle_graph::config::Reader;

use super::column_text;
use crate::exec::NodeError;

/// What of a record decides.
pub enum By {
    /// The bytes of all its parts.
    Record,
    /// The bytes of its image.
    Image,
    /// Key and bytes: copies of one record are told apart by their keys.
    Key,
    /// The value of a column: records that share it go together.
    Column(String),
}

impl By {
    /// Reads `by`.
    pub fn read(r: &mut Reader<'_>, usual: &'static str) -> Self {
        let by: String = r
            .field(
                "by",
                "what decides: `record` (the bytes of all parts), `image` (those of the image), `key` (key and bytes), or a \
                 column, whose equal values stay together",
            )
            .or(usual.to_owned());
        match by.as_str() {
            "record" => Self::Record,
            "image" => Self::Image,
            "key" => Self::Key,
            _ => Self::Column(by),
        }
    }

    /// The record's number under a salt: the first 64 bits of a BLAKE3 hash over 2^64.
    pub fn chance(&self, record: &Record, salt: &str) -> Result<f64, NodeError> {
        Ok(unit(self.hash(record, salt)?))
    }

    /// The same as a whole number.
    pub fn hash(&self, record: &Record, salt: &str) -> Result<u64, NodeError> {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(salt.as_bytes());
        match self {
            Self::Record => field(&record.digest),
            Self::Image => field(record.image().map_or(&record.digest, |part| &part.digest)),
            Self::Key => {
                field(record.key.as_bytes());
                field(&record.digest);
            }
            Self::Column(column) => {
                let value = column_text(record, column).ok_or_else(|| {
                    let mut known: Vec<&str> = record.columns.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    NodeError::Other(format!(
                        "record `{}` has no value in column `{column}` (`by`); it has {}",
                        record.key,
                        known.join(", ")
                    ))
                })?;
                field(value.as_bytes());
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// 53 bits, so that the result is below 1.
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
