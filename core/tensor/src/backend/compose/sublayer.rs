//! Whole sub-layers, each made of the backend's own smaller operations.

use dfdx::prelude::HasShape;

use super::attention::packed_attention;
use crate::{
    backend::{Backend, CrossAttention, LlamaAttention, LlamaMlp, VitAttention, VitMlp},
    error::TensorError,
    mask::Mask,
    tensor::{Matrix, Seq, reshape},
};

/// `[B, N, C]` to `[B N, C]`.
fn rows<B: Backend>(x: Seq<B>) -> Result<Matrix<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    reshape::<_, _, B>(x, (batch * len, width))
}

/// `1 / sqrt(columns of a head)`
fn score_scale(width: usize, heads: usize) -> f64 {
    ((width / heads) as f64).powf(-0.5)
}

/// See [`Backend::vit_attention`].
pub fn vit_attention<B: Backend>(
    backend: &B,
    x: Seq<B>,
    w: VitAttention<B>,
    keep: Option<&[f64]>,
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let normed = backend.rms_norm(rows::<B>(x.clone())?, w.norm.weight, w.norm.eps)?;
    let qkv = backend.linear(normed, w.qkv, w.qkv_bias)?;
    let qkv = reshape::<_, _, B>(qkv, (batch, len, 3 * width))?;
    let scale = score_scale(width, w.heads);
    let out = packed_attention(backend, qkv, w.qk_norm, w.heads, scale, &Mask::None)?;
    let out = backend.linear(rows::<B>(out)?, w.proj, Some(w.proj_bias))?;
    backend.residual(x, reshape::<_, _, B>(out, (batch, len, width))?, Some(w.gamma), keep)
}

/// See [`Backend::vit_mlp`].
pub fn vit_mlp<B: Backend>(
    backend: &B,
    x: Seq<B>,
    w: VitMlp<B>,
    keep: Option<&[f64]>,
) -> Result<Seq<B>, TensorError> {
    let shape = *x.shape();
    let normed = backend.rms_norm(rows::<B>(x.clone())?, w.norm.weight, w.norm.eps)?;
    let hidden = backend.gelu(backend.linear(normed, w.fc1, Some(w.fc1_bias))?)?;
    let out = backend.linear(hidden, w.fc2, Some(w.fc2_bias))?;
    backend.residual(x, reshape::<_, _, B>(out, shape)?, Some(w.gamma), keep)
}

/// See [`Backend::llama_attention`].
pub fn llama_attention<B: Backend>(
    backend: &B,
    x: Seq<B>,
    w: LlamaAttention<B>,
    positions: &[u32],
    mask: &Mask,
) -> Result<Seq<B>, TensorError> {
    let (shape, w) = (*x.shape(), w.for_each_head(backend)?);
    let normed = backend.rms_norm(rows::<B>(x.clone())?, w.norm.weight, w.norm.eps)?;
    let project =
        |weight: Matrix<B>| reshape::<_, _, B>(backend.linear(normed.clone(), weight, None)?, shape);
    let turned = |x: Seq<B>| backend.rotary(x, w.heads, w.rope_base, positions);
    let (q, k, v) = (turned(project(w.query)?)?, turned(project(w.key)?)?, project(w.value)?);
    let out = backend.attention([q, k, v], w.heads, score_scale(shape.2, w.heads), mask)?;
    let out = backend.linear(rows::<B>(out)?, w.out, None)?;
    backend.residual(x, reshape::<_, _, B>(out, shape)?, None, None)
}

/// See [`Backend::cross_attention`].
pub fn cross_attention<B: Backend>(
    backend: &B,
    q: Seq<B>,
    v: Seq<B>,
    w: CrossAttention<B>,
) -> Result<Seq<B>, TensorError> {
    let (shape, &(batch, seen, _)) = (*q.shape(), v.shape());
    let asking = backend.rms_norm(rows::<B>(q)?, w.norm.weight, w.norm.eps)?;
    let asked = backend.rms_norm(rows::<B>(v)?, w.vision_norm.weight, w.vision_norm.eps)?;
    let queries = reshape::<_, _, B>(backend.linear(asking, w.query, None)?, shape)?;
    let kept = (batch, seen, shape.2);
    let keys = reshape::<_, _, B>(backend.linear(asked.clone(), w.key, None)?, kept)?;
    let values = reshape::<_, _, B>(backend.linear(asked, w.value, None)?, kept)?;
    let scale = score_scale(shape.2, w.heads);
    let out = backend.attention([queries, keys, values], w.heads, scale, &Mask::None)?;
    reshape::<_, _, B>(backend.linear(rows::<B>(out)?, w.out, None)?, shape)
}

/// See [`Backend::llama_mlp`].
pub fn llama_mlp<B: Backend>(backend: &B, x: Seq<B>, w: LlamaMlp<B>) -> Result<Seq<B>, TensorError> {
    let shape = *x.shape();
    let normed = backend.rms_norm(rows::<B>(x.clone())?, w.norm.weight, w.norm.eps)?;
    let gate = backend.linear(normed.clone(), w.gate, None)?;
    let up = backend.linear(normed, w.up, None)?;
    let out = backend.linear(backend.gated(gate, up)?, w.down, None)?;
    backend.residual(x, reshape::<_, _, B>(out, shape)?, None, None)
}
