//! Writes data sets in the forms that other tools read: what [`sources`](crate::sources) and
//! [`webdataset`](crate::webdataset) read back.
//!
//! Records enter an [`Export`] one by one with the bytes of their parts; files below a folder leave. What is held in memory is
//! said at each form; pictures never are.

mod class_folders;
mod clip_benchmark;
mod coco;
mod llava;
mod masks;
mod names;
mod table;
mod webdataset;

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

pub use class_folders::ClassFolders;
pub use clip_benchmark::{ClipBenchmark, Task};
pub use coco::Coco;
pub use llava::Llava;
pub use masks::Masks;
pub use names::Names;
pub use table::{Table, TableForm};
pub use webdataset::{TarWriter, WebDataset};

use crate::record::{Caption, FIXED_COLUMNS, IMAGE_EXTENSIONS, Record};

/// A data set that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The disk.
    #[error("writing {}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A record without what the form needs.
    #[error("record `{key}` {missing}")]
    Missing {
        /// The record.
        key: String,
        /// What it lacks, as the end of the sentence.
        missing: String,
    },
    /// A column is not what the form needs.
    #[error("record `{key}`: column `{column}` is {found}, and the form needs {wanted}")]
    Column {
        /// The record.
        key: String,
        /// The column.
        column: String,
        /// What it holds.
        found: String,
        /// What would be right.
        wanted: &'static str,
    },
}

/// A record and the bytes of its parts.
pub struct Item<'a> {
    /// The record, as a manifest gives it.
    pub record: &'a Record,
    /// Its parts' bytes by extension, in order.
    pub parts: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl Item<'_> {
    /// The image with its extension.
    fn image(&self) -> Result<(&str, &[u8]), ExportError> {
        let part = |wanted: &&str| self.parts.iter().find(|(name, _)| name == wanted);
        let (extension, bytes) =
            IMAGE_EXTENSIONS.iter().find_map(part).ok_or_else(|| self.missing("has no image"))?;
        Ok((extension, bytes))
    }

    fn missing(&self, missing: impl Into<String>) -> ExportError {
        ExportError::Missing { key: self.record.key.clone(), missing: missing.into() }
    }

    /// The text of a column that has one.
    fn text(&self, column: &str) -> Result<String, ExportError> {
        match self.record.column(column) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            None | Some(Value::Null) => Err(self.missing(format!("has no column `{column}`"))),
            Some(other) => Err(ExportError::Column {
                key: self.record.key.clone(),
                column: column.to_owned(),
                found: other.to_string(),
                wanted: "a name",
            }),
        }
    }
}

/// A data set in the making.
pub trait Export {
    /// Appends a record.
    ///
    /// # Errors
    /// [`ExportError`].
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError>;

    /// Writes what is left.
    ///
    /// # Errors
    /// [`ExportError`].
    fn finish(self: Box<Self>) -> Result<(), ExportError>;
}

/// The data set's own columns: those of a record but for its fields.
pub fn own_columns(record: &Record) -> Map<String, Value> {
    let is_own = |name: &String| !FIXED_COLUMNS.contains(&name.as_str());
    record
        .columns
        .iter()
        .filter(|(name, _)| is_own(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Captions as JSON: `[{ text, language }]`, as [`Caption::list`] reads them.
pub fn captions_json(captions: &[Caption]) -> Value {
    // A caption is two plain strings.
    serde_json::to_value(captions).unwrap_or_default()
}

/// Makes the folders above a file, and the file.
fn create(path: &Path) -> Result<BufWriter<File>, ExportError> {
    let failed = |error| ExportError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    File::create(path).map(BufWriter::new).map_err(failed)
}

/// Writes a file and the folders above it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let failed = |error| ExportError::Io { path: path.to_owned(), error };
    let mut file = create(path)?;
    io::Write::write_all(&mut file, bytes).and_then(|()| io::Write::flush(&mut file)).map_err(failed)
}

/// Writes JSON.
fn write_json(path: &Path, value: &Value) -> Result<(), ExportError> {
    write(path, value.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
