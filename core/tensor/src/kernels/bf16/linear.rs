//! One linear layer on its own, and how rows are cut into tasks.
//!
//! Must not know: which layer it serves.

use rayon::prelude::*;

use super::element::Bf16;
use super::epilogue::Float;
use super::pack::PackedWeights;
use super::product::{BLOCK, Rows, product};
use super::tile::Engine;
use crate::kernels::simd::multiversion;

/// `out = x w^T + bias`, with `x` rounded to bf16: patch embeddings, projectors, heads.
///
/// # Shapes
/// - `x: [R, K]`, `w: [N, K]`, `bias: [N]`, `out: [R, N]`
pub fn linear(engine: Engine, x: &[f32], w: &PackedWeights, bias: Option<&[f32]>, out: &mut [f32]) {
    let widths = [w.inputs(), w.outputs()];
    assert!(bias.is_none_or(|bias| bias.len() == w.outputs()));
    for_each_block(x, out, widths, x.len() / w.inputs(), |_, x, out| {
        let mut rounded = Rows::take(x.len() / w.inputs(), w.inputs());
        let stride = rounded.stride();
        round_rows(x, w.inputs(), rounded.data(), stride);
        product(engine, &rounded, w.panels(), &mut Float { out, stride: w.outputs(), bias });
    });
}

/// Calls `work(record, x, out)` in parallel on at most [`BLOCK`] rows of one record.
///
/// # Shapes
/// - `x: [B, tokens, widths[0]]`, `out: [B, tokens, widths[1]]`
pub fn for_each_block(
    x: &[f32],
    out: &mut [f32],
    widths: [usize; 2],
    tokens: usize,
    work: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    let [from, to] = widths;
    if x.is_empty() || to == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(tokens * from), "whole records");
    assert_eq!(out.len(), x.len() / from * to, "as many rows");
    let records = out.par_chunks_mut(tokens * to).zip(x.par_chunks(tokens * from));
    records.enumerate().for_each(|(record, (out, x))| {
        let blocks = out.par_chunks_mut(BLOCK * to).zip(x.par_chunks(BLOCK * from));
        blocks.for_each(|(out, x)| work(record, x, out));
    });
}

multiversion! {
    fn round_rows(x: &[f32], width: usize, out: &mut [Bf16], stride: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
            for (o, x) in out.iter_mut().zip(x) {
                *o = Bf16::round(*x);
            }
        }
    }
}
