//! Columns of scores to probabilities and back; a hidden key's score is minus infinity.
//!
//! In: `[keys, columns]`, row-major, one column for each query. Keys run down a column because a maximum or a
//! sum over rows is one vector instruction a row, while a sum along a row ends in a dozen of them, which small
//! heads would feel. The number of columns is a multiple of 8.
//!
//! Must not know: masks, heads, tiles.

use super::math::{exp_nonpositive, fma, ln};
use super::simd::multiversion;

multiversion! {
    /// `scores <- e^(scores - maximum of the column)`, `lse <- ` log-sum-exp of the column, and
    /// `inverse <- 1 / sum of the column`, which turns the new scores into probabilities.
    ///
    /// In a column of hidden keys all become 0, the log-sum-exp minus infinity and the inverse 0.
    pub fn softmax_columns(scores: &mut [f32], stride: usize, lse: &mut [f32], inverse: &mut [f32]) {
        let (wide, narrow) = cut(lse.len());
        for at in wide {
            softmax_strip::<FMA, 16>(scores, stride, at, lse, inverse);
        }
        for at in narrow {
            softmax_strip::<FMA, 8>(scores, stride, at, lse, inverse);
        }
    }

    /// Scores to probabilities, by the log-sum-exp that [`softmax_columns`] gave.
    pub fn probability_columns(scores: &mut [f32], stride: usize, lse: &[f32]) {
        let (wide, narrow) = cut(lse.len());
        for at in wide {
            probability_strip::<FMA, 16>(scores, stride, at, lse);
        }
        for at in narrow {
            probability_strip::<FMA, 8>(scores, stride, at, lse);
        }
    }

    /// Gradient of the probabilities to gradient of the scores before `scale`:
    /// `ds <- scale p (ds - sum over the column of p ds)`.
    pub fn gradient_columns(p: &[f32], ds: &mut [f32], stride: usize, columns: usize, scale: f32) {
        let (wide, narrow) = cut(columns);
        for at in wide {
            gradient_strip::<FMA, 16>(p, ds, stride, at, scale);
        }
        for at in narrow {
            gradient_strip::<FMA, 8>(p, ds, stride, at, scale);
        }
    }
}

/// Where the strips of 16 columns begin, and the strips of 8.
#[inline(always)]
fn cut(columns: usize) -> (impl Iterator<Item = usize>, impl Iterator<Item = usize>) {
    debug_assert!(columns.is_multiple_of(8));
    let whole = columns / 16 * 16;
    ((0..whole).step_by(16), (whole..columns).step_by(8))
}

#[inline(always)]
fn softmax_strip<const FMA: bool, const L: usize>(
    scores: &mut [f32],
    stride: usize,
    at: usize,
    lse: &mut [f32],
    inverse: &mut [f32],
) {
    let mut top = [f32::NEG_INFINITY; L];
    for row in scores.chunks_exact(stride) {
        let row = &row[at..at + L];
        for l in 0..L {
            // A NaN is left out here; it stays in the scores.
            top[l] = if row[l] > top[l] { row[l] } else { top[l] };
        }
    }
    let shift = top.map(finite_or_zero);
    let mut total = [0.0; L];
    for row in scores.chunks_exact_mut(stride) {
        let row = &mut row[at..at + L];
        for l in 0..L {
            row[l] = exp_nonpositive::<FMA>(row[l] - shift[l]);
            total[l] += row[l];
        }
    }
    let (lse, inverse) = (&mut lse[at..at + L], &mut inverse[at..at + L]);
    for l in 0..L {
        lse[l] = shift[l] + ln::<FMA>(total[l]);
        inverse[l] = if total[l] == 0.0 { 0.0 } else { 1.0 / total[l] };
    }
}

#[inline(always)]
fn probability_strip<const FMA: bool, const L: usize>(
    scores: &mut [f32],
    stride: usize,
    at: usize,
    lse: &[f32],
) {
    let mut shift = [0.0; L];
    shift.copy_from_slice(&lse[at..at + L]);
    let shift = shift.map(finite_or_zero);
    for row in scores.chunks_exact_mut(stride) {
        let row = &mut row[at..at + L];
        for l in 0..L {
            row[l] = exp_nonpositive::<FMA>(row[l] - shift[l]);
        }
    }
}

#[inline(always)]
fn gradient_strip<const FMA: bool, const L: usize>(
    p: &[f32],
    ds: &mut [f32],
    stride: usize,
    at: usize,
    scale: f32,
) {
    let mut mean = [0.0; L];
    for (p, ds) in p.chunks_exact(stride).zip(ds.chunks_exact(stride)) {
        let (p, ds) = (&p[at..at + L], &ds[at..at + L]);
        for l in 0..L {
            mean[l] = fma::<FMA>(p[l], ds[l], mean[l]);
        }
    }
    for (p, ds) in p.chunks_exact(stride).zip(ds.chunks_exact_mut(stride)) {
        let (p, ds) = (&p[at..at + L], &mut ds[at..at + L]);
        for l in 0..L {
            ds[l] = scale * p[l] * (ds[l] - mean[l]);
        }
    }
}

/// What to take from a column: nothing if all its keys are hidden, for infinities have no difference.
#[inline(always)]
fn finite_or_zero(top: f32) -> f32 {
    if top == f32::NEG_INFINITY { 0.0 } else { top }
}
