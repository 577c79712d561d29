//! Images: encoded bytes in, normalised `[3,H,W]` floats out.
//!
//! `decode` reads files, `sniff` what their first bytes say, `spec` says what a model wants, `resize` is the 8-bit convolution, `prepared` holds a
//! picture at its working size, and `augment` perturbs one.

mod augment;
mod decode;
mod phash;
mod prepared;
mod resize;
mod sniff;
mod spec;

pub use ::image::ImageFormat;
pub use augment::{Affine, Augment, AugmentError, RandomResizedCrop, augment};
/// The format of images that are made here.
pub const PNG: ImageFormat = ImageFormat::Png;
pub use decode::{DecodeError, DecodeLimits, Rgba8, decode};
pub use phash::phash;
pub use prepared::{Prepared, preprocess};
pub use resize::{Filter, resize};
pub use sniff::{extension_of, size_of};
pub use spec::{ImageSpec, Resize, SpecError};
