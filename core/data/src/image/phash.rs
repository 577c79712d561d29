//! A perceptual hash: pictures that look alike have hashes that differ in few bits.

use std::sync::LazyLock;

use image::{RgbImage, Rgba, RgbaImage};
use image_hasher::{HashAlg, Hasher, HasherConfig};

/// The median hash over the low frequencies of a cosine transform, 8 x 8 bits, as `imagehash.phash` and most data sets mean
/// it; transparent pixels count as white.
static HASHER: LazyLock<Hasher<[u8; 8]>> = LazyLock::new(|| {
    HasherConfig::with_bytes_type::<[u8; 8]>()
        .hash_size(8, 8)
        .hash_alg(HashAlg::Median)
        .preproc_dct()
        .to_hasher()
});

/// The hash of a picture. Two of one picture, scaled or compressed, differ in a few of its 64 bits.
pub fn phash(picture: &RgbaImage) -> u64 {
    let over = |Rgba([r, g, b, a]): &Rgba<u8>| {
        let on_white = |sample: u8| {
            let sum = u32::from(sample) * u32::from(*a) + 255 * (255 - u32::from(*a));
            (sum / 255) as u8
        };
        image::Rgb([on_white(*r), on_white(*g), on_white(*b)])
    };
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (to, from) in opaque.pixels_mut().zip(picture.pixels()) {
        *to = over(from);
    }
    let hash = HASHER.hash_image(&opaque);
    hash.as_bytes().iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(all(test, feature = "emoji"))]
mod tests {
    use super::*;
    use crate::{
        image::{DecodeLimits, decode},
        shard::{Shard, Shards},
        webdataset::{ScanOptions, scan},
    };

    #[test]
    fn alike_pictures_have_near_hashes_and_others_have_not() {
        let shard = Shard::embedded("val-0000.tar").unwrap();
        let records = scan(&shard, &ScanOptions::default()).records;
        let shards: Shards = [shard].into_iter().collect();
        let pictures: Vec<RgbaImage> = records
            .iter()
            .take(40)
            .map(|record| {
                decode(&shards.bytes(record.image().unwrap()).unwrap(), &DecodeLimits::default()).unwrap()
            })
            .collect();
        let hashes: Vec<u64> = pictures.iter().map(phash).collect();
        let mut near = 0;
        for (place, picture) in pictures.iter().enumerate() {
            let smaller = image::imageops::resize(picture, 57, 57, image::imageops::FilterType::Triangle);
            let distance = (phash(&smaller) ^ hashes[place]).count_ones();
            near += u32::from(distance <= 6);
            for other in &hashes[..place] {
                assert_ne!(hashes[place], *other);
            }
        }
        assert!(near >= 38, "{near} of 40");
    }
}
