//! What `decode` gives for each file, against Pillow's `convert("RGBA")`.

use heddle_data::image::{DecodeLimits, decode};
use serde_json::Value;

use crate::{file, folder};

/// Files of which we see something else than Pillow, and the pixels that we see (first ones of the first row).
const OTHERWISE: [(&str, &[[u8; 4]]); 2] = [
    // Pillow cuts 16-bit grey off at 255, so that 0x0180 is white; we round it to eight bits.
    ("grey16.png", &[[0, 0, 0, 255], [1, 1, 1, 255], [128, 128, 128, 255], [255, 255, 255, 255]]),
    // Where a GIF's first frame leaves the screen free, Pillow shows a colour of the palette, browsers nothing.
    (
        "small-frame.gif",
        &[
            [48, 16, 128, 255],
            [48, 16, 128, 255],
            [48, 16, 128, 255],
            [128, 48, 128, 255],
            [128, 48, 128, 255],
            [208, 16, 128, 255],
            [208, 16, 128, 255],
            [208, 16, 128, 255],
            [0; 4],
            [0; 4],
        ],
    ),
];

/// How far samples may be off: decoders of lossy formats round differently, and Pillow drops the low byte of 16-bit
/// colour where we round.
fn tolerance(name: &str) -> u8 {
    match name {
        "rgb16.png" => 1,
        "lossy.webp" => 2,
        _ if name.ends_with(".jpg") => 2,
        _ => 0,
    }
}

fn pixels(name: &str) -> Result<([u64; 2], Vec<[u8; 4]>), String> {
    let image = decode(&file(name), &DecodeLimits::default()).map_err(|error| error.to_string())?;
    let size = [image.width(), image.height()].map(u64::from);
    Ok((size, image.pixels().map(|pixel| pixel.0).collect()))
}

fn expected(entry: &Value) -> ([u64; 2], Vec<[u8; 4]>) {
    let hex = entry["rgba"].as_str().unwrap().as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    let bytes: Vec<u8> = hex.chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect();
    let size = [0, 1].map(|axis| entry["size"][axis].as_u64().unwrap());
    (size, bytes.as_chunks::<4>().0.to_vec())
}

#[test]
fn pictures_are_what_pillow_sees() {
    let table: Value = serde_json::from_slice(&file("expected.json")).unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let entry = &table[&name];
        if entry["rgba"].is_null() || OTHERWISE.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let (size, pixels_expected) = expected(entry);
        match pixels(&name) {
            Ok((found, _)) if found != size => wrong.push(format!("{name}: {found:?}, not {size:?}")),
            Ok((_, found)) => {
                let pairs = found.iter().flatten().zip(pixels_expected.iter().flatten());
                let off = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                if off > tolerance(&name) {
                    wrong.push(format!(
                        "{name}: off by {off}: {:?}, not {:?}",
                        &found[..4],
                        &pixels_expected[..4]
                    ));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 20, "{compared} files were compared");
}

#[test]
fn where_we_see_something_else_it_is_known() {
    for (name, expected) in OTHERWISE {
        assert_eq!(&pixels(name).unwrap().1[..expected.len()], expected, "{name}");
    }
}

/// Pillow refuses it as well, unless it is told to load truncated images.
#[test]
fn a_truncated_jpeg_is_an_error() {
    let found = pixels("truncated.jpg").map(|(size, _)| size);
    insta::assert_snapshot!(found.unwrap_err(), @"Format error decoding Jpeg: it is truncated");
}

/// As Pillow's plain `open` does: the tag says that the picture lies on its side, and nobody turns it.
#[test]
fn the_orientation_that_a_camera_noted_is_ignored() {
    let bytes = file("orientation.jpg");
    assert!(bytes.windows(4).any(|window| window == b"Exif"));
    assert_eq!(pixels("orientation.jpg").unwrap().0, [8, 4]);
}
