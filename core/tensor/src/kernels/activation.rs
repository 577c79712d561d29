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
pub fn silu_mul_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let tasks = out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    tasks.for_each(|((out, gate), up)| silu_mul(gate, up, out));
}

/// With `s = sigmoid(gate)`: `dgate += dy up s (1 + gate (1 - s))` and `dup += dy gate s`.
pub fn silu_mul_backward(
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: Option<&mut [f32]>,
    dup: Option<&mut [f32]>,
) {
    assert!(gate.len() == dy.len() && up.len() == dy.len());
    let inputs = || gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
    if let Some(dgate) = dgate {
        assert_eq!(dgate.len(), dy.len());
        let tasks = dgate.par_chunks_mut(CHUNK).zip(inputs());
        tasks.for_each(|(dgate, ((gate, up), dy))| silu_gate(gate, up, dy, dgate));
    }
    if let Some(dup) = dup {
        assert_eq!(dup.len(), dy.len());
        let tasks = dup.par_chunks_mut(CHUNK).zip(inputs());
        tasks.for_each(|(dup, ((gate, _), dy))| silu_up(gate, dy, dup));
    }
}

multiversion! {
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

    fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *o = *gate * sigmoid::<FMA>(*gate) * *up;
        }
    }

    fn silu_gate(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32]) {
        for ((dgate, gate), (up, dy)) in dgate.iter_mut().zip(gate).zip(up.iter().zip(dy)) {
            let s = sigmoid::<FMA>(*gate);
            let slope = s * fma::<FMA>(*gate, 1.0 - s, 1.0);
            *dgate = fma::<FMA>(*dy * *up, slope, *dgate);
        }
    }

    fn silu_up(gate: &[f32], dy: &[f32], dup: &mut [f32]) {
        for ((dup, gate), dy) in dup.iter_mut().zip(gate).zip(dy) {
            *dup = fma::<FMA>(*dy, *gate * sigmoid::<FMA>(*gate), *dup);
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
            let (gate, up, dy) = (spread(len, 1), spread(len, 2), random(len, 3));
            let (gate64, up64) = (to_f64(&gate), to_f64(&up));
            let mut out = vec![f32::NAN; len];
            silu_mul_forward(&gate, &up, &mut out);
            assert_close(&out, &naive_silu_mul(&gate64, &up64), 5e-7);
            let (mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len]);
            silu_mul_backward(&gate, &up, &dy, Some(&mut dgate), Some(&mut dup));
            assert_close(&dgate, &gradient(&gate, |g| probe(&naive_silu_mul(g, &up64), &dy)), 1e-6);
            assert_close(&dup, &gradient(&up, |u| probe(&naive_silu_mul(&gate64, u), &dy)), 1e-6);
        }
    }

    #[test]
    fn extremes_stay_extremes() {
        let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30];
        let mut out = [f32::NAN; 6];
        gelu_forward(&x[1..], &mut out[1..]);
        assert_eq!(out[1..], [0.0, 0.0, 0.0, 100.0, 1e30]);
        silu_mul_forward(&x[1..], &[1.0; 5], &mut out[1..]);
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
            let mut gated = vec![0.0; x.len()];
            silu_mul_forward(&x, &out, &mut gated);
            vec![out, dx, gated]
        });
        let (mut all, mut part) = (vec![0.0; 64], vec![0.0; 7]);
        gelu_forward(&x[..64], &mut all);
        gelu_forward(&x[3..10], &mut part);
        assert_eq!(bits(&[all[3..10].to_vec()]), bits(&[part]));
    }
}
