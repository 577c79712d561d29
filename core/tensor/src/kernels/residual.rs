//! The residual connection `x + keep gamma y`, with layer scale (Touvron et al. 2021, CaiT) and stochastic
//! depth (Huang et al. 2016).
//!
//! Must not know: how `keep` was drawn.

use rayon::prelude::*;

use super::math::fma;
use super::simd::multiversion;
use super::split::{CHUNK, add_column_sums, rows_per_task};

/// `out = x + keep gamma y`; what is absent counts as 1.
///
/// # Shapes
/// - `x, y, out: [B, ..., C]`, `gamma: [C]`, `keep: [B]` (0, or 1 over the probability of being kept)
pub fn forward(x: &[f32], y: &[f32], gamma: Option<&[f32]>, keep: Option<&[f32]>, out: &mut [f32]) {
    assert!(x.len() == out.len() && y.len() == out.len());
    for_each_piece(out, gamma, keep, |from, keep, out| {
        let pieces = (&x[from..][..out.len()], &y[from..][..out.len()]);
        match gamma {
            Some(gamma) => add_scaled(pieces, gamma, keep, out),
            None => add_plain(pieces, keep, out),
        }
    });
}

/// `dx += dout`, `dy += keep gamma dout`, `dgamma += sum over rows of keep dout y`.
///
/// `y` is read for `dgamma` only, which needs `gamma`.
///
/// # Shapes
/// - as in [`forward`]
pub fn backward(
    y: &[f32],
    gamma: Option<&[f32]>,
    keep: Option<&[f32]>,
    dout: &[f32],
    dx: Option<&mut [f32]>,
    dy: Option<&mut [f32]>,
    dgamma: Option<&mut [f32]>,
) {
    if let Some(dx) = dx {
        assert_eq!(dx.len(), dout.len());
        let tasks = dx.par_chunks_mut(CHUNK).zip(dout.par_chunks(CHUNK));
        tasks.for_each(|(dx, dout)| accumulate(dout, 1.0, dx));
    }
    if let Some(dy) = dy {
        assert_eq!(dy.len(), dout.len());
        for_each_piece(dy, gamma, keep, |from, keep, dy| {
            let dout = &dout[from..][..dy.len()];
            match gamma {
                Some(gamma) => accumulate_scaled(dout, gamma, keep, dy),
                None => accumulate(dout, keep, dy),
            }
        });
    }
    if let (Some(dgamma), Some(gamma)) = (dgamma, gamma) {
        let width = gamma.len();
        assert!(dgamma.len() == width && y.len() == dout.len());
        let rows = dout.len() / width.max(1);
        let rows_of_sample = keep.map_or(rows, |keep| rows / keep.len().max(1));
        add_column_sums(dgamma, rows, |rows, first, acc| {
            for row in rows {
                let keep = keep.map_or(1.0, |keep| keep[row / rows_of_sample]);
                let from = row * width + first;
                scale_columns(&dout[from..][..acc.len()], &y[from..][..acc.len()], keep, acc);
            }
        });
    }
}

/// Calls `work(offset, keep, piece)` in parallel on pieces of `out` that hold whole rows of one sample.
fn for_each_piece(
    out: &mut [f32],
    gamma: Option<&[f32]>,
    keep: Option<&[f32]>,
    work: impl Fn(usize, f32, &mut [f32]) + Sync,
) {
    let len = out.len();
    if len == 0 {
        return;
    }
    let sample = keep.map_or(len, |keep| len / keep.len());
    assert!(keep.is_none_or(|keep| sample * keep.len() == len), "samples divide the batch");
    assert!(gamma.is_none_or(|gamma| sample.is_multiple_of(gamma.len())), "rows divide a sample");
    let piece = gamma.map_or(CHUNK, |gamma| rows_per_task(gamma.len()) * gamma.len());
    out.par_chunks_mut(sample).enumerate().for_each(|(b, out)| {
        let keep = keep.map_or(1.0, |keep| keep[b]);
        let pieces = out.par_chunks_mut(piece).enumerate();
        pieces.for_each(|(i, out)| work(b * sample + i * piece, keep, out));
    });
}

multiversion! {
    fn add_plain(pieces: (&[f32], &[f32]), keep: f32, out: &mut [f32]) {
        for ((o, x), y) in out.iter_mut().zip(pieces.0).zip(pieces.1) {
            *o = fma::<FMA>(keep, *y, *x);
        }
    }

    fn add_scaled(pieces: (&[f32], &[f32]), gamma: &[f32], keep: f32, out: &mut [f32]) {
        let width = gamma.len();
        let rows = pieces.0.chunks_exact(width).zip(pieces.1.chunks_exact(width));
        for (out, (x, y)) in out.chunks_exact_mut(width).zip(rows) {
            for ((o, x), (y, gamma)) in out.iter_mut().zip(x).zip(y.iter().zip(gamma)) {
                *o = fma::<FMA>(keep * *gamma, *y, *x);
            }
        }
    }

    fn accumulate(dout: &[f32], keep: f32, dy: &mut [f32]) {
        for (dy, d) in dy.iter_mut().zip(dout) {
            *dy = fma::<FMA>(keep, *d, *dy);
        }
    }

    fn accumulate_scaled(dout: &[f32], gamma: &[f32], keep: f32, dy: &mut [f32]) {
        let width = gamma.len();
        for (dy, dout) in dy.chunks_exact_mut(width).zip(dout.chunks_exact(width)) {
            for ((dy, d), gamma) in dy.iter_mut().zip(dout).zip(gamma) {
                *dy = fma::<FMA>(keep * *gamma, *d, *dy);
            }
        }
    }

    fn scale_columns(dout: &[f32], y: &[f32], keep: f32, acc: &mut [f32]) {
        for ((a, d), y) in acc.iter_mut().zip(dout).zip(y) {
            *a = fma::<FMA>(keep * *d, *y, *a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random};

    fn at(values: Option<&[f32]>, i: usize) -> f64 {
        values.map_or(1.0, |v| f64::from(v[i]))
    }

    #[test]
    fn forward_and_gradients_follow_the_formula() {
        let (batch, rows, width) = (3, 5, 19);
        let len = batch * rows * width;
        let (x, y, dout) = (random(len, 1), random(len, 2), random(len, 3));
        let (gamma, keep) = (random(width, 4), vec![0.0, 1.25, 1.25]);
        for gamma in [None, Some(&gamma[..])] {
            for keep in [None, Some(&keep[..])] {
                let factor = |i: usize| at(gamma, i % width) * at(keep, i / (rows * width));
                let mut out = vec![f32::NAN; len];
                forward(&x, &y, gamma, keep, &mut out);
                let exact = |i: usize| f64::from(x[i]) + factor(i) * f64::from(y[i]);
                assert_close(&out, &(0..len).map(exact).collect::<Vec<_>>(), 1e-6);

                let (mut dx, mut dy, mut dgamma) = (vec![1.0; len], vec![1.0; len], vec![1.0; width]);
                backward(&y, gamma, keep, &dout, Some(&mut dx), Some(&mut dy), Some(&mut dgamma));
                let exact = |i: usize| 1.0 + f64::from(dout[i]);
                assert_close(&dx, &(0..len).map(exact).collect::<Vec<_>>(), 1e-6);
                let exact = |i: usize| 1.0 + factor(i) * f64::from(dout[i]);
                assert_close(&dy, &(0..len).map(exact).collect::<Vec<_>>(), 1e-6);
                if gamma.is_some() {
                    let term = |i: usize| at(keep, i / (rows * width)) * f64::from(dout[i]) * f64::from(y[i]);
                    let exact = |c: usize| 1.0 + (c..len).step_by(width).map(term).sum::<f64>();
                    assert_close(&dgamma, &(0..width).map(exact).collect::<Vec<_>>(), 1e-5);
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (batch, width) = (3, 131);
        let (x, y) = (random(batch * 200 * width, 1), random(batch * 200 * width, 2));
        let (gamma, keep) = (random(width, 3), random(batch, 4));
        assert_same_on_any_threads(|| {
            let (mut out, mut dy, mut dgamma) = (x.clone(), x.clone(), gamma.clone());
            forward(&x, &y, Some(&gamma), Some(&keep), &mut out);
            backward(&y, Some(&gamma), Some(&keep), &x, None, Some(&mut dy), Some(&mut dgamma));
            vec![out, dy, dgamma]
        });
    }
}
