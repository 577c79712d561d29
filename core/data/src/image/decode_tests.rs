use image::{DynamicImage, ImageEncoder, RgbImage, codecs::jpeg::JpegEncoder};
use proptest::prelude::*;

use super::*;

/// A PNG put together by hand, so that every bit depth can be had: zlib data may be stored, not compressed.
fn png(width: u32, height: u32, depth: u8, colour: u8, extra: &[(&[u8; 4], &[u8])], rows: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([depth, colour, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut bytes, b"IHDR", &header);
    extra.iter().for_each(|(name, data)| chunk(&mut bytes, name, data));
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, rows).unwrap();
    chunk(&mut bytes, b"IDAT", &encoder.finish().unwrap());
    chunk(&mut bytes, b"IEND", &[]);
    bytes
}

fn chunk(bytes: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    bytes.extend((data.len() as u32).to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    bytes.extend(name);
    bytes.extend(data);
    bytes.extend(crc.sum().to_be_bytes());
}

fn pixels(bytes: &[u8]) -> Vec<[u8; 4]> {
    decode(bytes, &DecodeLimits::default()).unwrap().pixels().map(|pixel| pixel.0).collect()
}

#[test]
fn palettes_of_every_bit_depth_with_transparency() {
    let palette: &[u8] = &[10, 20, 30, 200, 100, 0];
    for (depth, row) in [(1, 0b0100_0000), (2, 0b0001_0000), (4, 0b0000_0001)] {
        let bytes = png(2, 1, depth, 3, &[(b"PLTE", palette), (b"tRNS", &[0, 128])], &[0, row]);
        assert_eq!(pixels(&bytes), [[10, 20, 30, 0], [200, 100, 0, 128]], "depth {depth}");
    }
    let bytes = png(2, 1, 8, 3, &[(b"PLTE", palette), (b"tRNS", &[7])], &[0, 0, 1]);
    assert_eq!(pixels(&bytes), [[10, 20, 30, 7], [200, 100, 0, 255]]);
}

#[test]
fn grey_and_colour_of_every_bit_depth() {
    for (depth, row) in [(1, 0b1000_0000), (2, 0b1100_0000), (4, 0b1111_0000)] {
        assert_eq!(pixels(&png(2, 1, depth, 0, &[], &[0, row])), [[255; 4], [0, 0, 0, 255]], "depth {depth}");
    }
    assert_eq!(pixels(&png(1, 1, 8, 0, &[(b"tRNS", &[0, 9])], &[0, 9])), [[9, 9, 9, 0]]);
    assert_eq!(pixels(&png(1, 1, 16, 0, &[], &[0, 0x80, 0x80])), [[128, 128, 128, 255]]);
    assert_eq!(pixels(&png(1, 1, 8, 4, &[], &[0, 5, 6])), [[5, 5, 5, 6]]);
    assert_eq!(pixels(&png(1, 1, 8, 2, &[], &[0, 1, 2, 3])), [[1, 2, 3, 255]]);
    assert_eq!(pixels(&png(1, 1, 16, 2, &[], &[0, 255, 255, 0, 0, 128, 128])), [[255, 0, 128, 255]]);
    assert_eq!(pixels(&png(1, 1, 8, 6, &[], &[0, 1, 2, 3, 4])), [[1, 2, 3, 4]]);
}

#[test]
fn jpeg_decodes_opaque() {
    let mut bytes = Vec::new();
    let grey = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, image::Rgb([90, 90, 90])));
    JpegEncoder::new(&mut bytes).write_image(grey.as_bytes(), 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    assert!(pixels(&bytes).iter().all(|p| p[3] == 255 && p[0].abs_diff(90) < 3));
}

#[test]
fn a_declared_size_beyond_the_limit_is_refused_before_decoding() {
    let bomb = png(60_000, 60_000, 8, 6, &[], &[0]);
    let error = decode(&bomb, &DecodeLimits::default()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
    assert!(matches!(
        decode(&png(4, 4, 8, 0, &[], &[0]), &DecodeLimits { max_pixels: 15 }),
        Err(DecodeError::TooLarge { .. })
    ));
}

#[test]
fn other_formats_and_damage_are_errors() {
    assert!(matches!(decode(b"BM    ", &DecodeLimits::default()), Err(DecodeError::Format)));
    assert!(decode(b"GIF89a", &DecodeLimits::default()).is_err());
    assert!(matches!(decode(b"", &DecodeLimits::default()), Err(DecodeError::Format)));
    assert!(decode(&png(4, 4, 8, 0, &[], &[0, 1]), &DecodeLimits::default()).is_err());
    assert!(decode(&png(0, 4, 8, 0, &[], &[]), &DecodeLimits::default()).is_err());
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..90, with in any::<[u8; 4]>(), cut in 8usize..100) {
        let mut bytes = png(2, 2, 8, 3, &[(b"PLTE", &[1, 2, 3, 4, 5, 6]), (b"tRNS", &[9])], &[0, 0, 1, 0, 1, 0]);
        let at = at.min(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&with);
        bytes.truncate(cut);
        let _ = decode(&bytes, &DecodeLimits { max_pixels: 1 << 20 });
    }
}
