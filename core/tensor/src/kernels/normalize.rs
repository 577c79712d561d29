//! Rows scaled to unit length, as features are before they are compared.
//!
//! Must not know: what is compared.

use rayon::prelude::*;

use super::math::{dot, fma};
use super::simd::multiversion;
use super::split::rows_per_task;

/// `out = x / max(|x|, eps)`, row by row.
///
/// # Shapes
/// - `x, out: [R, width]`, `norm: [R]` (receives `max(|x|, eps)`)
pub fn forward(x: &[f32], width: usize, eps: f32, out: &mut [f32], norm: &mut [f32]) {
    assert!(width > 0 && x.len() == norm.len() * width && out.len() == x.len());
    let rows = rows_per_task(width);
    let tasks = out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
    tasks.zip(norm.par_chunks_mut(rows)).for_each(|((out, x), norm)| unit_rows(x, width, eps, out, norm));
}

/// `dx += (dy - out (out . dy)) / norm`; a row shorter than `eps` was only scaled, so `dx += dy / eps` there.
///
/// # Shapes
/// - `out, dy, dx: [R, width]` (`out` and `norm` from [`forward`]), `norm: [R]`
pub fn backward(out: &[f32], norm: &[f32], dy: &[f32], width: usize, eps: f32, dx: &mut [f32]) {
    assert!(width > 0 && out.len() == norm.len() * width && dy.len() == out.len() && dx.len() == out.len());
    let rows = rows_per_task(width);
    let tasks = dx.par_chunks_mut(rows * width).zip(out.par_chunks(rows * width));
    let tasks = tasks.zip(dy.par_chunks(rows * width)).zip(norm.par_chunks(rows));
    tasks.for_each(|(((dx, out), dy), norm)| input_rows(out, norm, dy, width, eps, dx));
}

multiversion! {
    fn unit_rows(x: &[f32], width: usize, eps: f32, out: &mut [f32], norm: &mut [f32]) {
        for ((x, out), norm) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(norm) {
            let length = dot::<FMA>(x, x).sqrt();
            *norm = if length < eps { eps } else { length };
            let scale = 1.0 / *norm;
            for (o, x) in out.iter_mut().zip(x) {
                *o = *x * scale;
            }
        }
    }

    fn input_rows(out: &[f32], norm: &[f32], dy: &[f32], width: usize, eps: f32, dx: &mut [f32]) {
        let rows = out.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((out, dy), dx), norm) in rows.zip(norm) {
            let along = if *norm > eps { dot::<FMA>(out, dy) } else { 0.0 };
            let scale = 1.0 / *norm;
            for ((dx, out), dy) in dx.iter_mut().zip(out).zip(dy) {
                *dx = fma::<FMA>(scale, fma::<FMA>(-*out, along, *dy), *dx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{
        assert_close, assert_same_on_any_threads, gradient, probe, random, to_f64,
    };

    const EPS: f32 = 1e-3;

    fn naive(x: &[f64], width: usize) -> Vec<f64> {
        let row = |x: &[f64]| {
            let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::from(EPS));
            x.iter().map(|v| v / norm).collect::<Vec<_>>()
        };
        x.chunks(width).flat_map(row).collect()
    }

    fn run(x: &[f32], dy: &[f32], width: usize) -> Vec<Vec<f32>> {
        let (mut out, mut norm) = (vec![0.0; x.len()], vec![0.0; x.len() / width]);
        forward(x, width, EPS, &mut out, &mut norm);
        let mut dx = vec![0.0; x.len()];
        backward(&out, &norm, dy, width, EPS, &mut dx);
        vec![out, dx]
    }

    #[test]
    fn forward_and_gradient_agree_with_f64() {
        for (rows, width) in [(1, 1), (3, 5), (4, 16), (2, 67)] {
            let (x, dy) = (random(rows * width, 1), random(rows * width, 2));
            let got = run(&x, &dy, width);
            assert_close(&got[0], &naive(&to_f64(&x), width), 1e-6);
            assert_close(&got[1], &gradient(&x, |x| probe(&naive(x, width), &dy)), 1e-4);
        }
    }

    #[test]
    fn a_row_of_zeros_stays_finite() {
        let got = run(&[0.0; 4], &[1.0; 4], 4);
        assert_eq!(got[0], [0.0; 4]);
        assert_close(&got[1], &[1.0 / f64::from(EPS); 4], 1e-6);
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_on_any_threads(|| run(&random(900 * 33, 1), &random(900 * 33, 2), 33));
    }
}
