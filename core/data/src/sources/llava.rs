//! LLaVA conversations: a JSON list of `{ id, image, conversations: [{ from, value }] }`.

use serde_json::{Map, Value};

use super::{AnnotationError, Found, Pictures};
use crate::{
    record::{Record, SkipReason, Skipped},
    text::dialogue::Round,
};

/// The conversations in the order of the file. Columns are what the entry has (`id`, `conversations`, `model`..) but for
/// `image`; the key is the entry's id, or its place where it has none. Entries
/// without a picture, which LLaVA's mixtures have, are passed over; entries of another form are named.
///
/// # Errors
/// [`AnnotationError`] with the place, if the file is no list of objects. It is held in memory.
pub fn llava<'a>(
    annotations: &[u8],
    name: &'a str,
    pictures: &'a Pictures<'a>,
) -> Result<impl Iterator<Item = Found> + 'a, AnnotationError> {
    let entries: Vec<Map<String, Value>> = serde_json::from_slice(annotations)?;
    let records = entries.into_iter().enumerate().filter_map(move |(place, mut entry)| {
        let key = match entry.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => place.to_string(),
        };
        let skip = |reason| Skipped { shard: name.to_owned(), key: key.clone(), member: key.clone(), reason };
        if let Err(error) = Round::list(entry.get("conversations").unwrap_or(&Value::Null)) {
            return Some(Err(skip(SkipReason::InvalidEntry { place, message: error.to_string() })));
        }
        match entry.shift_remove("image") {
            Some(Value::String(path)) if !path.is_empty() => {
                let record = pictures.named(&path, entry, name);
                Some(record.map(|record| Record { key, ..record }))
            }
            Some(Value::Null | Value::String(_)) | None => None,
            Some(_) => {
                let message = "`image` is not a path".to_owned();
                Some(Err(skip(SkipReason::InvalidEntry { place, message })))
            }
        }
    });
    Ok(pictures.broken().chain(records))
}
