//! The two sub-layers of a LLaMA layer.
//!
//! Must not know: token embeddings, caches of keys, how layers follow each other.

use super::epilogue::{Branch, Gated, Residual};
use super::linear::for_each_block;
use super::norm::Norm;
use super::pack::PackedWeights;
use super::product::{Rows, product};
use super::rope::Rotary;
use super::self_attention::SelfAttention;
use super::tile::Engine;
use crate::kernels::attention::Mask;

/// Self-attention of a LLaMA layer with its norm and projections, without biases.
#[derive(Clone, Debug)]
pub struct LlamaAttention {
    /// Before the projections.
    pub norm: Norm,
    /// Queries, keys and values below each other, `[3C, C]`: [`PackedWeights::stack`].
    pub qkv: PackedWeights,
    /// `[C, C]`
    pub out: PackedWeights,
    /// Number of heads; `C / heads` columns each, scores divided by the root of that.
    pub heads: usize,
}

/// Gated perceptron of a LLaMA layer with its norm, without biases.
#[derive(Clone, Debug)]
pub struct LlamaMlp {
    /// Before the perceptron.
    pub norm: Norm,
    /// Both `[hidden, C]`: [`PackedWeights::pack_gated`].
    pub gate_up: PackedWeights,
    /// `[C, hidden]`
    pub down: PackedWeights,
}

/// `out = x + out(attention(q, k, v))` of `norm(x)`, with rotary positions on queries and keys.
///
/// # Shapes
/// - `x, out: [B, T, C]` with the T of `rotary`; `mask` with `Nq = Nk = T`
pub fn llama_attention(
    engine: Engine,
    x: &[f32],
    w: &LlamaAttention,
    rotary: &Rotary,
    mask: Mask<'_>,
    out: &mut [f32],
) {
    let width = w.norm.weight.len();
    assert_eq!(rotary.head_dim() * w.heads, width, "the table is for heads of this size");
    let layer = SelfAttention {
        norm: &w.norm,
        qkv: &w.qkv,
        qkv_bias: None,
        out: &w.out,
        branch: Branch::default(),
        heads: w.heads,
        mask,
    };
    // Queries and keys lie side by side, so that they turn as twice as many heads.
    let prepare = |rows: &mut [_], stride: usize, first: usize| {
        for (i, row) in rows.chunks_mut(stride).enumerate() {
            rotary.turn(&mut row[..2 * width], first + i);
        }
    };
    layer.run(engine, x, rotary.tokens(), None, prepare, out);
}

/// `out = x + down(silu(gate(n)) * up(n))` with `n = norm(x)`.
///
/// # Shapes
/// - `x, out: [R, C]`, all leading dimensions together
pub fn llama_mlp(engine: Engine, x: &[f32], w: &LlamaMlp, out: &mut [f32]) {
    let (width, hidden) = (w.norm.weight.len(), w.gate_up.outputs());
    assert_eq!([w.gate_up.inputs(), w.down.inputs(), w.down.outputs()], [width, hidden, width]);
    for_each_block(x, out, [width, width], x.len() / width, |_, x, out| {
        let rows = x.len() / width;
        let (mut normed, mut inner) = (Rows::take(rows, width), Rows::take(rows, hidden));
        let stride = normed.stride();
        w.norm.round(x, normed.data(), stride);
        let stride = inner.stride();
        product(engine, &normed, w.gate_up.panels(), &mut Gated { out: inner.data(), stride });
        let branch = Branch::default();
        product(engine, &inner, w.down.panels(), &mut Residual { x, out, width, branch });
    });
}
