//! Sums and scalings over a whole slice.
//!
//! Must not know: shapes.

use rayon::prelude::*;

use super::math::{LANES, fma};
use super::simd::multiversion;
use super::split::CHUNK;

/// `sum x^2` in double precision and one order, for clipping by norm.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(CHUNK).map(chunk_squares).collect();
    parts.iter().sum()
}

/// `y += a x`.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| add_chunk(a, x, y));
}

/// `x <- a x`.
pub fn scale(a: f32, x: &mut [f32]) {
    x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|v| *v *= a));
}

multiversion! {
    fn chunk_squares(x: &[f32]) -> f64 {
        let mut acc = [0.0_f64; LANES];
        let (chunks, tail) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                let v = f64::from(chunk[l]);
                // The square of an `f32` is exact in `f64`, so fusing would not change a bit.
                acc[l] += v * v;
            }
        }
        for (a, v) in acc.iter_mut().zip(tail) {
            *a += f64::from(*v) * f64::from(*v);
        }
        acc.iter().sum()
    }

    fn add_chunk(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = fma::<FMA>(a, *x, *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random};

    #[test]
    fn vectors_follow_their_formulas() {
        for len in [0, 1, 15, 16, 17, 1000, CHUNK + 3] {
            let (x, y) = (random(len, 1), random(len, 2));
            let exact: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!((sum_of_squares(&x) - exact).abs() <= 1e-12 * exact);
            let mut out = y.clone();
            axpy(0.5, &x, &mut out);
            let exact = |i: usize| f64::from(y[i]) + 0.5 * f64::from(x[i]);
            assert_close(&out, &(0..len).map(exact).collect::<Vec<_>>(), 1e-6);
            scale(4.0, &mut out);
            let exact = |i: usize| 4.0 * f64::from(y[i]) + 2.0 * f64::from(x[i]);
            assert_close(&out, &(0..len).map(exact).collect::<Vec<_>>(), 1e-6);
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let x = random(5 * CHUNK + 9, 1);
        assert_same_on_any_threads(|| {
            let mut y = x.clone();
            axpy(0.3, &x, &mut y);
            vec![vec![sum_of_squares(&x) as f32], y]
        });
    }
}
