//! One step of AdamW (Loshchilov and Hutter 2019, algorithm 2) over a parameter, in one pass.
//!
//! Must not know: schedules, which parameters decay.

use rayon::prelude::*;

use super::math::fma;
use super::simd::multiversion;
use super::split::CHUNK;

/// The numbers of one step, the same for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the squares.
    pub eps: f32,
    /// Part of `lr` that a parameter shrinks by, apart from its gradient.
    pub weight_decay: f32,
    /// `1 - beta1^t` at step `t`, counted from 1.
    pub bias1: f32,
    /// `1 - beta2^t`.
    pub bias2: f32,
    /// Every gradient is multiplied by this first: 1, or less where the norm is clipped.
    pub grad_scale: f32,
}

/// `m <- beta1 m + (1 - beta1) g`, `v <- beta2 v + (1 - beta2) g^2`,
/// `p <- p (1 - lr weight_decay) - lr (m / bias1) / (sqrt(v / bias2) + eps)`.
///
/// All four slices have one length.
pub fn step(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], update: &Update) {
    assert!(grad.len() == param.len() && m.len() == param.len() && v.len() == param.len());
    let tasks = param.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let tasks = tasks.zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
    tasks.for_each(|(((param, grad), m), v)| step_chunk(param, grad, m, v, update));
}

multiversion! {
    fn step_chunk(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], update: &Update) {
        let Update { lr, beta1, beta2, eps, weight_decay, bias1, bias2, grad_scale } = *update;
        let (shrink, rate, root) = (1.0 - lr * weight_decay, lr / bias1, 1.0 / bias2.sqrt());
        for ((p, g), (m, v)) in param.iter_mut().zip(grad).zip(m.iter_mut().zip(v)) {
            let g = *g * grad_scale;
            *m = fma::<FMA>(beta1, *m, (1.0 - beta1) * g);
            *v = fma::<FMA>(beta2, *v, (1.0 - beta2) * g * g);
            let change = *m / fma::<FMA>(v.sqrt(), root, eps);
            *p = fma::<FMA>(-rate, change, *p * shrink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random, to_f64};

    fn update(t: i32) -> Update {
        Update {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            weight_decay: 0.05,
            bias1: 1.0 - 0.9_f32.powi(t),
            bias2: 1.0 - 0.98_f32.powi(t),
            grad_scale: 0.5,
        }
    }

    fn run(len: usize, steps: i32) -> Vec<Vec<f32>> {
        let (mut p, mut m, mut v) = (random(len, 1), vec![0.0; len], vec![0.0; len]);
        for t in 1..=steps {
            step(&mut p, &random(len, 10 + t as u64), &mut m, &mut v, &update(t));
        }
        vec![p, m, v]
    }

    #[test]
    fn five_steps_agree_with_f64() {
        for len in [1, 7, 16, 100] {
            let (mut p, mut m, mut v) = (to_f64(&random(len, 1)), vec![0.0; len], vec![0.0; len]);
            for t in 1..=5 {
                for (i, g) in random(len, 10 + t as u64).iter().enumerate() {
                    let g = 0.5 * f64::from(*g);
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.98 * v[i] + 0.02 * g * g;
                    let (m, v) = (m[i] / (1.0 - 0.9_f64.powi(t)), v[i] / (1.0 - 0.98_f64.powi(t)));
                    p[i] = p[i] * (1.0 - 0.01 * 0.05) - 0.01 * m / (v.sqrt() + 1e-6);
                }
            }
            let got = run(len, 5);
            assert_close(&got[0], &p, 1e-6);
            assert_close(&got[1], &m, 1e-6);
            assert_close(&got[2], &v, 1e-6);
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_on_any_threads(|| run(3 * CHUNK + 11, 2));
    }
}
