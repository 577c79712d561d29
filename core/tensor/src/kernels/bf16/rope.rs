//! Rotary position embedding (Su et al. 2021) of bf16 rows, in the half-split form of LLaMA's published weights.
//!
//! Must not know: attention.

use super::element::Bf16;
use crate::kernels::math::fma;
use crate::kernels::rope::angles;
use crate::kernels::simd::multiversion;

/// Cosines and sines of a sequence's positions, the same for every layer and record.
#[derive(Clone, Debug)]
pub struct Rotary {
    head_dim: usize,
    tokens: usize,
    /// `[T, head_dim / 2]`
    cos: Vec<f32>,
    /// `[T, head_dim / 2]`
    sin: Vec<f32>,
}

impl Rotary {
    /// The table of `positions: [T]`, one per token; `head_dim` is even, `base` is 10,000 in LLaMA.
    ///
    /// Angles are rounded to `f32` as in the published models; their sines are not rounded before that.
    pub fn new(positions: &[u32], head_dim: usize, base: f32) -> Self {
        assert!(head_dim.is_multiple_of(2), "a head has two halves");
        let [cos, sin] = angles(positions, head_dim / 2, base);
        Self { head_dim, tokens: positions.len(), cos, sin }
    }

    /// T.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Features of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Turns all heads of one token's row in place.
    pub(super) fn turn(&self, row: &mut [Bf16], token: usize) {
        let half = self.head_dim / 2;
        turn(row, &self.cos[token * half..][..half], &self.sin[token * half..][..half]);
    }
}

multiversion! {
    fn turn(row: &mut [Bf16], cos: &[f32], sin: &[f32]) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                let (u, v) = (a.widen(), b.widen());
                *a = Bf16::round(fma::<FMA>(u, *cos, -(v * *sin)));
                *b = Bf16::round(fma::<FMA>(v, *cos, u * *sin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::bf16::tests::{assert_near, rounded};
    use crate::kernels::reference::random;

    #[test]
    fn turning_agrees_with_f64() {
        let (heads, head_dim) = (3, 10);
        let table = Rotary::new(&[0, 1, 9, 120], head_dim, 10_000.0);
        for (token, position) in [0.0, 1.0, 9.0, 120.0_f64].into_iter().enumerate() {
            let x = random(heads * head_dim, 1);
            let mut row: Vec<Bf16> = x.iter().copied().map(Bf16::round).collect();
            table.turn(&mut row, token);
            let x = rounded(&x);
            let at = |i: usize| {
                let angle = position * 10_000_f64.powf(-2.0 * (i % 5) as f64 / 10.0);
                let (first, second) = (x[i / 10 * 10 + i % 5], x[i / 10 * 10 + i % 5 + 5]);
                match i % 10 < 5 {
                    true => first * angle.cos() - second * angle.sin(),
                    false => second * angle.cos() + first * angle.sin(),
                }
            };
            let exact: Vec<f64> = (0..heads * head_dim).map(at).collect();
            assert_near(&row.iter().map(|v| v.widen()).collect::<Vec<_>>(), &exact, 4.5e-3);
        }
    }
}
