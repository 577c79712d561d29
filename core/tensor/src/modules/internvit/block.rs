//! One block: `x + keep ls1 attention(norm1 x)`, then `x + keep ls2 mlp(norm2 x)`.

use dfdx::prelude::{HasShape, Merge};
use rand::Rng;

use super::InternVit;
use crate::{
    backend::{Backend, QkNorm, RmsNorm, VitAttention, VitMlp, Weights},
    checkpoint::checkpoint,
    error::TensorError,
    module::{Forward, Mode},
    tape::Tape,
    tensor::Seq,
};

/// The weights of one block.
struct Block<B: Backend> {
    attention: VitAttention<B>,
    mlp: VitMlp<B>,
}

impl<B: Backend> Weights<B> for Block<B> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        Self { attention: self.attention.with_tape(tape), mlp: self.mlp.with_tape(tape) }
    }

    fn tape(&self) -> Tape<B> {
        self.attention.tape().merge(self.mlp.tape())
    }
}

/// Runs block `index` on `x` `[B, N, width]`.
pub(super) fn forward<B: Backend>(
    vit: &InternVit,
    cx: &Forward<'_, B>,
    index: usize,
    x: Seq<B>,
) -> Result<Seq<B>, TensorError> {
    let prefix = format!("encoder.layers.{index}");
    let block = Block { attention: attention(vit, cx, &prefix)?, mlp: mlp(vit, cx, &prefix)? };
    let (batch, rate) = (x.shape().0, vit.drop_path_of(index));
    let keep = ["ls1", "ls2"].map(|branch| drop_path(cx, &format!("{prefix}.{branch}"), batch, rate));
    let run = move |backend: &B, x: Seq<B>, block: Block<B>| {
        let x = backend.vit_attention(x, block.attention, keep[0].as_deref())?;
        backend.vit_mlp(x, block.mlp, keep[1].as_deref())
    };
    match vit.checkpoint {
        true => checkpoint(cx.backend(), x, block, run),
        false => run(cx.backend(), x, block),
    }
}

fn norm<B: Backend>(vit: &InternVit, cx: &Forward<'_, B>, name: &str) -> Result<RmsNorm<B>, TensorError> {
    Ok(RmsNorm { weight: cx.row(&format!("{name}.weight"), vit.width)?, eps: vit.eps })
}

fn attention<B: Backend>(
    vit: &InternVit,
    cx: &Forward<'_, B>,
    prefix: &str,
) -> Result<VitAttention<B>, TensorError> {
    let width = vit.width;
    let name = |local: &str| format!("{prefix}.attn.{local}");
    let qk = |part: &str| cx.row(&name(&format!("{part}_norm.weight")), width);
    Ok(VitAttention {
        norm: norm(vit, cx, &format!("{prefix}.norm1"))?,
        qkv: cx.matrix(&name("qkv.weight"), 3 * width, width)?,
        qkv_bias: vit.qkv_bias.then(|| cx.row(&name("qkv.bias"), 3 * width)).transpose()?,
        qk_norm: match vit.qk_norm {
            true => Some(QkNorm { query: qk("q")?, key: qk("k")?, eps: vit.eps }),
            false => None,
        },
        proj: cx.matrix(&name("proj.weight"), width, width)?,
        proj_bias: cx.row(&name("proj.bias"), width)?,
        gamma: cx.row(&format!("{prefix}.ls1"), width)?,
        heads: vit.heads,
    })
}

fn mlp<B: Backend>(vit: &InternVit, cx: &Forward<'_, B>, prefix: &str) -> Result<VitMlp<B>, TensorError> {
    let name = |local: &str| format!("{prefix}.mlp.{local}");
    Ok(VitMlp {
        norm: norm(vit, cx, &format!("{prefix}.norm2"))?,
        fc1: cx.matrix(&name("fc1.weight"), vit.mlp_width, vit.width)?,
        fc1_bias: cx.row(&name("fc1.bias"), vit.mlp_width)?,
        fc2: cx.matrix(&name("fc2.weight"), vit.width, vit.mlp_width)?,
        fc2_bias: cx.row(&name("fc2.bias"), vit.width)?,
        gamma: cx.row(&format!("{prefix}.ls2"), vit.width)?,
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
