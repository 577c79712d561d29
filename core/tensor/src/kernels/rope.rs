//! Rotary position embedding (Su et al. 2021), in the half-split form of LLaMA's published weights.
//!
//! Feature `i` of the first half of a head turns together with feature `i` of the second half, by the angle
//! `position base^(-2 i / head_dim)`.
//!
//! Must not know: attention, caches of keys.

use rayon::prelude::*;

use super::math::fma;
use super::simd::multiversion;
use super::split::rows_per_task;

/// Where the heads lie in a row.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Heads side by side from the row's start.
    pub heads: usize,
    /// Features of one head; even.
    pub head_dim: usize,
    /// From one row to the next; more than `heads * head_dim` in a packed qkv.
    pub row_stride: usize,
    /// 10,000 in LLaMA.
    pub base: f32,
}

/// Which way to turn; a backward turns the gradient the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By the position's angle.
    Forward,
    /// Back.
    Inverse,
}

/// Turns every head of every row in place.
///
/// # Shapes
/// - `x: [B, T, row_stride]` (the last row may end after its heads)
/// - `positions: [T]` for all, or `[B * T]`: row `r` stands at `positions[r % positions.len()]`
///
/// Angles are rounded to `f32` as in the published models; their sines are not rounded before that.
pub fn apply(x: &mut [f32], positions: &[u32], layout: &Layout, direction: Direction) {
    let Layout { heads, head_dim, row_stride, .. } = *layout;
    assert!(head_dim.is_multiple_of(2) && heads * head_dim <= row_stride, "heads fit their row");
    if x.is_empty() || heads * head_dim == 0 {
        return;
    }
    let table = Table::new(positions, layout, direction);
    let rows = rows_per_task(row_stride);
    x.par_chunks_mut(rows * row_stride).enumerate().for_each(|(task, x)| {
        for (i, row) in x.chunks_mut(row_stride).enumerate() {
            let (cos, sin) = table.row(positions[(task * rows + i) % positions.len()]);
            turn(&mut row[..heads * head_dim], cos, sin);
        }
    });
}

/// Cosines and sines `[positions, half]` of `position / base^(i / half)`.
///
/// Angles are rounded to `f32` as in the published models; their cosines and sines are not rounded before that.
pub fn angles(positions: &[u32], half: usize, base: f32) -> [Vec<f32>; 2] {
    let frequency = |i: usize| libm::pow(f64::from(base), -(i as f64) / half as f64) as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let angles = || positions.iter().flat_map(|p| frequencies.iter().map(|f| f64::from(*p as f32 * *f)));
    [libm::cos, libm::sin].map(|f| angles().map(|angle| f(angle) as f32).collect())
}

/// Cosines and sines of every distinct position.
struct Table {
    distinct: Vec<u32>,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    fn new(positions: &[u32], layout: &Layout, direction: Direction) -> Self {
        let mut distinct = positions.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let half = layout.head_dim / 2;
        let [cos, mut sin] = angles(&distinct, half, layout.base);
        if direction == Direction::Inverse {
            sin.iter_mut().for_each(|sin| *sin = -*sin);
        }
        Self { distinct, half, cos, sin }
    }

    fn row(&self, position: u32) -> (&[f32], &[f32]) {
        let at = self.distinct.partition_point(|p| *p < position) * self.half;
        (&self.cos[at..at + self.half], &self.sin[at..at + self.half])
    }
}

multiversion! {
    fn turn(row: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                let (u, v) = (*a, *b);
                *a = fma::<FMA>(u, *cos, -(v * *sin));
                *b = fma::<FMA>(v, *cos, u * *sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random, to_f64};

    const LAYOUT: Layout = Layout { heads: 3, head_dim: 10, row_stride: 37, base: 10_000.0 };

    fn naive(x: &[f64], positions: &[u32]) -> Vec<f64> {
        let mut out = x.to_vec();
        for (r, row) in out.chunks_mut(LAYOUT.row_stride).enumerate() {
            let position = f64::from(positions[r % positions.len()]);
            for head in 0..LAYOUT.heads {
                for i in 0..5 {
                    let angle = position * 10_000_f64.powf(-2.0 * i as f64 / 10.0);
                    let (at, to) = (head * 10 + i, head * 10 + i + 5);
                    let (u, v) = (row[at], row[to]);
                    row[at] = u * angle.cos() - v * angle.sin();
                    row[to] = v * angle.cos() + u * angle.sin();
                }
            }
        }
        out
    }

    #[test]
    fn turning_agrees_with_f64_and_leaves_the_rest_alone() {
        let positions = [0, 1, 2, 7, 40];
        let mut x = random(4 * 5 * 37, 1);
        let exact = naive(&to_f64(&x), &positions);
        apply(&mut x, &positions, &LAYOUT, Direction::Forward);
        assert_close(&x, &exact, 1e-5);
    }

    #[test]
    fn the_inverse_undoes_and_is_the_transpose() {
        let (x, y) = (random(6 * 37, 1), random(6 * 37, 2));
        let positions = [5, 0, 3];
        let (mut turned, mut back) = (x.clone(), y.clone());
        apply(&mut turned, &positions, &LAYOUT, Direction::Forward);
        apply(&mut back, &positions, &LAYOUT, Direction::Inverse);
        let inner = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        assert!((inner(&turned, &y) - inner(&x, &back)).abs() < 1e-5);
        apply(&mut turned, &positions, &LAYOUT, Direction::Inverse);
        assert_close(&turned, &to_f64(&x), 1e-6);
    }

    #[test]
    fn a_row_of_its_own_position_turns_the_same() {
        let x = random(4 * 37, 3);
        let (mut all, mut one) = (x.clone(), x[2 * 37..2 * 37 + 30].to_vec());
        apply(&mut all, &[4, 5, 6, 7], &LAYOUT, Direction::Forward);
        apply(&mut one, &[6], &LAYOUT, Direction::Forward);
        assert_eq!(all[2 * 37..2 * 37 + 30], one);
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_on_any_threads(|| {
            let mut x = random(1000 * 37, 1);
            apply(&mut x, &(0..100).collect::<Vec<_>>(), &LAYOUT, Direction::Forward);
            vec![x]
        });
    }
}
