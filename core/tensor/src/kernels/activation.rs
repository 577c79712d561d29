//! Activations: GELU (Hendrycks and Gimpel 2016) in its exact form, and LLaMA's gated SiLU (Shazeer 2020).
//!
//! Must not know: the matrix products around them.

use rayon::prelude::*;

use super::math::{fma, normal, sigmoid};
use super::simd::multiversion;
use super::split::CHUNK;

/// `out = x Phi(x)`, with the normal distribution of [`super::math::normal`] instead of `erf`.
pub fn gelu_forward(x: &[f32], out: &mut [f32]) {
    assert_eq!(out.len(), x.len());
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| gelu(x, out));
}

/// `dx += dy (Phi(x) + x phi(x))`.
pub fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(dy.len() == x.len() && dx.len() == x.len());
    let tasks = dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
    tasks.for_each(|((dx, x), dy)| gelu_input(x, dy, dx));
}

/// `out = gate sigmoid(gate) up`.
pub fn gated_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let tasks = out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    tasks.for_each(|((out, gate), up)| silu_mul(gate, up, out));
}

/// Adds the gradients of both factors to `dgate` and `dup`, where they are wanted.
pub fn gated_backward(
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: Option<&mut [f32]>,
    dup: Option<&mut [f32]>,
) {
    let (mut of_gate, mut of_up, mut out) = (gate.to_vec(), up.to_vec(), vec![0.0; dy.len()]);
    let factors = of_gate.par_chunks_mut(CHUNK).zip(of_up.par_chunks_mut(CHUNK));
    let tasks = factors.zip(out.par_chunks_mut(CHUNK)).zip(dy.par_chunks(CHUNK));
    tasks.for_each(|(((gate, up), out), dy)| silu_mul_gradients(gate, up, dy, out));
    for (sum, part) in [(dgate, of_gate), (dup, of_up)] {
        if let Some(sum) = sum {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
}

multiversion! {
    /// `out = keep gelu(x + bias)` for one row.
    pub fn bias_gelu(x: &[f32], bias: &[f32], keep: f32, out: &mut [f32]) {
        for ((o, x), bias) in out.iter_mut().zip(x).zip(bias) {
            let x = *x + *bias;
            *o = keep * (x * normal::<FMA>(x).0);
        }
    }

    /// As [`bias_gelu`], and `x` becomes the derivative of `out` by `x`.
    pub fn bias_gelu_slope(x: &mut [f32], bias: &[f32], keep: f32, out: &mut [f32]) {
        for ((o, x), bias) in out.iter_mut().zip(x).zip(bias) {
            let y = *x + *bias;
            let (distribution, density) = normal::<FMA>(y);
            *o = keep * (y * distribution);
            *x = keep * fma::<FMA>(y, density, distribution);
        }
    }

    /// `y *= x`
    pub fn multiply(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y *= *x;
        }
    }

    /// `out = gate sigmoid(gate) up` for a tile.
    pub fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *o = *gate * sigmoid::<FMA>(*gate) * *up;
        }
    }

    /// As [`silu_mul`], and `gate` and `up` become their gradients for the gradient `dout`.
    pub fn silu_mul_gradients(gate: &mut [f32], up: &mut [f32], dout: &[f32], out: &mut [f32]) {
        for ((o, dout), (gate, up)) in out.iter_mut().zip(dout).zip(gate.iter_mut().zip(up)) {
            let (g, u) = (*gate, *up);
            let s = sigmoid::<FMA>(g);
            *o = g * s * u;
            *gate = *dout * u * (s * fma::<FMA>(g, 1.0 - s, 1.0));
            *up = *dout * (g * s);
        }
    }

    fn gelu(x: &[f32], out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = *x * normal::<FMA>(*x).0;
        }
    }

    fn gelu_input(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let (distribution, density) = normal::<FMA>(*x);
            *dx = fma::<FMA>(*dy, fma::<FMA>(*x, density, distribution), *dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{
        assert_close, assert_same_on_any_threads, bits, gradient, probe, random, to_f64,
    };

    fn naive_gelu(x: &[f64]) -> Vec<f64> {
        x.iter().map(|x| 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2)).collect()
    }

    fn naive_silu_mul(gate: &[f64], up: &[f64]) -> Vec<f64> {
        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
    }

    fn spread(len: usize, seed: u64) -> Vec<f32> {
        random(len, seed).iter().map(|v| v * 8.0).collect()
    }

    #[test]
    fn gelu_agrees_with_f64() {
        for len in [1, 15, 16, 33, 1000] {
            let (x, dy) = (spread(len, 1), random(len, 2));
            let mut out = vec![f32::NAN; len];
            gelu_forward(&x, &mut out);
            assert_close(&out, &naive_gelu(&to_f64(&x)), 3e-7);
            let mut dx = vec![0.0; len];
            gelu_backward(&x, &dy, &mut dx);
            assert_close(&dx, &gradient(&x, |x| probe(&naive_gelu(x), &dy)), 1e-6);
        }
    }

    #[test]
    fn silu_mul_agrees_with_f64() {
        for len in [1, 15, 16, 33, 300] {
            let (mut gate, mut up, dy) = (spread(len, 1), spread(len, 2), random(len, 3));
            let (gate32, up32) = (gate.clone(), up.clone());
            let (gate64, up64) = (to_f64(&gate), to_f64(&up));
            let (mut out, mut again) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            silu_mul(&gate, &up, &mut out);
            assert_close(&out, &naive_silu_mul(&gate64, &up64), 5e-7);
            silu_mul_gradients(&mut gate, &mut up, &dy, &mut again);
            assert_eq!(out, again);
            assert_close(&gate, &gradient(&gate32, |g| probe(&naive_silu_mul(g, &up64), &dy)), 1e-6);
            assert_close(&up, &gradient(&up32, |u| probe(&naive_silu_mul(&gate64, u), &dy)), 1e-6);
        }
    }

    #[test]
    fn gelu_of_a_row_with_bias_agrees_with_f64() {
        let (x, bias) = (spread(37, 1), random(37, 2));
        let shifted = |x: &[f64]| -> Vec<f64> {
            let x: Vec<f64> = x.iter().zip(&bias).map(|(x, b)| x + f64::from(*b)).collect();
            naive_gelu(&x).iter().map(|y| 1.25 * y).collect()
        };
        let (mut out, mut again, mut slope) = (vec![f32::NAN; 37], vec![f32::NAN; 37], x.clone());
        bias_gelu(&x, &bias, 1.25, &mut out);
        assert_close(&out, &shifted(&to_f64(&x)), 5e-7);
        bias_gelu_slope(&mut slope, &bias, 1.25, &mut again);
        assert_eq!(out, again);
        assert_close(&slope, &gradient(&x, |x| shifted(x).iter().sum()), 2e-6);
    }

    #[test]
    fn extremes_stay_extremes() {
        let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30];
        let mut out = [f32::NAN; 6];
        gelu_forward(&x[1..], &mut out[1..]);
        assert_eq!(out[1..], [0.0, 0.0, 0.0, 100.0, 1e30]);
        silu_mul(&x[1..], &[1.0; 5], &mut out[1..]);
        assert_close(&out[1..], &[0.0, 0.0, 0.0, 100.0, 1e30], 1e-6);
        gelu_forward(&[f32::NAN], &mut out[..1]);
        assert!(out[0].is_nan());
    }

    #[test]
    fn threads_and_position_do_not_change_bits() {
        let x = spread(3 * CHUNK + 5, 1);
        assert_same_on_any_threads(|| {
            let (mut out, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            gelu_forward(&x, &mut out);
            gelu_backward(&x, &x, &mut dx);
            vec![out, dx]
        });
        let (mut all, mut part) = (vec![0.0; 64], vec![0.0; 7]);
        gelu_forward(&x[..64], &mut all);
        gelu_forward(&x[3..10], &mut part);
        assert_eq!(bits(&[all[3..10].to_vec()]), bits(&[part]));
    }
}
