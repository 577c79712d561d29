//! A data set as a value: which records there are, where their bytes lie, what was left out and why.
//!
//! ```text
//! Record ──RowWriter──▶ ManifestWriter ──▶ an Arrow IPC file ──▶ Manifest ──▶ RecordBatch, Record
//!                            ▲
//! RecordBatch ───────────────┘
//! ```
//!
//! A manifest is an Arrow IPC file, so `pyarrow.ipc.open_file` reads it. Images stay in their shards. Batches have
//! [`ROWS`] records, the last one fewer; they are read in place, so a manifest larger than memory costs a batch.
//!
//! | column | type | |
//! |---|---|---|
//! | `key` | utf8 | what the data set calls the record |
//! | `source` | utf8 | the data set, as the experiment names it |
//! | `shard` | uint32 | place in the footer's list of shards |
//! | `parts` | list of struct (`name`, `path`, `offset`, `len`, `digest`) | the record's bytes, sorted by name |
//! | `digest` | fixed binary 32 | BLAKE3 over the parts' names and bytes |
//! | `captions` | list of struct (`text`, `language`) | texts that describe the image |
//! | `width`, `height` | uint32 or null | pixels, where known |
//! | any other | any Arrow type | the data set's own |
//!
//! The footer's metadata has one entry, `heddle`, a [`Footer`] as JSON. Nothing in the file names a folder or a time:
//! the same data gives the same bytes on every machine.

mod added;
mod columns;
mod fields;
mod footer;
mod infer;
mod read;
mod rows;
mod union;
mod verify;
mod write;

pub use added::Added;
pub use columns::{column_values, value_at};
pub use fields::{FixedColumns, captions_column, fixed_fields};
pub use footer::{Footer, Left, ShardInfo, SourceCount, Step, TruthCount};
pub use read::Manifest;
pub use rows::RowWriter;
pub use union::{Union, UnionError};
pub use write::{ManifestWriter, ROWS};

/// A manifest that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no Arrow IPC file.
    #[error("not a manifest: {0}")]
    Format(String),
    /// The file's version is not one that this program reads.
    #[error("the manifest is of version {found}, this program reads {}", footer::VERSION)]
    Version {
        /// What the file says.
        found: u32,
    },
    /// A column that every manifest has is missing or of another type.
    #[error("the manifest's column `{column}` is not {expected}")]
    Column {
        /// The column.
        column: String,
        /// Its type.
        expected: &'static str,
    },
    /// Arrow refused.
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
    /// Writing, or the file that rows wait in.
    #[error("writing a manifest: {0}")]
    Io(#[from] std::io::Error),
    /// A row that does not read back; only a disk that fails does that.
    #[error("rows that waited on the disk do not read back: {0}")]
    Spool(serde_json::Error),
}

#[cfg(all(test, feature = "emoji"))]
mod tests;
