//! The branches of a LLaMA layer: from tensors to [`sublayer`] kernels and back.

use std::sync::Arc;

use dfdx::prelude::HasShape;

use super::{
    Cpu, attention,
    frozen::Layer,
    own_op::{Input, finish_on, merged, read, with_gradients},
};
use crate::{
    backend::{LlamaAttention, LlamaMlp},
    error::TensorError,
    kernels::{
        bf16::{self, PackedWeights, Rotary},
        compact::Compact,
        linear::Dims,
        sublayer::{self, Closing, LlamaAttentionGrads, LlamaMlpGrads, Norm},
    },
    mask::Mask,
    tape::Tape,
    tensor::{Seq, constant},
};

/// A last projection without bias or scale.
fn closing(weight: &Input, width: usize) -> Closing<'_> {
    Closing { weight: weight.data(), bias: None, gamma: None, keep: None, width }
}

/// Inputs of [`attention`], with its sizes.
struct Attention {
    x: Input,
    norm: Input,
    eps: f32,
    qkv: [Input; 3],
    out: Input,
    width: usize,
    batch: usize,
    heads: usize,
    rope_base: f32,
    positions: Vec<u32>,
    mask: Mask,
}

impl Attention {
    /// The weights for frozen towers, with the rows of keys and values that are `repeated`.
    fn packed(&self, repeated: Option<&[u32]>) -> bf16::LlamaAttention {
        let width = self.width;
        let [q, k, v] = self.qkv.each_ref().map(Input::data);
        let rows = |w: &[f32]| -> Vec<f32> {
            let places = repeated.unwrap_or_default().iter().map(|&place| place as usize * width);
            places.flat_map(|first| w[first..first + width].to_vec()).collect()
        };
        let qkv = match repeated {
            None => PackedWeights::stack(&[q, k, v], width),
            Some(_) => PackedWeights::stack(&[q, &rows(k), &rows(v)], width),
        };
        bf16::LlamaAttention {
            norm: bf16::Norm { weight: self.norm.data().to_vec(), eps: self.eps },
            qkv,
            out: PackedWeights::pack(self.out.data(), width, width),
            heads: self.heads,
        }
    }

    fn inputs(&self) -> [&Input; 6] {
        let [q, k, v] = &self.qkv;
        [&self.x, &self.norm, q, k, v, &self.out]
    }

    fn kernel(&self) -> sublayer::LlamaAttention<'_> {
        sublayer::LlamaAttention {
            norm: Norm { weight: self.norm.data(), eps: self.eps },
            qkv: self.qkv.each_ref().map(Input::data),
            closing: closing(&self.out, self.width),
            batch: self.batch,
            heads: self.heads,
            rope_base: self.rope_base,
            positions: &self.positions,
            mask: attention::borrow(&self.mask),
        }
    }
}

/// See [`crate::Backend::llama_attention`].
pub(super) fn attention(
    backend: &Cpu,
    x: Seq<Cpu>,
    w: LlamaAttention<Cpu>,
    positions: &[u32],
    mask: &Mask,
) -> Result<Seq<Cpu>, TensorError> {
    let shape @ (batch, len, width) = *x.shape();
    mask.check(batch, len, len)?;
    // What is packed is found again by the parameters themselves, and repeated only then.
    let (w, repeated) = match backend.frozen {
        Some(_) => (w.clone(), w.repeated_rows()?),
        None => (w.for_each_head(backend)?, None),
    };
    let op = Attention {
        x: read(x)?,
        norm: read(w.norm.weight)?,
        eps: w.norm.eps as f32,
        qkv: [read(w.query)?, read(w.key)?, read(w.value)?],
        out: read(w.out)?,
        width,
        batch,
        heads: w.heads,
        rope_base: w.rope_base as f32,
        positions: positions.to_vec(),
        mask: mask.clone(),
    };
    let tape = merged(op.inputs());
    let mut out = vec![0.0; op.x.data().len()];
    if let Some(frozen) = &backend.frozen {
        let weights = op.inputs().into_iter().skip(1);
        let layer = frozen.layer(weights, &tape, || Layer::LlamaAttention(op.packed(repeated.as_deref())))?;
        let Layer::LlamaAttention(packed) = &*layer else { unreachable!("the weights are attention's") };
        let rotary = Rotary::new(positions, width / op.heads, op.rope_base);
        let mask = attention::borrow(mask);
        bf16::llama_attention(frozen.engine, op.x.data(), packed, &rotary, mask, &mut out);
        return constant(backend, out, shape);
    }
    let saved = op.kernel().forward(op.x.data(), &mut out, tape.is_on());
    finish_on(backend, out, shape, tape, move |grads, dout| {
        let Some(saved) = saved else { return Ok(()) };
        with_gradients(grads, op.inputs(), |[x, norm, q, k, v, out]| {
            let grads = LlamaAttentionGrads { x, norm, qkv: [q, k, v], out };
            op.kernel().backward(op.x.data(), saved, dout, grads);
        })
    })
}

/// Inputs of [`mlp`], with its sizes.
struct Mlp {
    x: Input,
    norm: Input,
    eps: f32,
    gate: Input,
    up: Input,
    down: Input,
    width: usize,
}

impl Mlp {
    /// The weights for frozen towers.
    fn packed(&self) -> bf16::LlamaMlp {
        let width = self.width;
        let hidden = self.down.data().len() / width;
        bf16::LlamaMlp {
            norm: bf16::Norm { weight: self.norm.data().to_vec(), eps: self.eps },
            gate_up: PackedWeights::pack_gated(self.gate.data(), self.up.data(), hidden, width),
            down: PackedWeights::pack(self.down.data(), width, hidden),
        }
    }

    /// The kept forms of gate, up and the last projection.
    fn kept(&self, backend: &Cpu, tape: &Tape<Cpu>) -> [Option<Arc<Compact>>; 3] {
        let (width, hidden) = (self.width, self.down.data().len() / self.width.max(1));
        let rows = self.x.data().len() / width.max(1);
        let of = |w, inputs, outputs| backend.kept_matrix(w, Dims { rows, inputs, outputs }, tape);
        [of(&self.gate, width, hidden), of(&self.up, width, hidden), of(&self.down, hidden, width)]
    }

    fn inputs(&self) -> [&Input; 5] {
        [&self.x, &self.norm, &self.gate, &self.up, &self.down]
    }

    fn kernel(&self) -> sublayer::LlamaMlp<'_> {
        sublayer::LlamaMlp {
            norm: Norm { weight: self.norm.data(), eps: self.eps },
            gate: self.gate.data(),
            up: self.up.data(),
            closing: closing(&self.down, self.width),
        }
    }
}

/// See [`crate::Backend::llama_mlp`].
pub(super) fn mlp(backend: &Cpu, x: Seq<Cpu>, w: LlamaMlp<Cpu>) -> Result<Seq<Cpu>, TensorError> {
    let shape = *x.shape();
    let op = Mlp {
        x: read(x)?,
        norm: read(w.norm.weight)?,
        eps: w.norm.eps as f32,
        gate: read(w.gate)?,
        up: read(w.up)?,
        down: read(w.down)?,
        width: shape.2,
    };
    let tape = merged(op.inputs());
    let mut out = vec![0.0; op.x.data().len()];
    if let Some(frozen) = &backend.frozen {
        let weights = op.inputs().into_iter().skip(1);
        let layer = frozen.layer(weights, &tape, || Layer::LlamaMlp(op.packed()))?;
        let Layer::LlamaMlp(packed) = &*layer else { unreachable!("the weights are a perceptron's") };
        bf16::llama_mlp(frozen.engine, op.x.data(), packed, &mut out);
        return constant(backend, out, shape);
    }
    let kept = op.kept(backend, &tape);
    if kept.iter().any(Option::is_some) {
        op.kernel().few_rows(op.x.data(), &mut out, kept.each_ref().map(Option::as_deref));
        return constant(backend, out, shape);
    }
    let saved = op.kernel().forward(op.x.data(), &mut out, tape.is_on());
    finish_on(backend, out, shape, tape, move |grads, dout| {
        let Some(saved) = saved else { return Ok(()) };
        with_gradients(grads, op.inputs(), |[x, norm, gate, up, down]| {
            let grads = LlamaMlpGrads { x, norm, gate, up, down };
            op.kernel().backward(op.x.data(), saved, dout, grads);
        })
    })
}
