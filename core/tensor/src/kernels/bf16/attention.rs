//! Scaled dot-product attention (Vaswani et al. 2017) in bf16, without keeping the scores.
//!
//! Keys and values of a record are packed once, like weights; then both products of attention are products with
//! packed weights. Twelve queries of one head are taken through scores, softmax and values at a time, so that
//! scores and probabilities stay in the first-level cache. A query's keys are never split, so no running maximum is
//! needed.
//!
//! Must not know: projections, positions, residual connections.

use rayon::prelude::*;

use super::element::{Bf16, Line};
use super::epilogue::{Scaled, Sums};
use super::pack::{Panels, lines_of, pack_columns, pack_rows};
use super::product::{Rows, product, stride_of};
use super::scratch::Scratch;
use super::tile::{Engine, ROWS};
use crate::kernels::attention::Mask;
use crate::kernels::math::{LANES, exp, fma, max, reduce};
use crate::kernels::simd::multiversion;

/// Sizes of one record's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// h: heads side by side in a row.
    pub heads: usize,
    /// d: features of one head.
    pub head_dim: usize,
    /// Nq: queries of the record.
    pub q_len: usize,
    /// Nk: keys of the record.
    pub k_len: usize,
    /// Factor of the scores, positive.
    pub scale: f32,
}

/// Rows of bf16 that start every `stride`, the first one at the start of `data`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// `[rows, stride]`; the last row may end after its heads.
    pub data: &'a [Bf16],
    /// From one row to the next; `3C` or more in a packed qkv.
    pub stride: usize,
}

impl<'a> View<'a> {
    /// One head of one row.
    fn head(self, row: usize, head: usize, head_dim: usize) -> &'a [Bf16] {
        &self.data[row * self.stride + head * head_dim..][..head_dim]
    }
}

/// Keys and values of one record, packed.
#[derive(Debug)]
pub struct Packed {
    shape: Shape,
    /// `[h]` of `[Nk, d]`
    keys: Scratch<Line>,
    /// `[h]` of `[d, Nk]`
    values: Scratch<Line>,
}

impl Packed {
    /// Packs `k` and `v`, both `[Nk, h, d]`, in parallel over heads.
    pub fn new(k: View<'_>, v: View<'_>, shape: Shape) -> Self {
        let Shape { heads, head_dim, k_len, .. } = shape;
        let (of_keys, of_values) = (lines_of(k_len, head_dim), lines_of(head_dim, k_len));
        let (mut keys, mut values) = (Scratch::take(heads * of_keys), Scratch::take(heads * of_values));
        let tasks = keys.par_chunks_mut(of_keys).zip(values.par_chunks_mut(of_values));
        tasks.enumerate().for_each(|(head, (keys, values))| {
            pack_rows(keys, k_len, head_dim, |row| k.head(row, head, head_dim));
            pack_columns(values, head_dim, k_len, |row| v.head(row, head, head_dim));
        });
        Self { shape, keys, values }
    }

    fn keys(&self, head: usize) -> Panels<'_> {
        let Shape { head_dim, k_len, .. } = self.shape;
        let lines = lines_of(k_len, head_dim);
        Panels::new(&self.keys[head * lines..][..lines], k_len, head_dim)
    }

    fn values(&self, head: usize) -> Panels<'_> {
        let Shape { head_dim, k_len, .. } = self.shape;
        let lines = lines_of(head_dim, k_len);
        Panels::new(&self.values[head * lines..][..lines], head_dim, k_len)
    }
}

/// `softmax(scale q k^T) v` of the queries `first..first + out.count`, on the calling thread.
///
/// # Shapes
/// - `q`: rows `[h, d]`, from query `first` on; `out`: rows `[h, d]`
/// - `mask` is that of the whole batch, in which this is `record`
pub fn attend(
    engine: Engine,
    q: View<'_>,
    first: usize,
    packed: &Packed,
    (mask, record): (Mask<'_>, usize),
    out: &mut Rows,
) {
    let Shape { heads, head_dim, k_len, scale, .. } = packed.shape;
    let mut scores = Scores::take(k_len, head_dim);
    let stride = out.stride();
    for (tile, out) in out.data().chunks_mut(ROWS * stride).enumerate() {
        let (start, rows) = (tile * ROWS, out.len() / stride);
        let visible = |i: usize| Visible::new(mask, record, first + start + i, &packed.shape);
        let seen = (0..rows).map(|i| visible(i).prefix).max().unwrap_or_default();
        for head in 0..heads {
            for (i, row) in scores.queries.data().chunks_exact_mut(stride_of(head_dim)).enumerate().take(rows)
            {
                row[..head_dim].copy_from_slice(q.head(start + i, head, head_dim));
            }
            scores.multiply(engine, packed.keys(head).first_outputs(seen));
            let mut factors = [0.0; ROWS];
            for (i, factor) in factors.iter_mut().enumerate().take(rows) {
                *factor = scores.soften(i, visible(i), scale);
            }
            let mut scaled = Scaled { out: &mut out[head * head_dim..], stride, factors: &factors };
            product(engine, &scores.weights, packed.values(head).first_inputs(seen), &mut scaled);
        }
    }
}

/// What one tile of queries needs.
struct Scores {
    /// `[12, d]`
    queries: Rows,
    /// `[12, Nk]` and room up to a whole number of vectors.
    scores: Scratch<f32>,
    /// Probabilities before their division by the sum, `[12, Nk]`.
    weights: Rows,
}

impl Scores {
    fn take(k_len: usize, head_dim: usize) -> Self {
        Self {
            queries: Rows::take(ROWS, head_dim),
            scores: Scratch::take(ROWS * stride_of(k_len)),
            weights: Rows::take(ROWS, k_len),
        }
    }

    fn multiply(&mut self, engine: Engine, keys: Panels<'_>) {
        let stride = self.weights.stride();
        product(engine, &self.queries, keys, &mut Sums { out: &mut self.scores, stride });
    }

    /// Makes weights of row `i`; returns what the values' sum must be multiplied with.
    fn soften(&mut self, i: usize, visible: Visible<'_>, scale: f32) -> f32 {
        let stride = self.weights.stride();
        let scores = &mut self.scores[i * stride..][..stride];
        soften(scores, visible, scale, &mut self.weights.data()[i * stride..][..stride])
    }
}

/// The keys that one query sees: those before `prefix` whose `keep` is true.
#[derive(Clone, Copy, Debug)]
struct Visible<'a> {
    prefix: usize,
    keep: Option<&'a [bool]>,
}

impl<'a> Visible<'a> {
    fn new(mask: Mask<'a>, record: usize, query: usize, shape: &Shape) -> Self {
        let Shape { q_len, k_len, .. } = *shape;
        let causal = (query + 1 + k_len).saturating_sub(q_len).min(k_len);
        let (prefix, keep) = match mask {
            Mask::None => (k_len, None),
            Mask::Causal => (causal, None),
            Mask::KeyPadding { keep, causal: both } => {
                (if both { causal } else { k_len }, Some(&keep[record * k_len..][..k_len]))
            }
            Mask::Pattern(pattern) => (k_len, Some(&pattern[(record * q_len + query) * k_len..][..k_len])),
        };
        Self { prefix, keep }
    }
}

multiversion! {
    /// Scores to unnormalised probabilities `exp(scale (s - max))` in bf16; hidden keys get exactly 0. Returns one
    /// over the sum of what was rounded, or 0 if no key is seen.
    ///
    /// Both slices have room for a whole number of vectors.
    fn soften(scores: &mut [f32], visible: Visible<'_>, scale: f32, weights: &mut [Bf16]) -> f32 {
        let (seen, rest) = scores.split_at_mut(visible.prefix);
        let whole = visible.prefix.next_multiple_of(LANES);
        rest[..whole - visible.prefix].fill(f32::NEG_INFINITY);
        for (score, keep) in seen.iter_mut().zip(visible.keep.unwrap_or_default()) {
            *score = if *keep { *score } else { f32::NEG_INFINITY };
        }
        let (weights, hidden) = weights.split_at_mut(whole);
        hidden.fill(Bf16::default());
        let top = max(seen);
        // NaN is above no number, so a row of NaNs also lands here and must stay NaN.
        if top == f32::NEG_INFINITY && !seen.iter().any(|s| s.is_nan()) {
            weights.fill(Bf16::default());
            return 0.0;
        }
        let mut sums = [0.0; LANES];
        let (weights, _) = weights.as_chunks_mut::<LANES>();
        for (scores, weights) in scores.as_chunks::<LANES>().0.iter().zip(weights) {
            for l in 0..LANES {
                weights[l] = Bf16::round(exp::<FMA>(fma::<FMA>(scores[l], scale, -(top * scale))));
                sums[l] += weights[l].widen();
            }
        }
        1.0 / reduce(sums)
    }
}
