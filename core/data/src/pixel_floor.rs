//! The floor that any model has to beat: the nearest training picture by correlation of raw pixels.
//!
//! Prepared pictures enter, neighbours leave. Where drawing styles copy each other's layout this baseline is
//! high, so an accuracy without it says little.

use rayon::prelude::*;

use crate::image::Prepared;

/// Side of the thumbnails that are compared.
const SIDE: usize = 24;
const FEATURES: usize = 3 * SIDE * SIDE;
/// Test pictures that share one walk over the training set; their sums fit in the vector registers.
const ROWS: usize = 4;
const LANES: usize = 8;

/// A test picture's nearest training picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its index in the training set.
    pub index: u32,
    /// Pearson correlation of the two thumbnails' samples.
    pub correlation: f32,
}

/// Finds, for every test picture, the training picture of highest correlation over 24 x 24 x 3 area averages;
/// the first one wins a tie. Without a training picture the result is empty.
///
/// The order of summation is fixed: same result for any number of threads, on every machine.
pub fn pixel_floor(train: &[Prepared], test: &[Prepared]) -> Vec<Neighbour> {
    if train.is_empty() {
        return Vec::new();
    }
    let features = |set: &[Prepared]| set.par_iter().map(thumbnail).collect::<Vec<_>>();
    let (train, test) = (features(train), features(test));
    test.par_chunks(ROWS).flat_map_iter(|rows| nearest(&train, rows)).collect()
}

fn nearest(train: &[Vec<f32>], rows: &[Vec<f32>]) -> Vec<Neighbour> {
    let mut best = vec![Neighbour { index: 0, correlation: f32::NEG_INFINITY }; rows.len()];
    // A short last block repeats a row; the copies' results are not read.
    let block: [&[f32]; ROWS] = std::array::from_fn(|i| rows[i.min(rows.len() - 1)].as_slice());
    for (index, candidate) in train.iter().enumerate() {
        for (best, correlation) in best.iter_mut().zip(dots(candidate, block)) {
            if correlation > best.correlation {
                *best = Neighbour { index: index as u32, correlation };
            }
        }
    }
    best
}

/// Dot products of one vector with several. Each has eight running sums, so that vector units stay busy; their
/// order is the same on every machine.
fn dots(candidate: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    let mut sums = [[0f32; LANES]; ROWS];
    let candidate = candidate.as_chunks::<LANES>().0;
    let rows = rows.map(|row| &row.as_chunks::<LANES>().0[..candidate.len()]);
    for (i, candidate) in candidate.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for lane in 0..LANES {
                sums[lane] += candidate[lane] * row[i][lane];
            }
        }
    }
    sums.map(|sums| sums.iter().sum())
}

/// The picture averaged to 24 x 24, centred, of unit length; a flat picture is all zeros.
fn thumbnail(picture: &Prepared) -> Vec<f32> {
    let [height, width] = picture.size().map(|side| side as usize);
    let mut features = Vec::with_capacity(FEATURES);
    for row in 0..SIDE {
        for column in 0..SIDE {
            features.extend(mean_colour(picture.rgb(), width, span(row, height), span(column, width)));
        }
    }
    let mean = features.iter().sum::<f32>() / FEATURES as f32;
    features.iter_mut().for_each(|value| *value -= mean);
    let norm = features.iter().map(|value| value * value).sum::<f32>().sqrt();
    features.iter_mut().for_each(|value| *value /= norm.max(1e-12));
    features
}

/// The pixels that cell `i` of [`SIDE`] touches, as adaptive average pooling has it.
fn span(i: usize, side: usize) -> std::ops::Range<usize> {
    i * side / SIDE..((i + 1) * side).div_ceil(SIDE)
}

fn mean_colour(
    rgb: &[u8],
    width: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> [f32; 3] {
    let count = (rows.len() * columns.len()) as f32;
    let mut sums = [0u32; 3];
    for row in rows {
        for pixel in
            rgb[(row * width + columns.start) * 3..(row * width + columns.end) * 3].as_chunks::<3>().0
        {
            sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += u32::from(*sample));
        }
    }
    sums.map(|sum| sum as f32 / count)
}
