//! Images of every kind against what Pillow sees in them, and images that lie about their size.
//!
//! `make.py` wrote the files and `expected.json`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bombs;
mod pillow;

use std::{fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Writes big-endian 16-bit numbers at the start of a JPEG frame's size: height, then width.
fn with_jpeg_size(mut bytes: Vec<u8>, height: u16, width: u16) -> Vec<u8> {
    let mut at = 2;
    while !matches!(bytes[at + 1], 0xc0 | 0xc2) {
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    }
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// Sets the size of a GIF's screen and of its first frame.
fn with_gif_size(mut bytes: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let frame = bytes.iter().position(|byte| *byte == b',').unwrap();
    for at in [6, frame + 5] {
        bytes[at..at + 2].copy_from_slice(&width.to_le_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&height.to_le_bytes());
    }
    bytes
}

/// A PNG chunk with its checksum.
fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
}

/// The end of a PNG's signature and header, where other chunks begin.
const PNG_HEADER: usize = 33;

/// A PNG with another size in its header.
fn with_png_size(bytes: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut header = bytes[16..29].to_vec();
    header[..4].copy_from_slice(&width.to_be_bytes());
    header[4..8].copy_from_slice(&height.to_be_bytes());
    [&bytes[..8], &png_chunk(b"IHDR", &header), &bytes[PNG_HEADER..]].concat()
}
