//! Separable 8-bit resampling that gives Pillow's bits.
//!
//! Models were trained on pictures that Pillow resized, so the same picture must come out. As there: the kernel
//! widens with the reduction (anti-aliasing), coefficients have 22 fractional bits, and each of the two passes
//! rounds to 8 bits. Rounding makes the order of the passes visible, so that is Pillow's too (version 13; before,
//! the horizontal pass always came first).

use serde::{Deserialize, Serialize};

/// A resampling kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Keys' cubic with a = -0.5, support 2.
    #[default]
    Bicubic,
    /// Triangle, support 1.
    Bilinear,
    /// Windowed sinc, support 3.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            _ if x >= self.support() => 0.0,
            Self::Bilinear => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) }
}

const FRACTION_BITS: u32 = 22;

/// The source samples that one destination sample is made of.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Resizes interleaved samples `[height, width, C]` to `[to_height, to_width, C]`; `from` and `to` are
/// (height, width). Nothing comes of a side of 0.
///
/// Channels do not mix: colours with alpha must come premultiplied.
pub fn resize<const C: usize>(samples: &[u8], from: [u32; 2], to: [u32; 2], filter: Filter) -> Vec<u8> {
    if from.contains(&0) || to.contains(&0) {
        return Vec::new();
    }
    if vertical_first(from, to) {
        let low = vertical(samples.to_vec(), from[0], to[0], filter);
        horizontal::<C>(low, from[1], to[1], filter)
    } else {
        let narrow = horizontal::<C>(samples.to_vec(), from[1], to[1], filter);
        vertical(narrow, from[0], to[0], filter)
    }
}

/// Pillow 13 starts with the rows if more than twice as many of them go as of the columns.
fn vertical_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [rows, columns] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    rows > 0 && rows > 2 * columns
}

fn windows(from: u32, to: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let centre = |i: u32| (f64::from(i) + 0.5) * scale;
    (0..to).map(|i| window(centre(i), support, stretch, from as usize, filter)).collect()
}

fn window(centre: f64, support: f64, stretch: f64, from: usize, filter: Filter) -> Window {
    // A negative edge saturates to 0, as the picture's border demands.
    let start = (centre - support + 0.5) as usize;
    let end = ((centre + support + 0.5) as usize).min(from);
    let inverse = 1.0 / stretch;
    let weight = |i: usize| filter.weight((i as f64 - centre + 0.5) * inverse);
    let weights: Vec<f64> = (start..end).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let fixed = |weight: f64| (weight / total * f64::from(1 << FRACTION_BITS)).round() as i32;
    Window { start, weights: weights.into_iter().map(fixed).collect() }
}

/// Resizes every row; rows that have their width stay as they are.
fn horizontal<const C: usize>(samples: Vec<u8>, from: u32, to: u32, filter: Filter) -> Vec<u8> {
    if from == to {
        return samples;
    }
    let windows = windows(from, to, filter);
    let mut out = Vec::with_capacity(samples.len() / from as usize * to as usize);
    for row in samples.chunks_exact(from as usize * C) {
        for window in &windows {
            let mut sums = [1 << (FRACTION_BITS - 1); C];
            for (pixel, weight) in row[window.start * C..].chunks_exact(C).zip(&window.weights) {
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*sample) * weight;
                }
            }
            out.extend(sums.map(to_sample));
        }
    }
    out
}

/// Resizes every column; columns that have their height stay as they are.
fn vertical(samples: Vec<u8>, from: u32, to: u32, filter: Filter) -> Vec<u8> {
    if from == to {
        return samples;
    }
    let row_len = samples.len() / from as usize;
    let mut out = Vec::with_capacity(row_len * to as usize);
    let mut sums = vec![0i32; row_len];
    for window in windows(from, to, filter) {
        sums.fill(1 << (FRACTION_BITS - 1));
        for (row, weight) in samples[window.start * row_len..].chunks_exact(row_len).zip(&window.weights) {
            for (sum, sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(*sample) * weight;
            }
        }
        out.extend(sums.iter().copied().map(to_sample));
    }
    out
}

fn to_sample(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat_in_every_filter() {
        for filter in [Filter::Bicubic, Filter::Bilinear, Filter::Lanczos] {
            for to in [[3, 5], [40, 31], [1, 1]] {
                assert!(resize::<1>(&[77; 17 * 13], [17, 13], to, filter).iter().all(|s| *s == 77));
            }
        }
    }

    #[test]
    fn the_order_of_passes_is_pillows() {
        // (height, width) measured with Pillow 13.0 on noise, both orders compared.
        let rows_first =
            [([97, 48], [42, 42]), ([97, 48], [84, 42]), ([100, 100], [20, 90]), ([40, 50], [30, 49])];
        let columns_first =
            [([61, 83], [42, 42]), ([64, 60], [42, 42]), ([40, 50], [39, 30]), ([30, 20], [42, 42])];
        assert!(rows_first.into_iter().all(|(from, to)| vertical_first(from, to)));
        assert!(!columns_first.into_iter().any(|(from, to)| vertical_first(from, to)));
    }

    #[test]
    fn a_side_of_zero_gives_nothing() {
        assert!(resize::<3>(&[], [0, 4], [4, 4], Filter::Bicubic).is_empty());
        assert!(resize::<3>(&[0; 48], [4, 4], [4, 0], Filter::Bicubic).is_empty());
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let samples: Vec<u8> = (0..=255).collect();
        assert_eq!(resize::<4>(&samples, [8, 8], [8, 8], Filter::Lanczos), samples);
    }
}
