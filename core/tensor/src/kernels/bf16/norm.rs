//! RMS normalisation (Zhang and Sennrich 2019) into bf16 and within bf16, with statistics in `f32`.
//!
//! Must not know: what the rows are.

use super::element::Bf16;
use crate::kernels::math::{LANES, dot, fma, reduce};
use crate::kernels::simd::multiversion;

/// An RMS norm: `weight x / sqrt(mean(x^2) + eps)`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[C]`
    pub weight: Vec<f32>,
    /// Added to the mean square.
    pub eps: f32,
}

impl Norm {
    /// Normalises rows `x: [R, C]` into bf16 rows that start every `stride`.
    pub(super) fn round(&self, x: &[f32], out: &mut [Bf16], stride: usize) {
        assert_eq!(x.len() / self.weight.len(), out.len() / stride);
        round_rows(x, &self.weight, self.eps, out, stride);
    }

    /// Normalises in place the first C numbers of rows that start every `stride`.
    pub(super) fn in_place(&self, rows: &mut [Bf16], stride: usize) {
        rows_in_place(rows, &self.weight, self.eps, stride);
    }
}

multiversion! {
    fn round_rows(x: &[f32], w: &[f32], eps: f32, out: &mut [Bf16], stride: usize) {
        let width = w.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_mut(stride)) {
            let r = 1.0 / (dot::<FMA>(x, x) / width as f32 + eps).sqrt();
            for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
                *o = Bf16::round(*x * r * *w);
            }
        }
    }

    fn rows_in_place(rows: &mut [Bf16], w: &[f32], eps: f32, stride: usize) {
        let width = w.len();
        for row in rows.chunks_mut(stride) {
            let row = &mut row[..width];
            let r = 1.0 / (squares::<FMA>(row) / width as f32 + eps).sqrt();
            for (x, w) in row.iter_mut().zip(w) {
                *x = Bf16::round(x.widen() * r * *w);
            }
        }
    }
}

/// `sum x^2`, in the order of [`dot`].
#[inline(always)]
fn squares<const FMA: bool>(x: &[Bf16]) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            let x = chunk[l].widen();
            acc[l] = fma::<FMA>(x, x, acc[l]);
        }
    }
    for (a, x) in acc.iter_mut().zip(tail) {
        *a = fma::<FMA>(x.widen(), x.widen(), *a);
    }
    reduce(acc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::bf16::tests::{assert_near, rounded};
    use crate::kernels::reference::{random, to_f64};

    fn naive(x: &[f64], w: &[f32], eps: f64) -> Vec<f64> {
        let normed = x.chunks(w.len()).flat_map(|row| {
            let r = (row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64 + eps).sqrt();
            row.iter().zip(w).map(move |(v, w)| v / r * f64::from(*w))
        });
        normed.collect()
    }

    #[test]
    fn both_norms_agree_with_f64_and_leave_the_rest_of_a_row_alone() {
        for (rows, width) in [(1, 1), (3, 17), (2, 70), (5, 384)] {
            let (x, norm) = (random(rows * width, 1), Norm { weight: random(width, 2), eps: 1e-6 });
            let (stride, mark) = (width + 3, Bf16::round(7.0));
            let mut out = vec![mark; rows * stride];
            norm.round(&x, &mut out, stride);
            let parts = |out: &[Bf16]| -> Vec<f32> {
                assert!(out.chunks(stride).all(|row| row[width..] == [mark; 3]));
                out.chunks(stride).flat_map(|row| &row[..width]).map(|v| v.widen()).collect()
            };
            assert_near(&parts(&out), &naive(&to_f64(&x), &norm.weight, 1e-6), 4.5e-3);

            let mut out = vec![mark; rows * stride];
            for (out, x) in out.chunks_mut(stride).zip(x.chunks(width)) {
                out.iter_mut().zip(x).for_each(|(o, x)| *o = Bf16::round(*x));
            }
            norm.in_place(&mut out, stride);
            assert_near(&parts(&out), &naive(&rounded(&x), &norm.weight, 1e-6), 4.5e-3);
        }
    }
}
