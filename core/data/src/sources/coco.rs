//! COCO captions: an annotation file (`captions_val2017.json`) and its pictures.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde::Deserialize;
use serde_json::Map;

use super::{AnnotationError, Found, Pictures};
use crate::record::{Caption, Record, SkipReason, Skipped};

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(borrow)]
    images: Vec<Image<'a>>,
    #[serde(borrow)]
    annotations: Vec<Annotation<'a>>,
}

#[derive(Deserialize)]
struct Image<'a> {
    id: u64,
    #[serde(borrow)]
    file_name: Cow<'a, str>,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    id: u64,
    image_id: u64,
    #[serde(borrow)]
    caption: Cow<'a, str>,
}

/// The pictures in the order of the file, each with its captions in the order of their ids; column `image_id`. Captions of
/// pictures that the file does not list, and pictures without a caption or a file, are named.
///
/// # Errors
/// [`AnnotationError`] with the place, if the file is not COCO's. It is held in memory, as its texts are.
pub fn coco<'a>(
    annotations: &'a [u8],
    name: &'a str,
    pictures: &'a Pictures<'a>,
    language: Option<&'a str>,
) -> Result<impl Iterator<Item = Found> + 'a, AnnotationError> {
    let Annotations { images, annotations } = serde_json::from_slice(annotations)?;
    let mut captions: HashMap<u64, Vec<(u64, Cow<'a, str>)>> = HashMap::new();
    for annotation in annotations {
        captions.entry(annotation.image_id).or_default().push((annotation.id, annotation.caption));
    }
    let listed: HashSet<u64> = images.iter().map(|image| image.id).collect();
    let mut unknown: Vec<u64> = captions.keys().copied().filter(|id| !listed.contains(id)).collect();
    unknown.sort_unstable();
    let unknown = unknown.into_iter().map(move |id| {
        let reason = SkipReason::UnknownImage { id };
        Err(Skipped { shard: name.to_owned(), key: id.to_string(), member: name.to_owned(), reason })
    });
    let records = images.into_iter().map(move |image| {
        let mut texts = captions.remove(&image.id).unwrap_or_default();
        if texts.is_empty() {
            let (key, member) = (image.id.to_string(), image.file_name.into_owned());
            return Err(Skipped { shard: name.to_owned(), key, member, reason: SkipReason::NoCaption });
        }
        texts.sort_unstable_by_key(|(id, _)| *id);
        let columns = Map::from_iter([("image_id".to_owned(), image.id.into())]);
        let record = pictures.named(&image.file_name, columns, name)?;
        let captions = texts.iter().map(|(_, text)| Caption::new(text.trim(), language)).collect();
        Ok(Record {
            captions,
            size: image.width.zip(image.height).map(|(width, height)| [width, height]),
            ..record
        })
    });
    Ok(pictures.broken().chain(unknown).chain(records))
}
