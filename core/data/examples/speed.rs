//! Measures what a training step pays for images: `cargo run --release -p heddle-data --example speed`.
#![expect(clippy::print_stdout, reason = "a measurement is for reading")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

use std::{hint::black_box, time::Instant};

use heddle_data::{
    ScanOptions, Shard, Shards, image::Augment, image::DecodeLimits, image::ImageSpec, loader::load_images,
    pixel_floor, rng,
};

fn main() {
    let shard = Shard::embedded("train-0000.tar").unwrap();
    let start = Instant::now();
    let records = heddle_data::scan(&shard, &ScanOptions::default()).records;
    let per = |start: Instant, n: usize| start.elapsed().as_secs_f64() * 1e6 / n as f64;
    println!("scan          {:8.1} us a record", per(start, records.len()));

    let shards: Shards = [shard].into_iter().collect();
    let spec = ImageSpec { size: [32, 32], ..ImageSpec::default() };
    let start = Instant::now();
    let images = load_images(&records, &shards, &spec, &DecodeLimits::default(), 0).unwrap().images;
    println!("decode+resize {:8.1} us an image, all threads", per(start, images.len()));

    let options = Augment::emoji(0.4);
    let start = Instant::now();
    for (i, image) in images.iter().enumerate() {
        black_box(image.augmented(&options, &spec, &mut rng(1, &[i as u64])));
    }
    println!("augment       {:8.1} us an image of 32x32", per(start, images.len()));

    let start = Instant::now();
    black_box(pixel_floor(&images, &images));
    println!("pixel floor   {:8.4} us a pair, all threads", per(start, images.len() * images.len()));
}
