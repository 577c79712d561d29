//! One block: `x + keep ls1 attention(norm1 x)`, then `x + keep ls2 mlp(norm2 x)`.

use dfdx::prelude::HasShape;
use rand::Rng;

use super::InternVit;
use crate::{
    backend::{Backend, MlpWeights, QkNorm},
    error::TensorError,
    mask::Mask,
    module::{Forward, Mode},
    tensor::{Matrix, Seq, reshape},
};

/// Runs block `index` on `x` `[B, N, width]`.
pub(super) fn forward<B: Backend>(
    vit: &InternVit,
    cx: &Forward<'_, B>,
    index: usize,
    x: Seq<B>,
) -> Result<Seq<B>, TensorError> {
    let prefix = format!("encoder.layers.{index}");
    let &(batch, len, width) = x.shape();
    let branch = |x: &Seq<B>, norm: &str| -> Result<Matrix<B>, TensorError> {
        let rows = reshape::<_, _, B>(x.clone(), (batch * len, width))?;
        cx.backend().rms_norm(rows, cx.row(&format!("{prefix}.{norm}.weight"), width)?, vit.eps)
    };
    let close = |x: Seq<B>, y: Matrix<B>, scale: &str| -> Result<Seq<B>, TensorError> {
        let y = reshape::<_, _, B>(y, (batch, len, width))?;
        let gamma = cx.row(&format!("{prefix}.{scale}"), width)?;
        let keep = drop_path(cx, &format!("{prefix}.{scale}"), batch, vit.drop_path_of(index));
        cx.backend().residual(x, y, Some(gamma), keep.as_deref())
    };
    let attended = attention(vit, cx, &prefix, branch(&x, "norm1")?, (batch, len))?;
    let x = close(x, attended, "ls1")?;
    let expanded = cx.backend().mlp(branch(&x, "norm2")?, mlp_weights(vit, cx, &prefix)?)?;
    close(x, expanded, "ls2")
}

/// `[B N, C]` to `[B N, C]`.
fn attention<B: Backend>(
    vit: &InternVit,
    cx: &Forward<'_, B>,
    prefix: &str,
    x: Matrix<B>,
    (batch, len): (usize, usize),
) -> Result<Matrix<B>, TensorError> {
    let width = vit.width;
    let name = |local: &str| format!("{prefix}.attn.{local}");
    let bias = vit.qkv_bias.then(|| cx.row(&name("qkv.bias"), 3 * width)).transpose()?;
    let qkv = cx.backend().linear(x, cx.matrix(&name("qkv.weight"), 3 * width, width)?, bias)?;
    let qkv = reshape::<_, _, B>(qkv, (batch, len, 3 * width))?;
    let norm = |part: &str| cx.row(&name(&format!("{part}_norm.weight")), width);
    let qk_norm = match vit.qk_norm {
        true => Some(QkNorm { query: norm("q")?, key: norm("k")?, eps: vit.eps }),
        false => None,
    };
    let scale = ((width / vit.heads) as f64).powf(-0.5);
    let out = cx.backend().packed_attention(qkv, qk_norm, vit.heads, scale, &Mask::None)?;
    let out = reshape::<_, _, B>(out, (batch * len, width))?;
    let bias = cx.row(&name("proj.bias"), width)?;
    cx.backend().linear(out, cx.matrix(&name("proj.weight"), width, width)?, Some(bias))
}

fn mlp_weights<B: Backend>(
    vit: &InternVit,
    cx: &Forward<'_, B>,
    prefix: &str,
) -> Result<MlpWeights<B>, TensorError> {
    let name = |local: &str| format!("{prefix}.mlp.{local}");
    Ok(MlpWeights {
        fc1: cx.matrix(&name("fc1.weight"), vit.mlp_width, vit.width)?,
        fc1_bias: cx.row(&name("fc1.bias"), vit.mlp_width)?,
        fc2: cx.matrix(&name("fc2.weight"), vit.width, vit.mlp_width)?,
        fc2_bias: cx.row(&name("fc2.bias"), vit.width)?,
    })
}

/// What each record's branch is multiplied by: 0 with probability `rate`, else `1 / (1 - rate)` (Huang et
/// al., 2016). `None` where the branch always runs.
fn drop_path<B: Backend>(cx: &Forward<'_, B>, purpose: &str, batch: usize, rate: f64) -> Option<Vec<f64>> {
    (cx.mode() == Mode::Train && rate > 0.0).then(|| {
        let mut random = cx.random(purpose);
        let kept = (1.0 - rate).recip();
        (0..batch).map(|_| if random.gen_bool(rate) { 0.0 } else { kept }).collect()
    })
}
