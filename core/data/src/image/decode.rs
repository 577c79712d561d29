//! Decodes PNG, JPEG, WebP and GIF to 8-bit RGBA.
//!
//! Bytes enter, pixels leave. The declared size is checked before anything is allocated, so a small file that
//! claims to be huge costs nothing. Models were trained on what Pillow's `Image.open(...).convert("RGB")` gives, so that
//! is what comes out, with these differences:
//!
//! | | Pillow | here |
//! |---|---|---|
//! | 16-bit colour | drops the low byte | rounds |
//! | 16-bit grey | cuts off at 255: nearly all is white | rounds to 8 bits |
//! | beside a GIF's first frame, where that is smaller than the screen | a colour of the palette | transparent |
//! | transparency | dropped by `convert("RGB")` | kept; the background shows |
//!
//! As there, the first frame of an animation counts, CMYK and YCCK are inverted as Adobe writes them, a colour profile
//! and the orientation that a camera noted (EXIF) are ignored, and a JPEG without an end is an error.

use std::io::Cursor;

use image::{
    ImageError, ImageFormat, ImageReader, Limits,
    error::{DecodingError, ImageFormatHint},
};

/// 8-bit RGBA pixels, alpha not premultiplied.
pub type Rgba8 = image::RgbaImage;

/// An image that does not decode.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Another format, or none.
    #[error("neither PNG, JPEG, WebP nor GIF")]
    Format,
    /// The declared size exceeds the limit.
    #[error("{width} x {height} pixels exceed the limit of {max_pixels}")]
    TooLarge {
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// The limit.
        max_pixels: u64,
    },
    /// The file has no pixel.
    #[error("the image has no pixels")]
    Empty,
    /// The file is damaged or uses an unsupported feature.
    #[error(transparent)]
    Broken(#[from] ImageError),
}

/// Bounds on what is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest width times height.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    /// 64 megapixels: more than cameras take, and 256 MiB when decoded.
    fn default() -> Self {
        Self { max_pixels: 64 << 20 }
    }
}

/// What may be allocated beside pixels: tables, rows, and a colour profile, which a PNG holds packed.
const BESIDE_BYTES: u64 = 16 << 20;

/// Decodes a PNG (any bit depth, palette, transparency), a JPEG, a WebP or a GIF, of animations the first frame. 16-bit
/// samples are rounded to 8 bits, grey is repeated, a missing alpha is 255.
///
/// # Errors
/// [`DecodeError`]; never panics on damaged bytes.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgba8, DecodeError> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif)) => format,
        _ => return Err(DecodeError::Format),
    };
    let (width, height) = reader(bytes, format, 0).into_dimensions()?;
    let (pixels, max_pixels) = (u64::from(width) * u64::from(height), limits.max_pixels);
    if pixels > max_pixels {
        return Err(DecodeError::TooLarge { width, height, max_pixels });
    }
    if pixels == 0 {
        return Err(DecodeError::Empty);
    }
    if format == ImageFormat::Jpeg && !has_end(bytes) {
        let format = ImageFormatHint::Exact(format);
        return Err(ImageError::Decoding(DecodingError::new(format, "it is truncated")).into());
    }
    Ok(reader(bytes, format, pixels).decode()?.into_rgba8())
}

/// A reader that allocates no more than so many pixels need.
fn reader(bytes: &[u8], format: ImageFormat, pixels: u64) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = Limits::no_limits();
    // Eight bytes a pixel (16-bit RGBA), and as much again for the decoder's own rows.
    bounds.max_alloc = Some(pixels.saturating_mul(16).saturating_add(BESIDE_BYTES));
    reader.limits(bounds);
    reader
}

/// Whether a JPEG has an end-of-image marker behind the start of its scan; the decoder takes what is missing for grey.
/// Segments before it may hold a thumbnail with an end of its own.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // Start of scan: in what follows, 0xff is followed by 0 unless it is a marker.
            0xda => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    }
    // No scan was found this way: the decoder knows better.
    true
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
