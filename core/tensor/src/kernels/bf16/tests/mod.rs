//! What the tests of this folder share: engines, rounding, a naive transformer in `f64`.

mod attention;
mod promises;
mod sublayers;

use super::element::Bf16;
use super::{Engine, LlamaAttention, LlamaMlp, Norm, PackedWeights, QkNorm, VitAttention, VitMlp, supported};
use crate::kernels::reference::random;

/// The engines of this machine: the portable one always.
pub fn engines() -> Vec<Engine> {
    if supported() {
        return vec![Engine::Portable, Engine::detect()];
    }
    note("this processor has no AVX-512 BF16: only the portable engine is tested");
    vec![Engine::Portable]
}

#[expect(clippy::print_stderr, reason = "says what a test on this machine does not cover")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// The nearest bf16.
pub fn round(x: f64) -> f64 {
    f64::from(Bf16::round(x as f32).widen())
}

/// `x` rounded to bf16, in double precision.
pub fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| round(f64::from(*x))).collect()
}

/// Fails unless every element is within `tolerance * max(1, |expected|)`.
#[track_caller]
pub fn assert_near(actual: &[f32], expected: &[f64], tolerance: f64) {
    crate::kernels::reference::assert_close(actual, expected, tolerance);
}

/// Sizes of a test model.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub hidden: usize,
}

impl Sizes {
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers of one record.
    pub fn record(&self) -> usize {
        self.tokens * self.width()
    }

    pub fn input(&self) -> Vec<f32> {
        random(self.batch * self.record(), 11).iter().map(|x| 2.0 * x).collect()
    }
}

/// Unpacked weights `[outputs, inputs]` whose products are of the size of their inputs.
pub fn weights(outputs: usize, inputs: usize, seed: u64) -> Vec<f32> {
    let scale = (3.0 / inputs as f32).sqrt();
    random(outputs * inputs, seed).iter().map(|w| scale * w).collect()
}

pub fn norm(width: usize, seed: u64) -> Norm {
    Norm { weight: random(width, seed).iter().map(|w| 1.0 + 0.5 * w).collect(), eps: 1e-6 }
}

pub fn vit_attention_weights(sizes: &Sizes, with_qk_norm: bool) -> VitAttention {
    let width = sizes.width();
    VitAttention {
        norm: norm(width, 1),
        qkv: PackedWeights::pack(&weights(3 * width, width, 2), 3 * width, width),
        qkv_bias: with_qk_norm.then(|| random(3 * width, 3)),
        qk_norm: with_qk_norm.then(|| QkNorm { query: norm(width, 4), key: norm(width, 5) }),
        proj: PackedWeights::pack(&weights(width, width, 6), width, width),
        proj_bias: Some(random(width, 7)),
        gamma: Some(random(width, 8)),
        heads: sizes.heads,
    }
}

pub fn vit_mlp_weights(sizes: &Sizes) -> VitMlp {
    let (width, hidden) = (sizes.width(), sizes.hidden);
    VitMlp {
        norm: norm(width, 1),
        fc1: PackedWeights::pack(&weights(hidden, width, 2), hidden, width),
        fc1_bias: Some(random(hidden, 3)),
        fc2: PackedWeights::pack(&weights(width, hidden, 4), width, hidden),
        fc2_bias: Some(random(width, 5)),
        gamma: Some(random(width, 6)),
    }
}

pub fn llama_attention_weights(sizes: &Sizes) -> LlamaAttention {
    let width = sizes.width();
    let [query, key, value, out] = [2, 3, 4, 5].map(|seed| weights(width, width, seed));
    LlamaAttention {
        norm: norm(width, 1),
        qkv: PackedWeights::stack(&[&query, &key, &value], width),
        out: PackedWeights::pack(&out, width, width),
        heads: sizes.heads,
    }
}

pub fn llama_mlp_weights(sizes: &Sizes) -> LlamaMlp {
    let (width, hidden) = (sizes.width(), sizes.hidden);
    let [gate, up] = [2, 3].map(|seed| weights(hidden, width, seed));
    LlamaMlp {
        norm: norm(width, 1),
        gate_up: PackedWeights::pack_gated(&gate, &up, hidden, width),
        down: PackedWeights::pack(&weights(width, hidden, 4), width, hidden),
    }
}

/// `x w^T + bias` of numbers that are bf16 already; `w` is rounded here.
pub fn naive_linear(x: &[f64], w: &[f32], inputs: usize, bias: Option<&[f32]>) -> Vec<f64> {
    let w = rounded(w);
    let rows = x.chunks(inputs).flat_map(|x| {
        w.chunks(inputs).enumerate().map(move |(n, w)| {
            let sum: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
            sum + bias.map_or(0.0, |bias| f64::from(bias[n]))
        })
    });
    rows.collect()
}

/// Rounded to bf16, as the next product reads it.
pub fn naive_norm(x: &[f64], norm: &Norm) -> Vec<f64> {
    let rows = x.chunks(norm.weight.len()).flat_map(|row| {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        let r = 1.0 / (mean + f64::from(norm.eps)).sqrt();
        row.iter().zip(&norm.weight).map(move |(x, w)| round(x * r * f64::from(*w)))
    });
    rows.collect()
}

/// Attention of one record: `q [Nq, C]`, `k, v [Nk, C]`, rounded to bf16 at the end.
pub fn naive_attention(
    [q, k, v]: [&[f64]; 3],
    heads: usize,
    head_dim: usize,
    sees: impl Fn(usize, usize) -> bool,
) -> Vec<f64> {
    let width = heads * head_dim;
    let mut out = vec![0.0; q.len()];
    for (i, head) in (0..q.len() / width * heads).map(|n| (n / heads, n % heads)) {
        let part = |x: &[f64], row: usize| x[row * width + head * head_dim..][..head_dim].to_vec();
        let seen: Vec<usize> = (0..k.len() / width).filter(|j| sees(i, *j)).collect();
        let score = |j: usize| {
            let product: f64 = part(q, i).iter().zip(part(k, j)).map(|(q, k)| q * k).sum();
            product / (head_dim as f64).sqrt()
        };
        let weights: Vec<f64> = seen.iter().map(|j| score(*j).exp()).collect();
        for (j, weight) in seen.iter().zip(&weights) {
            for (c, v) in part(v, *j).iter().enumerate() {
                out[i * width + head * head_dim + c] += weight / weights.iter().sum::<f64>() * v;
            }
        }
    }
    out.into_iter().map(round).collect()
}
