//! A picture at a model's size: decoded and resized once, read many times.
//!
//! [`Rgba8`] and [`ImageSpec`] enter, [`Prepared`] leaves; it gives the plain tensor here and augmented ones
//! through `augment`.

use image::Rgba;
use rand_chacha::ChaCha8Rng;

use super::{Augment, ImageSpec, Resize, Rgba8, augment, resize};

/// A picture at working size: 3 bytes a pixel, 7 where some pixel is transparent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Height and width.
    pub(crate) size: [u32; 2],
    /// `[H,W,3]`, composited onto the background before resizing: what the model sees without augmentation.
    pub(crate) rgb: Vec<u8>,
    /// `[H,W,4]`, colours premultiplied with alpha, resized as such; `None` where the picture is opaque.
    pub(crate) layer: Option<Vec<u8>>,
}

/// Composites, resizes and normalises a picture: `[3,H,W]`, channels R, G, B.
pub fn preprocess(image: &Rgba8, spec: &ImageSpec) -> Vec<f32> {
    Prepared::opaque(image, spec).tensor(spec)
}

impl Prepared {
    /// Resizes a picture to the spec's size, keeping what augmentation needs.
    pub fn new(image: &Rgba8, spec: &ImageSpec) -> Self {
        let transparent = image.pixels().any(|pixel| pixel[3] != 255);
        let layer = transparent.then(|| {
            let mut layer = fit::<4>(&premultiply(image), image, spec, with_alpha(spec.mean_colour()));
            clip_to_alpha(&mut layer);
            layer
        });
        Self { layer, ..Self::opaque(image, spec) }
    }

    fn opaque(image: &Rgba8, spec: &ImageSpec) -> Self {
        let rgb = fit::<3>(&composite(image, spec.background), image, spec, spec.mean_colour());
        Self { size: spec.size, rgb, layer: None }
    }

    /// Height and width in pixels.
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Bytes that it takes in memory.
    pub fn byte_len(&self) -> usize {
        size_of::<Self>() + self.rgb.len() + self.layer.as_ref().map_or(0, Vec::len)
    }

    /// The composited picture, `[H,W,3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture normalised, `[3,H,W]`; the same bits as [`preprocess`] gives for the original.
    pub fn tensor(&self, spec: &ImageSpec) -> Vec<f32> {
        let mut tensor = Vec::with_capacity(self.rgb.len());
        for channel in 0..3 {
            let table: [f32; 256] = std::array::from_fn(|sample| spec.normalised(channel, sample as u8));
            tensor.extend(self.rgb.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        }
        tensor
    }

    /// One random view, normalised, `[3,H,W]`; see [`augment`].
    pub fn augmented(&self, options: &Augment, spec: &ImageSpec, rng: &mut ChaCha8Rng) -> Vec<f32> {
        augment(self, options, spec, rng)
    }
}

/// Resizes interleaved samples of `image`'s size as the spec says; padding takes colour `pad`.
fn fit<const C: usize>(samples: &[u8], image: &Rgba8, spec: &ImageSpec, pad: [u8; C]) -> Vec<u8> {
    let (from, to) = ([image.height(), image.width()], spec.size);
    if from.contains(&0) || to.contains(&0) {
        return Vec::new();
    }
    match spec.resize {
        Resize::Square => resize::<C>(samples, from, to, spec.filter),
        Resize::ShortSide => {
            let covering = covering_size(from, to);
            crop_centre::<C>(&resize::<C>(samples, from, covering, spec.filter), covering, to)
        }
        Resize::PadSquare => {
            let side = from[0].max(from[1]);
            resize::<C>(&pad_square(samples, from, pad), [side; 2], to, spec.filter)
        }
    }
}

/// The smallest size of the picture's shape that covers `to`; the free side is rounded down.
fn covering_size([height, width]: [u32; 2], [to_height, to_width]: [u32; 2]) -> [u32; 2] {
    let scaled = |side: u32, by: u32, of: u32| (u64::from(side) * u64::from(by) / u64::from(of)) as u32;
    if u64::from(height) * u64::from(to_width) <= u64::from(width) * u64::from(to_height) {
        [to_height, scaled(width, to_height, height).max(to_width)]
    } else {
        [scaled(height, to_width, width).max(to_height), to_width]
    }
}

fn crop_centre<const C: usize>(samples: &[u8], from: [u32; 2], to: [u32; 2]) -> Vec<u8> {
    // Half pixels round to even, as torchvision's centre crop does.
    let margin = |axis: usize| (f64::from(from[axis] - to[axis]) / 2.0).round_ties_even() as usize;
    let (top, left, width, rows) = (margin(0), margin(1) * C, to[1] as usize * C, to[0] as usize);
    let rows = samples.chunks_exact(from[1] as usize * C).skip(top).take(rows);
    rows.flat_map(|row| &row[left..left + width]).copied().collect()
}

fn pad_square<const C: usize>(samples: &[u8], [height, width]: [u32; 2], pad: [u8; C]) -> Vec<u8> {
    let [height, width] = [height as usize, width as usize];
    let side = height.max(width);
    let (top, left) = ((side - height) / 2, (side - width) / 2 * C);
    let mut square = pad.repeat(side * side);
    let rows = square.chunks_exact_mut(side * C).skip(top);
    for (to, from) in rows.zip(samples.chunks_exact(width * C)) {
        to[left..left + width * C].copy_from_slice(from);
    }
    square
}

fn with_alpha([r, g, b]: [u8; 3]) -> [u8; 4] {
    [r, g, b, 255]
}

/// `sample * alpha / 255`, rounded.
fn times_alpha(sample: u8, alpha: u8) -> u8 {
    ((u32::from(sample) * u32::from(alpha) + 127) / 255) as u8
}

fn composite(image: &Rgba8, background: [u8; 3]) -> Vec<u8> {
    let over = |pixel: &Rgba<u8>| -> [u8; 3] {
        let alpha = u32::from(pixel[3]);
        std::array::from_fn(|c| {
            let sum = u32::from(pixel[c]) * alpha + u32::from(background[c]) * (255 - alpha);
            ((sum + 127) / 255) as u8
        })
    };
    image.pixels().flat_map(over).collect()
}

fn premultiply(image: &Rgba8) -> Vec<u8> {
    let one =
        |Rgba([r, g, b, a]): &Rgba<u8>| [times_alpha(*r, *a), times_alpha(*g, *a), times_alpha(*b, *a), *a];
    image.pixels().flat_map(one).collect()
}

/// Kernels with negative lobes overshoot; a premultiplied colour cannot exceed its alpha.
fn clip_to_alpha(layer: &mut [u8]) {
    for [r, g, b, a] in layer.as_chunks_mut::<4>().0 {
        for sample in [r, g, b] {
            *sample = (*sample).min(*a);
        }
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
