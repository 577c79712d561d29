//! Random views of a picture for training.
//!
//! A [`Prepared`] picture and a random stream enter, a normalised `[3,H,W]` tensor leaves. Geometry (crop, flip,
//! affine) is one map, sampled once, bilinearly; then colour, background and outline. Every random value is
//! drawn whether a knob uses it or not, so changing one knob leaves the others' draws alone.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{ImageSpec, Prepared};

/// What may happen to a picture; the default is nothing. Probabilities lie in 0..1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Augment {
    /// A random box of the picture fills the view. It is cut at working size, so small boxes come out soft.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Probability of mirroring left and right.
    pub horizontal_flip: f32,
    /// A random rotation, scaling and shift.
    pub affine: Option<Affine>,
    /// Probability of mixing the colours with their mean, by a share uniform in 0..1.
    pub grayscale: f32,
    /// Each channel is multiplied with 1 + N(0, this squared).
    pub brightness: f32,
    /// Probability that a uniformly drawn colour shows behind transparent pixels, not the spec's background.
    pub background: f32,
    /// Probability of drawing edges in black on white instead of the picture: helps with line art.
    pub outline: f32,
}

/// A random box, as in Inception's training: its area and its shape are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RandomResizedCrop {
    /// Bounds of the box's share of the picture's area, in 0..1.
    pub scale: [f32; 2],
    /// Bounds of width over height; drawn uniformly in its logarithm.
    pub ratio: [f32; 2],
}

/// A random affine map around the centre. What it pulls in from outside is transparent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Affine {
    /// Largest angle to either side, in radians.
    pub rotate_rad: f32,
    /// Bounds of the factor on the sampled window: above 1 the picture shrinks.
    pub scale: [f32; 2],
    /// Largest shift along each axis, in half sides.
    pub translate: f32,
}

/// A knob outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("augmentation `{knob}` must {must}")]
pub struct AugmentError {
    /// The knob's name in a file.
    pub knob: &'static str,
    /// What it must do.
    pub must: &'static str,
}

impl Augment {
    /// Checks every knob's range.
    ///
    /// # Errors
    /// [`AugmentError`] names the first knob that is out of range.
    pub fn check(&self) -> Result<(), AugmentError> {
        let ordered = |[low, high]: [f32; 2]| low > 0.0 && low <= high && high.is_finite();
        let share = |p: f32| (0.0..=1.0).contains(&p);
        let size = |x: f32| x >= 0.0 && x.is_finite();
        let (crop, affine) = (self.random_resized_crop.as_ref(), self.affine.as_ref());
        let (probability, range) = ("lie in 0..1", "be two positive numbers, the smaller first");
        let checks = [
            (crop.is_none_or(|c| ordered(c.scale) && c.scale[1] <= 1.0), "random-resized-crop.scale", range),
            (crop.is_none_or(|c| ordered(c.ratio)), "random-resized-crop.ratio", range),
            (share(self.horizontal_flip), "horizontal-flip", probability),
            (affine.is_none_or(|a| size(a.rotate_rad)), "affine.rotate-rad", "be finite and not negative"),
            (affine.is_none_or(|a| ordered(a.scale)), "affine.scale", range),
            (affine.is_none_or(|a| size(a.translate)), "affine.translate", "be finite and not negative"),
            (share(self.grayscale), "grayscale", probability),
            (size(self.brightness), "brightness", "be finite and not negative"),
            (share(self.background), "background", probability),
            (share(self.outline), "outline", probability),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, knob, must)) => Err(AugmentError { knob, must }),
            None => Ok(()),
        }
    }

    /// The mix that suits the emoji pack; 0.4 is a good strength for a few minutes' training, 0 flips only.
    pub fn emoji(strength: f32) -> Self {
        Self {
            random_resized_crop: None,
            horizontal_flip: 0.5,
            affine: Some(Affine {
                rotate_rad: 0.3 * strength,
                scale: [1.0 - 0.05 * strength, 1.0 + 0.5 * strength],
                translate: 0.25 * strength,
            }),
            grayscale: 0.35 * strength,
            brightness: 0.25 * strength,
            background: 0.5 * strength,
            outline: 0.15 * strength,
        }
    }
}

/// One random view, normalised, `[3,H,W]`.
pub fn augment(picture: &Prepared, options: &Augment, spec: &ImageSpec, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let draw = Draw::new(options, spec, rng);
    let mut view = match draw.geometry {
        Some(map) => sample(picture, &map),
        None => pixels(picture),
    };
    tint(&mut view, &draw);
    let mut rgb = over_background(&view, draw.background);
    if draw.outline {
        outline(&mut rgb, picture.size);
    }
    normalise(&mut rgb, spec);
    rgb
}

/// Maps output to source coordinates, both -1..1 over the picture: `x' = m[0]x + m[1]y + m[2]`, `y'` likewise.
type Map = [[f32; 3]; 2];

/// One view's random choices.
struct Draw {
    geometry: Option<Map>,
    grey: f32,
    gain: [f32; 3],
    background: [f32; 3],
    outline: bool,
}

impl Draw {
    fn new(options: &Augment, spec: &ImageSpec, rng: &mut ChaCha8Rng) -> Self {
        let crop: [f32; 4] = rng.r#gen();
        let flip = rng.r#gen::<f32>() < options.horizontal_flip;
        let affine: [f32; 4] = rng.r#gen();
        let (mix, mixed) = (rng.r#gen::<f32>(), rng.r#gen::<f32>() < options.grayscale);
        let normal: [f32; 3] = std::array::from_fn(|_| StandardNormal.sample(rng));
        let (colour, coloured) = (rng.r#gen::<[f32; 3]>(), rng.r#gen::<f32>() < options.background);
        let outline = rng.r#gen::<f32>() < options.outline;
        Self {
            geometry: geometry(options, spec, crop, flip, affine),
            grey: if mixed { mix } else { 0.0 },
            gain: normal.map(|n| 1.0 + options.brightness * n),
            background: if coloured { colour } else { spec.background.map(|c| f32::from(c) / 255.0) },
            outline,
        }
    }
}

/// Crop after affine after flip, as one map; `None` where nothing moves. The arrays are uniform in 0..1.
fn geometry(
    options: &Augment,
    spec: &ImageSpec,
    crop: [f32; 4],
    flip: bool,
    affine: [f32; 4],
) -> Option<Map> {
    if options.random_resized_crop.is_none() && options.affine.is_none() && !flip {
        return None;
    }
    let [height, width] = spec.size.map(|side| side as f32);
    let mut map = options.affine.as_ref().map_or([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], |a| a.map(affine));
    if flip {
        map = map.map(|[x, y, shift]| [-x, y, shift]);
    }
    if let Some(options) = &options.random_resized_crop {
        let boxed = options.boxed(crop, width / height);
        for (row, [half, centre]) in map.iter_mut().zip(boxed) {
            *row = [row[0] * half, row[1] * half, row[2] * half + centre];
        }
    }
    Some(map)
}

fn between([low, high]: [f32; 2], share: f32) -> f32 {
    low + (high - low) * share
}

impl Affine {
    fn map(&self, draw: [f32; 4]) -> Map {
        let angle = between([-self.rotate_rad, self.rotate_rad], draw[0]);
        let scale = between(self.scale, draw[1]);
        let shift = |share| between([-self.translate, self.translate], share);
        let (sin, cos) = (scale * angle.sin(), scale * angle.cos());
        [[cos, -sin, shift(draw[2])], [sin, cos, shift(draw[3])]]
    }
}

impl RandomResizedCrop {
    /// Half side and centre of the box along x and y, in -1..1. A box that would not fit is made to.
    fn boxed(&self, draw: [f32; 4], aspect: f32) -> [[f32; 2]; 2] {
        let area = between(self.scale, draw[0]);
        // `ratio` is in pixels; divided by the picture's own it is in shares of the sides.
        let ratio = between(self.ratio.map(f32::ln), draw[1]).exp() / aspect;
        let halves = [(area * ratio).sqrt().min(1.0), (area / ratio).sqrt().min(1.0)];
        std::array::from_fn(|axis| {
            let room = 1.0 - halves[axis];
            [halves[axis], between([-room, room], draw[2 + axis])]
        })
    }
}

/// A view in floats 0..1: premultiplied pixels `[H*W]` of R, G, B, A.
type Pixels = Vec<[f32; 4]>;

fn pixels(picture: &Prepared) -> Pixels {
    match &picture.layer {
        Some(layer) => layer.as_chunks::<4>().0.iter().map(|pixel| pixel.map(unit)).collect(),
        None => picture.rgb.as_chunks::<3>().0.iter().map(|[r, g, b]| [*r, *g, *b, 255].map(unit)).collect(),
    }
}

fn unit(sample: u8) -> f32 {
    f32::from(sample) * (1.0 / 255.0)
}

/// Bilinear sampling; pixel centres lie at half-integers, and everything outside is transparent black.
fn sample(picture: &Prepared, map: &Map) -> Pixels {
    let [height, width] = picture.size.map(|side| side as usize);
    let (w, h) = (width as f32, height as f32);
    let (source, stride) = (with_border(&pixels(picture), width, height), width + BORDER);
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height {
        let y = (2 * row + 1) as f32 / h - 1.0;
        for column in 0..width {
            let x = (2 * column + 1) as f32 / w - 1.0;
            let [from_x, from_y] = map.map(|m| m[0] * x + m[1] * y + m[2]);
            // Positions in the bordered picture, where its first pixel has number 1; at the clamps all is border.
            let from_x = ((from_x + 1.0) * 0.5 * w + 0.5).clamp(0.0, w + 1.0);
            let from_y = ((from_y + 1.0) * 0.5 * h + 0.5).clamp(0.0, h + 1.0);
            let (left, top) = (from_x as i32, from_y as i32);
            let (fx, fy) = (from_x - left as f32, from_y - top as f32);
            let at = top as usize * stride + left as usize;
            let (upper, lower) = (&source[at..at + 2], &source[at + stride..at + stride + 2]);
            out.push(std::array::from_fn(|c| {
                let above = upper[0][c] + (upper[1][c] - upper[0][c]) * fx;
                let below = lower[0][c] + (lower[1][c] - lower[0][c]) * fx;
                above + (below - above) * fy
            }));
        }
    }
    out
}

/// Transparent pixels around a picture, per axis: one before it, two after.
const BORDER: usize = 3;

fn with_border(pixels: &[[f32; 4]], width: usize, height: usize) -> Pixels {
    let stride = width + BORDER;
    let mut bordered = vec![[0.0; 4]; stride * (height + BORDER)];
    let rows = bordered.chunks_exact_mut(stride).skip(1);
    for (to, from) in rows.zip(pixels.chunks_exact(width.max(1))) {
        to[1..=width].copy_from_slice(from);
    }
    bordered
}

/// Grey mix and channel gains; premultiplied colours stay within 0 and their alpha.
fn tint(view: &mut [[f32; 4]], draw: &Draw) {
    for pixel in view {
        let grey = (pixel[0] + pixel[1] + pixel[2]) / 3.0 * draw.grey;
        let alpha = pixel[3];
        for (sample, gain) in pixel.iter_mut().zip(draw.gain) {
            *sample = ((*sample * (1.0 - draw.grey) + grey) * gain).max(0.0).min(alpha);
        }
    }
}

/// Composites onto a colour: `[3,H*W]`.
fn over_background(view: &[[f32; 4]], background: [f32; 3]) -> Vec<f32> {
    let mut rgb = Vec::with_capacity(view.len() * 3);
    for (channel, behind) in background.into_iter().enumerate() {
        rgb.extend(view.iter().map(|pixel| pixel[channel] + behind * (1.0 - pixel[3])));
    }
    rgb
}

/// Replaces the picture by 1 - 3 |gradient| of its grey values, the gradient taken to the right and below.
fn outline(rgb: &mut [f32], [height, width]: [u32; 2]) {
    let (height, width) = (height as usize, width as usize);
    let pixels = height * width;
    let grey: Vec<f32> =
        (0..pixels).map(|i| (rgb[i] + rgb[pixels + i] + rgb[2 * pixels + i]) / 3.0).collect();
    for (i, value) in grey.iter().enumerate() {
        let right = if (i + 1) % width == 0 { 0.0 } else { (grey[i + 1] - value).abs() };
        let below = grey.get(i + width).map_or(0.0, |next| (next - value).abs());
        let edge = (1.0 - 3.0 * (right + below)).clamp(0.0, 1.0);
        (0..3).for_each(|channel| rgb[channel * pixels + i] = edge);
    }
}

fn normalise(rgb: &mut [f32], spec: &ImageSpec) {
    let pixels = rgb.len() / 3;
    for (channel, plane) in rgb.chunks_exact_mut(pixels.max(1)).enumerate() {
        let (mean, scale) = (spec.mean[channel], 1.0 / spec.std[channel]);
        plane.iter_mut().for_each(|sample| *sample = (*sample - mean) * scale);
    }
}

#[cfg(test)]
#[path = "augment_tests.rs"]
mod tests;
