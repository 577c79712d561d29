//! The two sub-layers of an InternViT block.
//!
//! Must not know: patches, positions, how blocks follow each other.

use super::epilogue::{Activation, Branch, Residual, Rounded};
use super::linear::for_each_block;
use super::norm::Norm;
use super::pack::PackedWeights;
use super::product::{Rows, product};
use super::self_attention::SelfAttention;
use super::tile::Engine;
use crate::kernels::attention::Mask;

/// Query/key normalisation: an RMS norm over all heads concatenated.
#[derive(Clone, Debug)]
pub struct QkNorm {
    /// Of queries, `[C]`.
    pub query: Norm,
    /// Of keys, `[C]`.
    pub key: Norm,
}

/// Attention of an InternViT block with its norm, projections and LayerScale.
#[derive(Clone, Debug)]
pub struct VitAttention {
    /// Before the projection.
    pub norm: Norm,
    /// Queries, keys and values, `[3C, C]`.
    pub qkv: PackedWeights,
    /// `[3C]`
    pub qkv_bias: Option<Vec<f32>>,
    /// On queries and keys, where the model has it.
    pub qk_norm: Option<QkNorm>,
    /// `[C, C]`
    pub proj: PackedWeights,
    /// `[C]`
    pub proj_bias: Option<Vec<f32>>,
    /// LayerScale, `[C]`.
    pub gamma: Option<Vec<f32>>,
    /// Number of heads; `C / heads` columns each, scores divided by the root of that.
    pub heads: usize,
}

/// Perceptron of an InternViT block with its norm and LayerScale.
#[derive(Clone, Debug)]
pub struct VitMlp {
    /// Before the perceptron.
    pub norm: Norm,
    /// `[hidden, C]`
    pub fc1: PackedWeights,
    /// `[hidden]`
    pub fc1_bias: Option<Vec<f32>>,
    /// `[C, hidden]`
    pub fc2: PackedWeights,
    /// `[C]`
    pub fc2_bias: Option<Vec<f32>>,
    /// LayerScale, `[C]`.
    pub gamma: Option<Vec<f32>>,
}

/// `out = x + keep gamma proj(attention(qkv(norm(x))))`, every token seeing every token of its record.
///
/// # Shapes
/// - `x, out: [B, tokens, C]`, `keep: [B]`
pub fn vit_attention(
    engine: Engine,
    x: &[f32],
    tokens: usize,
    w: &VitAttention,
    keep: Option<&[f32]>,
    out: &mut [f32],
) {
    let width = w.norm.weight.len();
    let layer = SelfAttention {
        norm: &w.norm,
        qkv: &w.qkv,
        qkv_bias: w.qkv_bias.as_deref(),
        out: &w.proj,
        branch: Branch { bias: w.proj_bias.as_deref(), gamma: w.gamma.as_deref(), keep: None },
        heads: w.heads,
        mask: Mask::None,
    };
    let prepare = |rows: &mut [_], stride: usize, _first: usize| {
        if let Some(QkNorm { query, key }) = &w.qk_norm {
            query.in_place(rows, stride);
            key.in_place(&mut rows[width..], stride);
        }
    };
    layer.run(engine, x, tokens, keep, prepare, out);
}

/// `out = x + keep gamma fc2(gelu(fc1(norm(x))))`.
///
/// # Shapes
/// - `x, out: [B, tokens, C]`, `keep: [B]`
pub fn vit_mlp(engine: Engine, x: &[f32], tokens: usize, w: &VitMlp, keep: Option<&[f32]>, out: &mut [f32]) {
    let (width, hidden) = (w.norm.weight.len(), w.fc1.outputs());
    assert_eq!([w.fc1.inputs(), w.fc2.inputs(), w.fc2.outputs()], [width, hidden, width]);
    assert!(keep.is_none_or(|keep| keep.len() * tokens * width == x.len()), "one factor per record");
    for_each_block(x, out, [width, width], tokens, |record, x, out| {
        let rows = x.len() / width;
        let (mut normed, mut inner) = (Rows::take(rows, width), Rows::take(rows, hidden));
        let stride = normed.stride();
        w.norm.round(x, normed.data(), stride);
        let (stride, bias) = (inner.stride(), w.fc1_bias.as_deref());
        let mut gelu = Rounded { out: inner.data(), stride, bias, activation: Activation::Gelu };
        product(engine, &normed, w.fc1.panels(), &mut gelu);
        let keep = keep.map(|keep| keep[record]);
        let branch = Branch { bias: w.fc2_bias.as_deref(), gamma: w.gamma.as_deref(), keep };
        product(engine, &inner, w.fc2.panels(), &mut Residual { x, out, width, branch });
    });
}
