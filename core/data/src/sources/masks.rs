//! Images and masks in two folders of one shape below a third, as ADE20K's scene parsing set has them:
//! `images/training/ADE_train_00000001.jpg` and `annotations/training/ADE_train_00000001.png`.

use std::collections::HashMap;

use serde_json::Map;

use super::{
    FOLDER, Found, image_extension,
    pictures::{broken, file_part},
};
use crate::{
    digest::Digest,
    folder::{Folder, FolderFile},
    record::{Record, SkipReason, Skipped},
};

/// The part of a record that is its mask: a PNG whose values are classes, 0 what belongs to none.
pub const MASK: &str = "mask.png";

/// The images below `images` in the order of their paths, each with the mask of the same path below `masks` up to the
/// extension. The key is the path below `images`; the first folder of it is column `split`. Images without a mask are named.
pub fn masks<'a>(
    folder: &'a Folder,
    digest: Digest,
    images: &str,
    masks: &str,
) -> impl Iterator<Item = Found> + use<'a> {
    let below = |file: &'a FolderFile, top: &str| file.path.strip_prefix(top)?.strip_prefix('/');
    let stem = |path: &'a str| path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let mut by_stem: HashMap<&str, &FolderFile> = HashMap::new();
    let mut pictures = Vec::new();
    for file in &folder.files {
        let Some(extension) = image_extension(&file.path) else { continue };
        if let Some(path) = below(file, masks).filter(|_| extension == "png") {
            by_stem.insert(stem(path), file);
        } else if let Some(path) = below(file, images) {
            pictures.push((file, path, extension));
        }
    }
    let records = pictures.into_iter().map(move |(file, path, extension)| {
        let Some(mask) = by_stem.get(stem(path)) else {
            let (shard, key) = (FOLDER.to_owned(), path.to_owned());
            return Err(Skipped { shard, key, member: file.path.clone(), reason: SkipReason::NoMask });
        };
        let parts =
            [(extension.to_owned(), file_part(digest, file)), (MASK.to_owned(), file_part(digest, mask))];
        let mut columns = Map::new();
        if let Some((split, _)) = path.split_once('/') {
            columns.insert("split".to_owned(), split.into());
        }
        Ok(Record::new(path.to_owned(), digest, parts.into(), columns))
    });
    broken(folder).map(Err).chain(records)
}
