//! Data sets whose pictures are files of a folder: class folders, tables of paths, COCO captions.
//!
//! A listed folder and, where the format has one, an annotation file enter; [`Found`] leaves, one by one: a record, or what
//! cannot be used and why.

mod class_folders;
mod coco;
mod table;

pub use class_folders::class_folders;
pub use coco::coco;
pub use table::{TableError, TableKind, table};

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    digest::Digest,
    folder::{Folder, FolderFile},
    record::{IMAGE_EXTENSIONS, Part, Record, SkipReason, Skipped},
};

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

/// The record of an image file below a folder.
fn record(folder: Digest, file: &FolderFile, extension: &str, columns: Map<String, Value>) -> Record {
    let part = Part { shard: folder, path: file.path.clone(), offset: 0, len: file.len, digest: file.digest };
    Record::new(file.path.clone(), folder, BTreeMap::from([(extension.to_owned(), part)]), columns)
}

/// The image that an annotation names, below `folder`.
fn named(folder: &Folder, digest: Digest, path: &str, columns: Map<String, Value>, from: &str) -> Found {
    let skip =
        |reason| Skipped { shard: from.to_owned(), key: path.to_owned(), member: path.to_owned(), reason };
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(|step| step == "..") {
        return Err(skip(SkipReason::UnsafeName));
    }
    let Some(extension) = image_extension(path) else { return Err(skip(SkipReason::MissingImage)) };
    match folder.file(path) {
        Some(file) => Ok(record(digest, file, extension, columns)),
        None => Err(skip(SkipReason::NoFile)),
    }
}

/// What of a folder could not be read at all.
fn broken(folder: &Folder) -> impl Iterator<Item = Found> + '_ {
    folder.broken.iter().map(|file| {
        Err(Skipped {
            shard: FOLDER.to_owned(),
            key: String::new(),
            member: file.path.clone(),
            reason: SkipReason::Unreadable { message: file.message.clone() },
        })
    })
}

#[cfg(test)]
mod tests;
