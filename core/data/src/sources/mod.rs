//! Data sets whose pictures are files of a folder or members of shards: class folders, masks beside images, tables of paths,
//! COCO captions, LLaVA conversations.
//!
//! The [`Pictures`] and, where the format has one, an annotation file enter; [`Found`] leaves, one by one: a record, or
//! what cannot be used and why.

mod class_folders;
mod coco;
mod llava;
mod masks;
mod pictures;
mod table;

pub use class_folders::class_folders;
pub use coco::coco;
pub use llava::llava;
pub use masks::{MASK, masks};
pub use pictures::Pictures;
pub use table::{TableError, TableKind, table, table_rows};

use crate::record::{IMAGE_EXTENSIONS, Record, Skipped};

/// What a folder is called in messages; its own name is no part of the data.
pub const FOLDER: &str = "folder";

/// A record, or what cannot be used.
pub type Found = Result<Record, Skipped>;

/// An annotation file that does not read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct AnnotationError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl From<serde_json::Error> for AnnotationError {
    fn from(error: serde_json::Error) -> Self {
        Self { line: error.line(), column: error.column(), message: error.to_string() }
    }
}

/// The extension of an image file, in lower case.
fn image_extension(path: &str) -> Option<&'static str> {
    let extension = path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    IMAGE_EXTENSIONS.into_iter().find(|known| *known == extension)
}

#[cfg(test)]
mod tests;
