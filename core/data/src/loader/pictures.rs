//! The pictures of a training set: in memory as long as they fit, decoded again when needed beyond that.
//!
//! A [`Manifest`] and its [`Shards`] enter; [`Pictures`] gives any record's picture and columns by its place. Records
//! whose image does not decode are found once, at the start, and have no place.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{BadRecords, TooManyBad, load_image};
use crate::{
    image::{DecodeLimits, ImageSpec, Prepared},
    manifest::{Manifest, ManifestError},
    record::{Record, Skipped},
    shard::Shards,
};

/// Pictures that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PicturesError {
    /// More records are broken than the run allows.
    #[error(transparent)]
    TooManyBad(#[from] TooManyBad),
    /// The manifest does not read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A picture that decoded at the start no longer does.
    #[error("a picture changed while it was in use: {0}")]
    Changed(Skipped),
}

/// How pictures are loaded.
pub struct PicturesOptions<'a> {
    /// How many records may have no image that can be read.
    pub max_bad: usize,
    /// Bytes of pictures that are kept.
    pub memory: u64,
    /// Records whose picture is known to decode: it is not looked at before it is asked for.
    pub is_known: &'a (dyn Fn(&Record) -> bool + Sync),
    /// Whether to go on; asked now and then.
    pub going: &'a dyn Fn() -> bool,
}

/// Pictures and columns by place.
pub struct Pictures {
    manifest: Manifest,
    shards: Shards,
    spec: ImageSpec,
    limits: DecodeLimits,
    /// Index of each place's record.
    kept: Vec<u32>,
    images: Vec<Option<Prepared>>,
    skipped: Vec<Skipped>,
}

impl Pictures {
    /// Decodes every picture once, but for those that are known. Of them, as many are kept as fit into memory, from the front.
    ///
    /// # Errors
    /// [`PicturesError::TooManyBad`] if more records than are allowed have no image that can be read.
    pub fn load(
        manifest: Manifest,
        shards: Shards,
        spec: ImageSpec,
        options: &PicturesOptions<'_>,
    ) -> Result<Self, PicturesError> {
        let limits = DecodeLimits::default();
        let bad = BadRecords::new(options.max_bad);
        let (mut kept, mut images, mut used) = (Vec::new(), Vec::new(), 0_u64);
        let mut index = 0_u32;
        for batch in manifest.batches() {
            if !(options.going)() {
                break;
            }
            let records = manifest.records_of(&batch?)?;
            let load = |record: &Record| match (options.is_known)(record) {
                true => Ok(None),
                false => load_image(record, &shards, &spec, &limits).map(Some),
            };
            let loaded: Vec<Result<Option<Prepared>, Skipped>> = records.par_iter().map(load).collect();
            for image in loaded {
                match image {
                    Ok(image) => {
                        used += image.as_ref().map_or(0, |image| image.byte_len() as u64);
                        kept.push(index);
                        images.push(image.filter(|_| used <= options.memory));
                    }
                    Err(skipped) => bad.report(skipped)?,
                }
                index += 1;
            }
        }
        Ok(Self { manifest, shards, spec, limits, kept, images, skipped: bad.skipped() })
    }

    /// Every record has a place, and no picture is looked at before it is asked for: for those who want columns alone.
    pub fn unseen(manifest: Manifest, shards: Shards, spec: ImageSpec) -> Self {
        let kept: Vec<u32> = (0..manifest.len() as u32).collect();
        let images = kept.iter().map(|_| None).collect();
        Self { manifest, shards, spec, limits: DecodeLimits::default(), kept, images, skipped: Vec::new() }
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no picture decodes.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Records that have no place, sorted by shard and key.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The record at a place, with its fields among the columns.
    ///
    /// # Errors
    /// If the manifest does not read.
    pub fn record(&self, place: usize) -> Result<Record, ManifestError> {
        self.manifest.record(self.kept[place] as usize)
    }

    /// All records that have a place, in order.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ManifestError>> + '_ {
        let mut kept = self.kept.iter().peekable();
        self.manifest
            .records()
            .zip(0_u32..)
            .filter_map(move |(record, index)| kept.next_if(|place| **place == index).map(|_| record))
    }

    /// The picture at a place.
    ///
    /// # Errors
    /// If it has to be decoded again and its file changed.
    pub fn picture(&self, place: usize) -> Result<Cow<'_, Prepared>, PicturesError> {
        if let Some(image) = &self.images[place] {
            return Ok(Cow::Borrowed(image));
        }
        let image = load_image(&self.record(place)?, &self.shards, &self.spec, &self.limits);
        image.map(Cow::Owned).map_err(PicturesError::Changed)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Cursor, sync::Arc};

    use arrow_buffer::Buffer;

    use super::*;
    use crate::{
        digest,
        manifest::{Footer, RowWriter, ShardInfo},
        record::Part,
        shard::Shard,
    };

    /// Pictures of 1 to `count` pixels side by side, one of which is noise.
    fn data(count: u32, broken: u32) -> (Manifest, Shards) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for i in 0..count {
            let start = bytes.len();
            if i == broken {
                bytes.extend(b"noise");
            } else {
                let mut png = Vec::new();
                let image = crate::image::Rgba8::from_pixel(i + 1, 2, image::Rgba([i as u8; 4]));
                image.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
                bytes.extend(png);
            }
            places.push(start..bytes.len());
        }
        let shard = Shard::from_bytes("a.tar", Arc::new(bytes.clone()));
        let info = ShardInfo { name: "a.tar".into(), digest: shard.digest };
        let mut rows = RowWriter::new(Footer::new(vec![info]));
        for (i, range) in places.into_iter().enumerate() {
            let (offset, len) = (range.start as u64, range.len() as u64);
            let path = String::new();
            let part = Part { shard: shard.digest, path, offset, len, digest: digest::of(&bytes[range]) };
            let parts = BTreeMap::from([("png".to_owned(), part)]);
            rows.push(Record::new(i.to_string(), shard.digest, parts, Default::default())).unwrap();
        }
        let manifest = Manifest::open(Buffer::from(rows.finish(Vec::new()).unwrap())).unwrap();
        (manifest, [shard].into_iter().collect())
    }

    fn load(memory: u64, max_bad: usize) -> Result<Pictures, PicturesError> {
        let (manifest, shards) = data(6, 2);
        let spec = ImageSpec { size: [4, 4], ..ImageSpec::default() };
        let options = PicturesOptions { max_bad, memory, is_known: &|_| false, going: &|| true };
        Pictures::load(manifest, shards, spec, &options)
    }

    #[test]
    fn pictures_are_the_same_whether_they_are_kept_or_decoded_again() {
        let (kept, none, some) = (load(1 << 30, 1).unwrap(), load(0, 1).unwrap(), load(300, 1).unwrap());
        assert_eq!((kept.len(), none.len(), some.len()), (5, 5, 5));
        assert!(kept.images.iter().all(Option::is_some) && none.images.iter().all(Option::is_none));
        assert!(some.images[0].is_some() && some.images[4].is_none());
        for place in 0..5 {
            assert_eq!(kept.picture(place).unwrap(), none.picture(place).unwrap());
            assert_eq!(kept.picture(place).unwrap(), some.picture(place).unwrap());
        }
        let keys: Vec<String> = kept.records().map(|record| record.unwrap().key).collect();
        assert_eq!(keys, ["0", "1", "3", "4", "5"]);
        assert_eq!(kept.record(2).unwrap().key, "3");
    }

    #[test]
    fn too_many_broken_pictures_are_an_error() {
        assert_eq!(load(0, 1).unwrap().skipped().len(), 1);
        assert!(matches!(load(0, 0), Err(PicturesError::TooManyBad(_))));
    }
}
