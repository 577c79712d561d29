use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{digest, record::Part, shard::Shard};

/// A shard with one good picture, then noise; a record for each key.
fn data(bad: usize) -> (Vec<Record>, Shards) {
    let mut good = Vec::new();
    crate::image::Rgba8::new(2, 2)
        .write_to(&mut std::io::Cursor::new(&mut good), image::ImageFormat::Png)
        .unwrap();
    let bytes = [&good[..], b"noise"].concat();
    let shard = Shard::from_bytes("a.tar", Arc::new(bytes.clone()));
    let record = |key: String, range: std::ops::Range<usize>| {
        let (offset, len) = (range.start as u64, range.len() as u64);
        let part =
            Part { shard: shard.digest, path: String::new(), offset, len, digest: digest::of(&bytes[range]) };
        Record::new(key, shard.digest, BTreeMap::from([("png".to_owned(), part)]), Default::default())
    };
    let mut records = vec![record("good0".into(), 0..good.len())];
    records.extend((0..bad).map(|i| record(format!("bad{i}"), good.len()..bytes.len())));
    records.push(record("good1".into(), 0..good.len()));
    (records, [shard].into_iter().collect())
}

fn load(bad: usize, max_bad: usize) -> Result<Images, TooManyBad> {
    let (records, shards) = data(bad);
    load_images(&records, &shards, &ImageSpec::default(), &DecodeLimits::default(), max_bad)
}

#[test]
fn broken_images_are_left_out_and_named() {
    let images = load(2, 2).unwrap();
    assert_eq!((images.kept, images.images.len()), (vec![0, 3], 2));
    assert_eq!(images.skipped.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["bad0", "bad1"]);
}

#[test]
fn too_many_broken_images_fail_with_the_list() {
    insta::assert_snapshot!(load(3, 2).unwrap_err());
}

#[test]
fn a_shard_that_is_not_open_is_named() {
    let (records, _) = data(0);
    let skipped =
        load_image(&records[0], &Shards::new(), &ImageSpec::default(), &DecodeLimits::default()).unwrap_err();
    assert!(matches!(skipped.reason, SkipReason::MissingBytes { .. }));
}

#[test]
fn a_record_that_fails_twice_counts_once() {
    let skipped = Skipped {
        shard: "a.tar".into(),
        key: "k".into(),
        member: "k.png".into(),
        reason: SkipReason::MissingImage,
    };
    let bad = BadRecords::new(1);
    assert!(bad.report(skipped.clone()).is_ok() && bad.report(skipped.clone()).is_ok());
    assert!(bad.report(Skipped { key: "other".into(), ..skipped }).is_err());
}
