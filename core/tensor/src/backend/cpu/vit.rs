//! The branches of an InternViT block: from tensors to [`sublayer`] kernels and back.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    frozen::Layer,
    own_op::{Input, finish_on, merged, read, with_gradients},
};
use crate::{
    backend::{VitAttention, VitMlp},
    error::TensorError,
    kernels::{
        bf16::{self, PackedWeights},
        sublayer::{self, AttentionGrads, Closing, ClosingGrads, MlpGrads, Norm, QkNorm},
    },
    tensor::{Seq, constant},
};

/// `keep` of each record as the factor of each row.
fn keep_rows(keep: Option<&[f64]>, len: usize) -> Option<Vec<f32>> {
    keep.map(|keep| keep.iter().flat_map(|&keep| std::iter::repeat_n(keep as f32, len)).collect())
}

/// `keep` in the kernels' precision.
fn records(keep: Option<&[f64]>) -> Option<Vec<f32>> {
    keep.map(|keep| keep.iter().map(|&keep| keep as f32).collect())
}

/// Inputs of [`attention`], with its sizes.
struct Attention {
    x: Input,
    norm: Input,
    eps: f32,
    qkv: Input,
    qkv_bias: Option<Input>,
    query: Option<Input>,
    key: Option<Input>,
    qk_eps: f32,
    proj: Input,
    proj_bias: Input,
    gamma: Input,
    keep: Option<Vec<f32>>,
    width: usize,
    batch: usize,
    heads: usize,
}

impl Attention {
    fn read(x: Seq<Cpu>, w: VitAttention<Cpu>, keep: Option<&[f64]>) -> Result<Self, TensorError> {
        let &(batch, len, width) = x.shape();
        let qk_eps = w.qk_norm.as_ref().map_or(0.0, |norm| norm.eps as f32);
        let (query, key) = w.qk_norm.map(|norm| (norm.query, norm.key)).unzip();
        Ok(Self {
            x: read(x)?,
            norm: read(w.norm.weight)?,
            eps: w.norm.eps as f32,
            qkv: read(w.qkv)?,
            qkv_bias: w.qkv_bias.map(read).transpose()?,
            query: query.map(read).transpose()?,
            key: key.map(read).transpose()?,
            qk_eps,
            proj: read(w.proj)?,
            proj_bias: read(w.proj_bias)?,
            gamma: read(w.gamma)?,
            keep: keep_rows(keep, len),
            width,
            batch,
            heads: w.heads,
        })
    }

    fn inputs(&self) -> [Option<&Input>; 9] {
        [
            Some(&self.x),
            Some(&self.norm),
            Some(&self.qkv),
            self.qkv_bias.as_ref(),
            self.query.as_ref(),
            self.key.as_ref(),
            Some(&self.proj),
            Some(&self.proj_bias),
            Some(&self.gamma),
        ]
    }

    /// The weights for frozen towers.
    fn packed(&self) -> bf16::VitAttention {
        let width = self.width;
        let norm = |input: &Input, eps| bf16::Norm { weight: input.data().to_vec(), eps };
        let qk_norm = self.query.as_ref().zip(self.key.as_ref());
        bf16::VitAttention {
            norm: norm(&self.norm, self.eps),
            qkv: PackedWeights::pack(self.qkv.data(), 3 * width, width),
            qkv_bias: self.qkv_bias.as_ref().map(|bias| bias.data().to_vec()),
            qk_norm: qk_norm.map(|(query, key)| bf16::QkNorm {
                query: norm(query, self.qk_eps),
                key: norm(key, self.qk_eps),
            }),
            proj: PackedWeights::pack(self.proj.data(), width, width),
            proj_bias: Some(self.proj_bias.data().to_vec()),
            gamma: Some(self.gamma.data().to_vec()),
            heads: self.heads,
        }
    }

    fn kernel(&self) -> sublayer::VitAttention<'_> {
        let qk_norm = self.query.as_ref().zip(self.key.as_ref());
        sublayer::VitAttention {
            norm: Norm { weight: self.norm.data(), eps: self.eps },
            qkv: self.qkv.data(),
            qkv_bias: self.qkv_bias.as_ref().map(Input::data),
            qk_norm: qk_norm.map(|(query, key)| QkNorm {
                query: query.data(),
                key: key.data(),
                eps: self.qk_eps,
            }),
            closing: Closing {
                weight: self.proj.data(),
                bias: Some(self.proj_bias.data()),
                gamma: Some(self.gamma.data()),
                keep: self.keep.as_deref(),
                width: self.width,
            },
            batch: self.batch,
            heads: self.heads,
        }
    }
}

/// See [`crate::Backend::vit_attention`].
pub(super) fn attention(
    backend: &Cpu,
    x: Seq<Cpu>,
    w: VitAttention<Cpu>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cpu>, TensorError> {
    let shape = *x.shape();
    let op = Attention::read(x, w, keep)?;
    let tape = merged(op.inputs().into_iter().flatten());
    let mut out = vec![0.0; op.x.data().len()];
    if let Some(frozen) = &backend.frozen {
        let weights = op.inputs().into_iter().flatten().skip(1);
        let layer = frozen.layer(weights, &tape, || Layer::VitAttention(op.packed()))?;
        let Layer::VitAttention(packed) = &*layer else { unreachable!("the weights are attention's") };
        let keep = records(keep);
        bf16::vit_attention(frozen.engine, op.x.data(), shape.1, packed, keep.as_deref(), &mut out);
        return constant(backend, out, shape);
    }
    let saved = op.kernel().forward(op.x.data(), &mut out, tape.is_on());
    finish_on(backend, out, shape, tape, move |grads, dout| {
        let Some(saved) = saved else { return Ok(()) };
        with_gradients(grads, op.inputs(), |[x, norm, qkv, qkv_bias, query, key, weight, bias, gamma]| {
            let closing = ClosingGrads { weight, bias, gamma };
            let grads = AttentionGrads { x, norm, qkv, qkv_bias, qk_norm: [query, key], closing };
            op.kernel().backward(op.x.data(), saved, dout, grads);
        })
    })
}

/// Inputs of [`mlp`], with its sizes.
struct Mlp {
    x: Input,
    norm: Input,
    eps: f32,
    fc1: Input,
    fc1_bias: Input,
    fc2: Input,
    fc2_bias: Input,
    gamma: Input,
    keep: Option<Vec<f32>>,
    width: usize,
}

impl Mlp {
    /// The weights for frozen towers.
    fn packed(&self) -> bf16::VitMlp {
        let (width, hidden) = (self.width, self.fc1_bias.data().len());
        bf16::VitMlp {
            norm: bf16::Norm { weight: self.norm.data().to_vec(), eps: self.eps },
            fc1: PackedWeights::pack(self.fc1.data(), hidden, width),
            fc1_bias: Some(self.fc1_bias.data().to_vec()),
            fc2: PackedWeights::pack(self.fc2.data(), width, hidden),
            fc2_bias: Some(self.fc2_bias.data().to_vec()),
            gamma: Some(self.gamma.data().to_vec()),
        }
    }

    fn inputs(&self) -> [&Input; 7] {
        [&self.x, &self.norm, &self.fc1, &self.fc1_bias, &self.fc2, &self.fc2_bias, &self.gamma]
    }

    fn kernel(&self) -> sublayer::VitMlp<'_> {
        sublayer::VitMlp {
            norm: Norm { weight: self.norm.data(), eps: self.eps },
            fc1: self.fc1.data(),
            fc1_bias: self.fc1_bias.data(),
            closing: Closing {
                weight: self.fc2.data(),
                bias: Some(self.fc2_bias.data()),
                gamma: Some(self.gamma.data()),
                keep: self.keep.as_deref(),
                width: self.width,
            },
        }
    }
}

/// See [`crate::Backend::vit_mlp`].
pub(super) fn mlp(
    backend: &Cpu,
    x: Seq<Cpu>,
    w: VitMlp<Cpu>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cpu>, TensorError> {
    let shape = *x.shape();
    let op = Mlp {
        x: read(x)?,
        norm: read(w.norm.weight)?,
        eps: w.norm.eps as f32,
        fc1: read(w.fc1)?,
        fc1_bias: read(w.fc1_bias)?,
        fc2: read(w.fc2)?,
        fc2_bias: read(w.fc2_bias)?,
        gamma: read(w.gamma)?,
        keep: keep_rows(keep, shape.1),
        width: shape.2,
    };
    let tape = merged(op.inputs());
    let mut out = vec![0.0; op.x.data().len()];
    if let Some(frozen) = &backend.frozen {
        let weights = op.inputs().into_iter().skip(1);
        let layer = frozen.layer(weights, &tape, || Layer::VitMlp(op.packed()))?;
        let Layer::VitMlp(packed) = &*layer else { unreachable!("the weights are a perceptron's") };
        let keep = records(keep);
        bf16::vit_mlp(frozen.engine, op.x.data(), shape.1, packed, keep.as_deref(), &mut out);
        return constant(backend, out, shape);
    }
    let saved = op.kernel().forward(op.x.data(), &mut out, tape.is_on());
    finish_on(backend, out, shape, tape, move |grads, dout| {
        let Some(saved) = saved else { return Ok(()) };
        with_gradients(grads, op.inputs(), |[x, norm, fc1, fc1_bias, weight, bias, gamma]| {
            let closing = ClosingGrads { weight, bias, gamma };
            let grads = MlpGrads { x, norm, fc1, fc1_bias, closing };
            op.kernel().backward(op.x.data(), saved, dout, grads);
        })
    })
}
