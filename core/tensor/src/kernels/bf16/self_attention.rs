//! The attention branch that a ViT block and a LLaMA layer share: norm, q k v, attention, projection, residual.
//!
//! ```text
//! x [N, C] f32 ── norm, qkv, prepare ──> q k v [N, 3C] bf16 ── pack ──> keys, values per head
//!    │              blocks of rows            │                 heads        │
//!    │                                        └──────────> attention <───────┘   blocks of rows
//!    └──────────────────────────────────> projection + residual ──> out [N, C] f32
//! ```
//!
//! Records are tasks, and so are blocks of rows and heads within a record, so that one record alone occupies all
//! threads and many records each stay in a second-level cache.
//!
//! Must not know: what is done to queries and keys between projection and attention.

use rayon::prelude::*;

use super::attention::{Packed, Shape, View, attend};
use super::element::Bf16;
use super::epilogue::{Activation, Branch, Residual, Rounded};
use super::norm::Norm;
use super::pack::PackedWeights;
use super::product::{BLOCK, Rows, product, stride_of};
use super::scratch::Scratch;
use super::tile::Engine;
use crate::kernels::attention::Mask;

/// Weights and what else does not change from record to record.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention<'a> {
    /// Before the projections.
    pub norm: &'a Norm,
    /// Queries, keys and values, `[3C, C]`.
    pub qkv: &'a PackedWeights,
    /// `[3C]`
    pub qkv_bias: Option<&'a [f32]>,
    /// `[C, C]`
    pub out: &'a PackedWeights,
    /// Bias and LayerScale of the projection.
    pub branch: Branch<'a>,
    /// h.
    pub heads: usize,
    /// Who sees whom.
    pub mask: Mask<'a>,
}

impl SelfAttention<'_> {
    /// The whole batch: `x, out: [B, tokens, C]`, `keep: [B]`.
    ///
    /// `prepare(rows, stride, first)` is called on projected rows `[q, k, v]` from token `first` on, before keys are
    /// compared with anything.
    pub fn run(
        &self,
        engine: Engine,
        x: &[f32],
        tokens: usize,
        keep: Option<&[f32]>,
        prepare: impl Fn(&mut [Bf16], usize, usize) + Sync,
        out: &mut [f32],
    ) {
        let width = self.check(x, tokens, keep, out);
        let records = out.par_chunks_mut(tokens * width).zip(x.par_chunks(tokens * width));
        records.enumerate().for_each(|(record, (out, x))| {
            let branch = Branch { keep: keep.map(|keep| keep[record]), ..self.branch };
            Self { branch, ..*self }.record(engine, x, record, &prepare, out);
        });
    }

    /// Returns C.
    fn check(&self, x: &[f32], tokens: usize, keep: Option<&[f32]>, out: &[f32]) -> usize {
        let width = self.norm.weight.len();
        assert!(tokens > 0 && x.len().is_multiple_of(tokens * width) && out.len() == x.len());
        assert!(width.is_multiple_of(self.heads), "heads divide the width");
        assert_eq!([self.qkv.outputs(), self.qkv.inputs()], [3 * width, width]);
        assert_eq!([self.out.outputs(), self.out.inputs()], [width, width]);
        let batch = x.len() / tokens / width;
        assert!(keep.is_none_or(|keep| keep.len() == batch), "one factor per record");
        match self.mask {
            Mask::None | Mask::Causal => {}
            Mask::KeyPadding { keep, .. } => assert_eq!(keep.len(), batch * tokens),
            Mask::Pattern(pattern) => assert_eq!(pattern.len(), batch * tokens * tokens),
        }
        width
    }

    fn record(
        &self,
        engine: Engine,
        x: &[f32],
        record: usize,
        prepare: &(impl Fn(&mut [Bf16], usize, usize) + Sync),
        out: &mut [f32],
    ) {
        let width = self.norm.weight.len();
        let (tokens, head_dim) = (x.len() / width, width / self.heads);
        let stride = stride_of(3 * width);
        let mut qkv = Scratch::<Bf16>::take(tokens * stride);
        let blocks = qkv.par_chunks_mut(BLOCK * stride).zip(x.par_chunks(BLOCK * width));
        blocks.enumerate().for_each(|(block, (qkv, x))| {
            self.project(engine, x, qkv, stride);
            prepare(qkv, stride, block * BLOCK);
        });
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = Shape { heads: self.heads, head_dim, q_len: tokens, k_len: tokens, scale };
        let part = |at: usize| View { data: &qkv[at * width..], stride };
        let packed = Packed::new(part(1), part(2), shape);
        let blocks = out.par_chunks_mut(BLOCK * width).zip(x.par_chunks(BLOCK * width));
        blocks.enumerate().for_each(|(block, (out, x))| {
            let q = View { data: &qkv[block * BLOCK * stride..], stride };
            let mut joined = Rows::take(x.len() / width, width);
            attend(engine, q, block * BLOCK, &packed, (self.mask, record), &mut joined);
            let mut residual = Residual { x, out, width, branch: self.branch };
            product(engine, &joined, self.out.panels(), &mut residual);
        });
    }

    /// Queries, keys and values of a block of rows.
    fn project(&self, engine: Engine, x: &[f32], qkv: &mut [Bf16], stride: usize) {
        let width = self.norm.weight.len();
        let mut normed = Rows::take(x.len() / width, width);
        let normed_stride = normed.stride();
        self.norm.round(x, normed.data(), normed_stride);
        let (bias, activation) = (self.qkv_bias, Activation::Identity);
        product(engine, &normed, self.qkv.panels(), &mut Rounded { out: qkv, stride, bias, activation });
    }
}
