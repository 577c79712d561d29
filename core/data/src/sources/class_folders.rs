//! Class folders, as torchvision's `ImageFolder` reads them: `class/picture.jpg`.

use std::collections::BTreeSet;

use serde_json::Map;

use super::{
    Found, image_extension,
    pictures::{broken, file_part},
};
use crate::{digest::Digest, folder::Folder, record::Record};

/// The pictures below the folder's own folders. Column `class` is the folder's name, `label` its place among all names in
/// order. Files of other types and pictures that lie in no class are passed over, as torchvision does.
pub fn class_folders(folder: &Folder, digest: Digest) -> impl Iterator<Item = Found> + '_ {
    let class = |path: &str| path.split_once('/').map(|(class, _)| class.to_owned());
    let classes: BTreeSet<String> = folder
        .files
        .iter()
        .filter(|file| image_extension(&file.path).is_some())
        .filter_map(|file| class(&file.path))
        .collect();
    let classes: Vec<String> = classes.into_iter().collect();
    let pictures = folder.files.iter().filter_map(move |file| {
        let (extension, class) = (image_extension(&file.path)?, class(&file.path)?);
        let label = classes.binary_search(&class).ok()?;
        let columns =
            Map::from_iter([("class".to_owned(), class.into()), ("label".to_owned(), label.into())]);
        let parts = [(extension.to_owned(), file_part(digest, file))].into();
        Some(Ok(Record::new(file.path.clone(), digest, parts, columns)))
    });
    broken(folder).map(Err).chain(pictures)
}
