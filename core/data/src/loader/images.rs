//! Decodes and resizes the images of a set of records, on all threads of the current rayon pool.
//!
//! Records enter, [`Prepared`] pictures leave in the same order. Records whose image does not decode are left
//! out and named, up to a limit.

use rayon::prelude::*;

use super::{BadRecords, TooManyBad};
use crate::{
    image::{DecodeLimits, ImageSpec, Prepared, decode},
    record::{Record, SkipReason, Skipped},
    shard::Shards,
};

/// Pictures ready for tensors.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Index of each picture's record.
    pub kept: Vec<u32>,
    /// The pictures, as many as `kept`.
    pub images: Vec<Prepared>,
    /// Records that were left out, sorted by shard and key.
    pub skipped: Vec<Skipped>,
}

/// Prepares the image of every record.
///
/// # Errors
/// [`TooManyBad`] if more than `max_bad` records have no image that can be read; it names all of them.
pub fn load_images(
    records: &[Record],
    shards: &Shards,
    spec: &ImageSpec,
    limits: &DecodeLimits,
    max_bad: usize,
) -> Result<Images, TooManyBad> {
    let results: Vec<Result<Prepared, Skipped>> =
        records.par_iter().map(|record| load_image(record, shards, spec, limits)).collect();
    let bad = BadRecords::new(max_bad);
    let (mut loaded, mut verdict) = (Images::default(), Ok(()));
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(image) => {
                loaded.kept.push(index as u32);
                loaded.images.push(image);
            }
            // The last verdict carries the whole list.
            Err(skipped) => verdict = bad.report(skipped),
        }
    }
    verdict?;
    Ok(Images { skipped: bad.skipped(), ..loaded })
}

/// Prepares the image of one record.
///
/// # Errors
/// What is wrong with it, as a [`Skipped`] that names the record.
pub fn load_image(
    record: &Record,
    shards: &Shards,
    spec: &ImageSpec,
    limits: &DecodeLimits,
) -> Result<Prepared, Skipped> {
    let shard = shards.get(&record.shard).map(|shard| shard.name.clone()).unwrap_or_default();
    let skip = |reason| Skipped {
        shard: shard.clone(),
        key: record.key.clone(),
        member: record.key.clone(),
        reason,
    };
    let part = record.image().ok_or_else(|| skip(SkipReason::MissingImage))?;
    let missing =
        |error: crate::shard::ShardError| skip(SkipReason::MissingBytes { message: error.to_string() });
    let bytes = shards.bytes(part).map_err(missing)?;
    let image = decode(&bytes, limits)
        .map_err(|error| skip(SkipReason::Undecodable { message: error.to_string() }))?;
    Ok(Prepared::new(&image, spec))
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
