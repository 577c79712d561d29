//! Where the pictures are that annotations name: files of a folder, or members of tar shards.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{FOLDER, Found, image_extension};
use crate::{
    digest::Digest,
    folder::{Folder, FolderFile},
    record::{Part, Record, SkipReason, Skipped},
    shard::Shard,
    webdataset::{ScanOptions, SplitFrom, scan},
};

/// Pictures by the path that an annotation gives them.
#[derive(Debug)]
pub struct Pictures<'a> {
    place: Place<'a>,
    /// What of the folder or the shards cannot be read.
    broken: Vec<Skipped>,
}

#[derive(Debug)]
enum Place<'a> {
    Folder(&'a Folder, Digest),
    /// Members by name, with the extension in lower case.
    Shards(HashMap<String, Part>),
}

impl<'a> Pictures<'a> {
    /// The files below a listed folder.
    pub fn in_folder(folder: &'a Folder, digest: Digest) -> Self {
        Self { place: Place::Folder(folder, digest), broken: broken(folder).collect() }
    }

    /// The members of tar shards; where two shards have a member of one name, the first counts.
    pub fn in_shards(shards: &[Shard]) -> Self {
        let (mut members, mut broken) = (HashMap::new(), Vec::new());
        for shard in shards {
            let found = scan(shard, &ScanOptions { require_image: false, split_from: SplitFrom::Columns });
            for record in found.records {
                for (extension, part) in record.parts {
                    members.entry(format!("{}.{extension}", record.key)).or_insert(part);
                }
            }
            broken.extend(found.skipped);
        }
        Self { place: Place::Shards(members), broken }
    }

    /// The record of the picture at `path`, with these columns; `from` is the annotation's name.
    pub(super) fn named(&self, path: &str, columns: Map<String, Value>, from: &str) -> Found {
        let skip = |reason| Skipped {
            shard: from.to_owned(),
            key: path.to_owned(),
            member: path.to_owned(),
            reason,
        };
        let path = path.strip_prefix("./").unwrap_or(path);
        if path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(|step| step == "..") {
            return Err(skip(SkipReason::UnsafeName));
        }
        let extension = image_extension(path).ok_or_else(|| skip(SkipReason::MissingImage))?;
        let part = self.part(path, extension).ok_or_else(|| skip(SkipReason::NoFile))?;
        let shard = part.shard;
        Ok(Record::new(path.to_owned(), shard, [(extension.to_owned(), part)].into(), columns))
    }

    fn part(&self, path: &str, extension: &str) -> Option<Part> {
        match &self.place {
            Place::Folder(folder, digest) => Some(file_part(*digest, folder.file(path)?)),
            Place::Shards(members) => {
                let stem = &path[..path.len() - extension.len()];
                members.get(&format!("{stem}{extension}")).cloned()
            }
        }
    }

    /// What cannot be read, whoever asks for it.
    pub(super) fn broken(&self) -> impl Iterator<Item = Found> + '_ {
        self.broken.iter().cloned().map(Err)
    }
}

/// A file of a folder as a record's part.
pub(super) fn file_part(folder: Digest, file: &FolderFile) -> Part {
    Part { shard: folder, path: file.path.clone(), offset: 0, len: file.len, digest: file.digest }
}

/// What of a folder could not be read at all.
pub(super) fn broken(folder: &Folder) -> impl Iterator<Item = Skipped> + '_ {
    folder.broken.iter().map(|file| Skipped {
        shard: FOLDER.to_owned(),
        key: String::new(),
        member: file.path.clone(),
        reason: SkipReason::Unreadable { message: file.message.clone() },
    })
}
