//! Decodes PNG, JPEG, WebP and GIF to 8-bit RGBA.
//!
//! Bytes enter, pixels leave. The declared size is checked before anything is allocated, so a small file that
//! claims to be huge costs nothing.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};

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
    Broken(#[from] image::ImageError),
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

/// Decodes a PNG (any bit depth, palette, transparency), a JPEG, a WebP or a GIF, of animations the first frame. 16-bit samples are rounded to 8 bits, grey
/// is repeated, a missing alpha is 255.
///
/// # Errors
/// [`DecodeError`]; never panics on damaged bytes.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgba8, DecodeError> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif)) => format,
        _ => return Err(DecodeError::Format),
    };
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions()?;
    let max_pixels = limits.max_pixels;
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(DecodeError::TooLarge { width, height, max_pixels });
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::Empty);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = Limits::no_limits();
    // Eight bytes a pixel (16-bit RGBA), and as much again for the decoder's own rows and tables.
    bounds.max_alloc = Some(max_pixels.saturating_mul(16).max(1 << 20));
    reader.limits(bounds);
    Ok(reader.decode()?.into_rgba8())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
