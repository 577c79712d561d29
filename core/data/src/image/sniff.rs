//! What the first bytes of an encoded image say, without decoding it.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, guess_format};

/// The extension of a file with these bytes; `None` if they are no image that [`decode`](super::decode) reads.
pub fn extension_of(bytes: &[u8]) -> Option<&'static str> {
    match guess_format(bytes).ok()? {
        ImageFormat::Png => Some("png"),
        ImageFormat::Jpeg => Some("jpg"),
        ImageFormat::WebP => Some("webp"),
        ImageFormat::Gif => Some("gif"),
        _ => None,
    }
}

/// The declared width and height.
pub fn size_of(bytes: &[u8]) -> Option<[u32; 2]> {
    let format = guess_format(bytes).ok()?;
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().ok()?;
    Some([width, height])
}
