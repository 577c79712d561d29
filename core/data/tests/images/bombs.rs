//! Small files that claim, or unpack to, something huge: refused before anything of that size is allocated.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::Write,
};

use heddle_data::image::{DecodeError, DecodeLimits, decode};

use crate::{PNG_HEADER, file, png_chunk, with_gif_size, with_jpeg_size, with_png_size};

/// Counts what each thread holds, so that tests beside this one do not count.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: both calls go to the system's allocator as they come; the cells need no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.with(|held| {
            held.set(held.get() + layout.size() as isize);
            PEAK.with(|peak| peak.set(peak.get().max(held.get())));
        });
        // SAFETY: the caller's promises are the ones that are wanted.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        HELD.with(|held| {
            held.set(held.get() + layout.size() as isize);
            PEAK.with(|peak| peak.set(peak.get().max(held.get())));
        });
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get() - layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were held at once, beyond what was held before.
fn peak<T>(run: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.get();
    PEAK.set(before);
    let value = run();
    (value, PEAK.get() - before)
}

/// The VP8L header holds both sides less one in 14 bits each.
fn with_lossless_webp_size(mut bytes: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    let at = bytes.windows(4).position(|window| window == b"VP8L").unwrap() + 9;
    let sides = (width - 1) | ((height - 1) << 14) | (1 << 28);
    bytes[at..at + 4].copy_from_slice(&sides.to_le_bytes());
    bytes
}

/// The VP8 header holds both sides in 14 bits each, after its start code.
fn with_lossy_webp_size(mut bytes: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let at = bytes.windows(3).position(|window| window == [0x9d, 0x01, 0x2a]).unwrap() + 3;
    bytes[at..at + 2].copy_from_slice(&width.to_le_bytes());
    bytes[at + 2..at + 4].copy_from_slice(&height.to_le_bytes());
    bytes
}

/// The canvas of an extended WebP: both sides less one in 24 bits each.
fn with_webp_canvas(mut bytes: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    let at = bytes.windows(4).position(|window| window == b"VP8X").unwrap() + 12;
    bytes[at..at + 3].copy_from_slice(&(width - 1).to_le_bytes()[..3]);
    bytes[at + 3..at + 6].copy_from_slice(&(height - 1).to_le_bytes()[..3]);
    bytes
}

fn error(bytes: &[u8]) -> (DecodeError, isize) {
    let (result, peak) = peak(|| decode(bytes, &DecodeLimits::default()));
    (result.unwrap_err(), peak)
}

#[test]
fn a_declared_size_over_the_limit_costs_nothing() {
    for (name, bytes) in [
        ("png", with_png_size(&file("rgb.png"), 60_000, 60_000)),
        ("interlaced png", with_png_size(&file("interlaced.png"), 60_000, 60_000)),
        ("jpeg", with_jpeg_size(file("rgb.jpg"), 65_500, 65_500)),
        ("progressive jpeg", with_jpeg_size(file("progressive.jpg"), 65_500, 65_500)),
        ("gif", with_gif_size(file("palette.gif"), 65_535, 65_535)),
        ("lossless webp", with_lossless_webp_size(file("lossless.webp"), 16_383, 16_383)),
        ("lossy webp", with_lossy_webp_size(file("lossy.webp"), 16_383, 16_383)),
        ("animated webp", with_webp_canvas(file("animated.webp"), 65_536, 65_535)),
    ] {
        let (error, peak) = error(&bytes);
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{name}: {error}");
        assert!(peak < 1 << 20, "{name}: {peak} bytes");
    }
}

#[test]
fn no_pixels_are_an_error() {
    let said: Vec<String> = [
        ("png", with_png_size(&file("rgb.png"), 0, 8)),
        ("jpeg", with_jpeg_size(file("rgb.jpg"), 0, 8)),
        ("jpeg", with_jpeg_size(file("rgb.jpg"), 8, 0)),
        ("gif", with_gif_size(file("palette.gif"), 0, 8)),
        ("lossy webp", with_lossy_webp_size(file("lossy.webp"), 0, 8)),
    ]
    .iter()
    .map(|(name, bytes)| format!("{name}: {}", error(bytes).0))
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// 64 MiB of zeros, which zlib packs in 64 KiB.
fn packed_zeros() -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&vec![0; 64 << 20]).unwrap();
    packer.finish().unwrap()
}

/// What stands beside the pixels (comments, a colour profile) is not unpacked, or up to a limit.
#[test]
fn packed_chunks_of_a_png_are_bounded() {
    let (picture, zeros) = (file("rgb.png"), packed_zeros());
    for (name, head) in
        [(b"zTXt", &b"Comment\0\0"[..]), (b"iTXt", b"Comment\0\x01\0\0\0"), (b"iCCP", b"icc\0\0")]
    {
        let chunk = png_chunk(name, &[head, &zeros].concat());
        let bytes = [&picture[..PNG_HEADER], &chunk, &picture[PNG_HEADER..]].concat();
        let (result, peak) = peak(|| decode(&bytes, &DecodeLimits::default()));
        let name = String::from_utf8_lossy(name);
        assert!(peak < 40 << 20, "{name}: {peak} bytes");
        if let Ok(image) = result {
            assert_eq!((image.width(), image.height()), (8, 8), "{name}");
        }
    }
}

/// Rows that never end: the pixels are those that the header declares, and the rest is not unpacked.
#[test]
fn a_png_with_more_rows_than_it_declares_is_bounded() {
    let picture = file("rgb.png");
    let bytes =
        [&picture[..PNG_HEADER], &png_chunk(b"IDAT", &packed_zeros()), &png_chunk(b"IEND", &[])].concat();
    let (result, peak) = peak(|| decode(&bytes, &DecodeLimits::default()));
    assert!(peak < 4 << 20, "{peak} bytes");
    assert!(
        result.is_err() || result.is_ok_and(|image| image.pixels().all(|pixel| pixel.0 == [0, 0, 0, 255]))
    );
}
