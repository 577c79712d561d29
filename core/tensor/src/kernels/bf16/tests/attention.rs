//! Attention against `f64`, for every mask, and for other numbers of keys than of queries.

use super::{assert_near, engines, naive_attention, rounded};
use crate::kernels::attention::Mask;
use crate::kernels::bf16::attention::{Packed, Shape, View, attend};
use crate::kernels::bf16::element::Bf16;
use crate::kernels::bf16::product::Rows;
use crate::kernels::reference::random;

fn sees(mask: Mask<'_>, record: usize, shape: &Shape, i: usize, j: usize) -> bool {
    let Shape { q_len, k_len, .. } = *shape;
    let before = j + q_len <= i + k_len;
    match mask {
        Mask::None => true,
        Mask::Causal => before,
        Mask::KeyPadding { keep, causal } => keep[record * k_len + j] && (before || !causal),
        Mask::Pattern(pattern) => pattern[(record * q_len + i) * k_len + j],
    }
}

/// Checks the second record of a batch of two.
fn check(shape: Shape, mask: Mask<'_>) {
    let Shape { heads, head_dim, q_len, k_len, .. } = shape;
    let width = heads * head_dim;
    let (q, k, v) = (random(q_len * width, 1), random(k_len * width, 2), random(k_len * width, 3));
    let [q, k, v] = [q, k, v].map(|x| x.iter().map(|x| 3.0 * x).collect::<Vec<f32>>());
    let [q64, k64, v64] = [&q, &k, &v].map(|x| rounded(x));
    let exact = naive_attention([&q64, &k64, &v64], heads, head_dim, |i, j| sees(mask, 1, &shape, i, j));
    let [q, k, v] = [q, k, v].map(|x| x.into_iter().map(Bf16::round).collect::<Vec<_>>());
    let [q, k, v] = [&q, &k, &v].map(|data| View { data, stride: width });
    for engine in engines() {
        let packed = Packed::new(k, v, shape);
        let mut out = Rows::take(q_len, width);
        attend(engine, q, 0, &packed, (mask, 1), &mut out);
        let stride = out.stride();
        let rows = out.data().chunks(stride).flat_map(|row| &row[..width]);
        assert_near(&rows.map(|x| x.widen()).collect::<Vec<_>>(), &exact, 1.2e-2);
    }
}

#[test]
fn every_mask_agrees_with_f64() {
    for (heads, head_dim, q_len, k_len) in
        [(1, 1, 1, 1), (2, 3, 5, 5), (3, 4, 2, 7), (2, 5, 7, 3), (1, 64, 13, 100), (1, 33, 25, 40)]
    {
        let shape = Shape { heads, head_dim, q_len, k_len, scale: 1.0 / (head_dim as f32).sqrt() };
        check(shape, Mask::None);
        check(shape, Mask::Causal);
        let keep: Vec<bool> = (0..2 * k_len).map(|j| j % 3 != 1).collect();
        check(shape, Mask::KeyPadding { keep: &keep, causal: false });
        check(shape, Mask::KeyPadding { keep: &keep, causal: true });
        // The last query of the second record sees nothing.
        let pairs = 2 * q_len * k_len;
        let pattern: Vec<bool> = (0..pairs).map(|n| n % 4 != 0 && n < pairs - k_len).collect();
        check(shape, Mask::Pattern(&pattern));
    }
}

fn attend_one(q: [f32; 2], k: &[f32], v: &[f32]) -> Vec<Vec<f32>> {
    let shape = Shape { heads: 1, head_dim: 2, q_len: 1, k_len: k.len() / 2, scale: 0.125 };
    let [q, k, v] = [&q[..], k, v].map(|x| x.iter().copied().map(Bf16::round).collect::<Vec<_>>());
    let [q, k, v] = [&q, &k, &v].map(|data| View { data, stride: 2 });
    let run = |engine| {
        let mut out = Rows::take(1, 2);
        attend(engine, q, 0, &Packed::new(k, v, shape), (Mask::None, 0), &mut out);
        out.data()[..2].iter().map(|x| x.widen()).collect()
    };
    engines().into_iter().map(run).collect()
}

#[test]
fn large_scores_stay_finite_and_nan_stays_nan() {
    let (k, v) = ([200.0, 200.0, 0.0, 0.0, -200.0, -200.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(attend_one([200.0; 2], &k, &v).iter().all(|out| out == &[1.0, 2.0]));
    assert!(attend_one([-200.0; 2], &k, &v).iter().all(|out| out == &[5.0, 6.0]));
    assert!(attend_one([f32::NAN; 2], &k, &v).iter().flatten().all(|out| out.is_nan()));
}
