//! The nearest-picture baseline on the emoji pack has the accuracy that was measured for it.
#![cfg(feature = "emoji")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use heddle_data::{
    Record, ScanOptions, Shard, Shards, emoji,
    image::{DecodeLimits, Filter, ImageSpec, Prepared},
    loader::load_images,
    pixel_floor, scan,
};

fn split(prefix: &str) -> (Vec<Record>, Vec<Prepared>) {
    let names = emoji::files().iter().map(|file| file.name);
    let names = names.filter(|name| name.starts_with(prefix) && name.ends_with(".tar"));
    let shards: Vec<Shard> = names.map(|name| Shard::embedded(name).unwrap()).collect();
    let records =
        shards.iter().flat_map(|shard| scan(shard, &ScanOptions::default()).records).collect::<Vec<_>>();
    let shards: Shards = shards.into_iter().collect();
    let spec = ImageSpec { size: [32, 32], filter: Filter::Lanczos, ..ImageSpec::default() };
    let images = load_images(&records, &shards, &spec, &DecodeLimits::default(), 0).unwrap().images;
    (records, images)
}

/// Percent of the seen concepts whose nearest training picture shows the same concept.
fn accuracy(train: &(Vec<Record>, Vec<Prepared>), test: &(Vec<Record>, Vec<Prepared>)) -> f64 {
    let neighbours = pixel_floor(&train.1, &test.1);
    let seen = test.0.iter().zip(&neighbours).filter(|(record, _)| record.columns["novel"] == false);
    let right = |(record, n): &(&Record, &heddle_data::Neighbour)| {
        train.0[n.index as usize].columns["cp"] == record.columns["cp"]
    };
    let (count, hits) = (seen.clone().count(), seen.filter(right).count());
    100.0 * hits as f64 / count as f64
}

#[test]
fn the_floor_is_where_it_was_measured() {
    let train = split("train");
    assert_eq!(train.1.len(), 3482);
    for (name, published) in [("test-id", 30.0), ("shift-fxemoji", 37.6)] {
        let found = accuracy(&train, &split(name));
        assert!((found - published).abs() < 1.5, "{name}: {found:.1}, published {published}");
    }
}

#[test]
fn no_training_picture_no_neighbour() {
    assert!(pixel_floor(&[], &split("val").1).is_empty());
}
