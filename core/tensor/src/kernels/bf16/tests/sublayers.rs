//! Whole sub-layers against a naive transformer in `f64` that rounds to bf16 at the same places.

use super::*;
use crate::kernels::attention::Mask;
use crate::kernels::bf16::{Rotary, linear, llama_attention, llama_mlp, vit_attention, vit_mlp};
use crate::kernels::reference::to_f64;

/// A value beside a tie may round the other way after `f32` sums, one part in 256 of a term of a later sum.
const TOLERANCE: f64 = 2e-2;

const SIZES: [Sizes; 5] = [
    Sizes { batch: 1, tokens: 1, heads: 1, head_dim: 2, hidden: 1 },
    Sizes { batch: 2, tokens: 17, heads: 4, head_dim: 24, hidden: 384 },
    Sizes { batch: 3, tokens: 5, heads: 3, head_dim: 6, hidden: 7 },
    Sizes { batch: 2, tokens: 61, heads: 1, head_dim: 64, hidden: 33 },
    Sizes { batch: 1, tokens: 100, heads: 2, head_dim: 34, hidden: 200 },
];

fn odd_heads() -> impl Iterator<Item = Sizes> {
    SIZES.into_iter().map(|sizes| Sizes { head_dim: sizes.head_dim + 1, ..sizes })
}

fn at(values: Option<&[f32]>, i: usize) -> f64 {
    values.map_or(1.0, |values| f64::from(values[i]))
}

/// `x + keep gamma y`
fn joined(x: &[f32], y: &[f64], gamma: Option<&[f32]>, keep: Option<&[f32]>, record: usize) -> Vec<f64> {
    let width = gamma.map_or(1, <[f32]>::len);
    let branch = |(i, y): (usize, &f64)| at(gamma, i % width) * at(keep, i / record) * y;
    x.iter().zip(y.iter().enumerate()).map(|(x, term)| f64::from(*x) + branch(term)).collect()
}

/// `n` to `attention(q, k, v)`, record by record; `prepare(token, row)` is done to queries and to keys.
fn naive_heads(
    qkv: [Vec<f64>; 3],
    sizes: &Sizes,
    prepare: impl Fn(&[f64]) -> Vec<f64>,
    sees: impl Fn(usize, usize, usize) -> bool,
) -> Vec<f64> {
    let [q, k, v] = qkv;
    let records = (0..sizes.batch).flat_map(|b| {
        let part = |x: &[f64]| x[b * sizes.record()..][..sizes.record()].to_vec();
        let (q, k, v) = (prepare(&part(&q)), prepare(&part(&k)), part(&v));
        naive_attention([&q, &k, &v], sizes.heads, sizes.head_dim, |i, j| sees(b, i, j))
    });
    records.collect()
}

fn all_rounded(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(round).collect()
}

#[test]
fn vit_attention_agrees_with_f64() {
    for sizes in SIZES.into_iter().chain(odd_heads()) {
        let (width, x) = (sizes.width(), sizes.input());
        let keep: Vec<f32> = (0..sizes.batch).map(|b| b as f32 * 1.25).collect();
        for (with_qk_norm, keep) in [(false, None), (true, Some(&keep[..]))] {
            let w = vit_attention_weights(&sizes, with_qk_norm);
            let normed = naive_norm(&to_f64(&x), &w.norm);
            let matrix = weights(3 * width, width, 2);
            let part = |at: usize| {
                let rows = &matrix[at * width * width..][..width * width];
                let bias = w.qkv_bias.as_ref().map(|bias| &bias[at * width..][..width]);
                all_rounded(naive_linear(&normed, rows, width, bias))
            };
            let [mut q, mut k, v] = [part(0), part(1), part(2)];
            if let Some(norms) = &w.qk_norm {
                (q, k) = (naive_norm(&q, &norms.query), naive_norm(&k, &norms.key));
            }
            let heads = naive_heads([q, k, v], &sizes, <[f64]>::to_vec, |_, _, _| true);
            let y = naive_linear(&heads, &weights(width, width, 6), width, w.proj_bias.as_deref());
            let exact = joined(&x, &y, w.gamma.as_deref(), keep, sizes.record());
            for engine in engines() {
                let mut out = vec![f32::NAN; x.len()];
                vit_attention(engine, &x, sizes.tokens, &w, keep, &mut out);
                assert_near(&out, &exact, TOLERANCE);
            }
        }
    }
}

#[test]
fn vit_mlp_agrees_with_f64() {
    for sizes in SIZES.into_iter().chain(odd_heads()) {
        let (width, hidden, x) = (sizes.width(), sizes.hidden, sizes.input());
        let keep: Vec<f32> = (0..sizes.batch).map(|b| b as f32 * 1.25).collect();
        let w = vit_mlp_weights(&sizes);
        let normed = naive_norm(&to_f64(&x), &w.norm);
        let inner = naive_linear(&normed, &weights(hidden, width, 2), width, w.fc1_bias.as_deref());
        let gelu = |x: f64| 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2);
        let inner: Vec<f64> = inner.into_iter().map(|x| round(gelu(x))).collect();
        let y = naive_linear(&inner, &weights(width, hidden, 4), hidden, w.fc2_bias.as_deref());
        for keep in [None, Some(&keep[..])] {
            let exact = joined(&x, &y, w.gamma.as_deref(), keep, sizes.record());
            for engine in engines() {
                let mut out = vec![f32::NAN; x.len()];
                vit_mlp(engine, &x, sizes.tokens, &w, keep, &mut out);
                assert_near(&out, &exact, TOLERANCE);
            }
        }
    }
}

/// Half-split rotation of one record at positions 3, 5, 7, ...
fn turned(x: &[f64], sizes: &Sizes) -> Vec<f64> {
    let (width, dim) = (sizes.width(), sizes.head_dim);
    let turn = |i: usize| {
        let (token, c) = (i / width, i % width % dim);
        let frequency = 10_000_f64.powf(-2.0 * (c % (dim / 2)) as f64 / dim as f64);
        let angle = (2 * token + 3) as f64 * frequency;
        match c < dim / 2 {
            true => round(x[i] * angle.cos() - x[i + dim / 2] * angle.sin()),
            false => round(x[i] * angle.cos() + x[i - dim / 2] * angle.sin()),
        }
    };
    (0..x.len()).map(turn).collect()
}

#[test]
fn llama_attention_agrees_with_f64() {
    for sizes in SIZES {
        let (width, x) = (sizes.width(), sizes.input());
        let w = llama_attention_weights(&sizes);
        let normed = naive_norm(&to_f64(&x), &w.norm);
        let project = |seed| all_rounded(naive_linear(&normed, &weights(width, width, seed), width, None));
        // The first key of a record stays, so that every query sees something.
        let keep: Vec<bool> =
            (0..sizes.batch * sizes.tokens).map(|j| j % sizes.tokens == 0 || j % 3 != 1).collect();
        for causal_only in [true, false] {
            let mask = match causal_only {
                true => Mask::Causal,
                false => Mask::KeyPadding { keep: &keep, causal: true },
            };
            let sees = |b: usize, i: usize, j: usize| j <= i && (causal_only || keep[b * sizes.tokens + j]);
            let heads = naive_heads([2, 3, 4].map(project), &sizes, |rows| turned(rows, &sizes), sees);
            let y = naive_linear(&heads, &weights(width, width, 5), width, None);
            let exact = joined(&x, &y, None, None, sizes.record());
            let positions: Vec<u32> = (0..sizes.tokens as u32).map(|token| 2 * token + 3).collect();
            let rotary = Rotary::new(&positions, sizes.head_dim, 10_000.0);
            for engine in engines() {
                let mut out = vec![f32::NAN; x.len()];
                llama_attention(engine, &x, &w, &rotary, mask, &mut out);
                assert_near(&out, &exact, TOLERANCE);
            }
        }
    }
}

#[test]
fn llama_mlp_agrees_with_f64() {
    for sizes in SIZES.into_iter().chain(odd_heads()) {
        let (width, hidden, x) = (sizes.width(), sizes.hidden, sizes.input());
        let w = llama_mlp_weights(&sizes);
        let normed = naive_norm(&to_f64(&x), &w.norm);
        let [gate, up] = [2, 3].map(|seed| naive_linear(&normed, &weights(hidden, width, seed), width, None));
        let inner: Vec<f64> =
            gate.iter().zip(&up).map(|(gate, up)| round(gate / (1.0 + (-gate).exp()) * up)).collect();
        let y = naive_linear(&inner, &weights(width, hidden, 4), hidden, None);
        let exact = joined(&x, &y, None, None, sizes.record());
        for engine in engines() {
            let mut out = vec![f32::NAN; x.len()];
            llama_mlp(engine, &x, &w, &mut out);
            assert_near(&out, &exact, TOLERANCE);
        }
    }
}

#[test]
fn linear_agrees_with_f64() {
    for (rows, inputs, outputs) in [(1, 1, 1), (1, 9, 5), (3, 5, 70), (50, 17, 9), (97, 384, 65)] {
        let (x, w, bias) = (random(rows * inputs, 1), weights(outputs, inputs, 2), random(outputs, 3));
        let packed = PackedWeights::pack(&w, outputs, inputs);
        for bias in [None, Some(&bias[..])] {
            let exact = naive_linear(&rounded(&x), &w, inputs, bias);
            for engine in engines() {
                let mut out = vec![f32::NAN; rows * outputs];
                linear(engine, &x, &packed, bias, &mut out);
                assert_near(&out, &exact, 1e-5);
            }
        }
    }
}
