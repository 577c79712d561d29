//! LLaMA (Touvron et al., 2023) as a causal text encoder: InternVL's stage-1 text tower.

use std::sync::Arc;

use dfdx::prelude::{HasShape, Merge};

use crate::{
    backend::{Backend, LlamaAttention, LlamaMlp, RmsNorm, Weights},
    checkpoint::checkpoint,
    error::TensorError,
    mask::Mask,
    module::{Forward, InputSize, Module},
    parameter::{Init, ParameterSpec},
    tape::Tape,
    tensor::{Seq, reshape},
    value::{Tokens, Value},
};

/// The weights of one layer.
struct Layer<B: Backend> {
    attention: LlamaAttention<B>,
    mlp: LlamaMlp<B>,
}

impl<B: Backend> Weights<B> for Layer<B> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        Self { attention: self.attention.with_tape(tape), mlp: self.mlp.with_tape(tape) }
    }

    fn tape(&self) -> Tape<B> {
        self.attention.tape().merge(self.mlp.tape())
    }
}

/// LLaMA without its language head. Input `text` (token ids `[B, T]`); outputs
///
/// * `hidden`: the states after the final norm, `[B, T, width]`; rows of padding have no meaning,
/// * `last`: the state of the last real token, `[B, width]`,
/// * `eos`: `last` times `text_projection`, or `last` itself without one.
///
/// Padding tokens are attended to by nobody, and row 0 of the embedding, which is padding, gets no gradient.
/// The defaults are Chinese-Alpaca 7B with InternVL's projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the gated perceptron.
    pub mlp_width: usize,
    /// Added to mean squares in norms.
    pub eps: f64,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Longest text in tokens.
    pub max_positions: usize,
    /// Width of `text_projection`, if there is one.
    pub projection: Option<usize>,
    /// Whether training keeps only the input of each layer and runs the layer again in the backward pass.
    pub checkpoint: bool,
}

impl Default for Llama {
    fn default() -> Self {
        Self {
            vocab: 49954,
            width: 4096,
            depth: 32,
            heads: 32,
            mlp_width: 11008,
            eps: 1e-6,
            rope_base: 10000.0,
            max_positions: 2048,
            projection: Some(768),
            checkpoint: false,
        }
    }
}

impl Llama {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`TensorError::Config`] with the reason.
    pub fn check(&self) -> Result<(), TensorError> {
        if self.heads == 0 || self.width == 0 || !self.width.is_multiple_of(2 * self.heads) {
            let reason =
                format!("width {} does not divide into {} heads of even size", self.width, self.heads);
            return Err(TensorError::Config(reason));
        }
        Ok(())
    }

    /// One layer: `x + o attention(norm x)`, then `x + mlp(norm x)`.
    fn layer<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        index: usize,
        x: Seq<B>,
        mask: &Mask,
    ) -> Result<Seq<B>, TensorError> {
        let layer = self.weights(cx, &format!("model.layers.{index}"))?;
        let (positions, mask): (Vec<u32>, _) = ((0..x.shape().1 as u32).collect(), mask.clone());
        let run = move |backend: &B, x: Seq<B>, layer: Layer<B>| {
            let x = backend.llama_attention(x, layer.attention, &positions, &mask)?;
            backend.llama_mlp(x, layer.mlp)
        };
        match self.checkpoint {
            true => checkpoint(cx.backend(), x, layer, run),
            false => run(cx.backend(), x, layer),
        }
    }

    fn weights<B: Backend>(&self, cx: &Forward<'_, B>, prefix: &str) -> Result<Layer<B>, TensorError> {
        let (width, hidden) = (self.width, self.mlp_width);
        let norm = |name: &str| -> Result<_, TensorError> {
            Ok(RmsNorm { weight: cx.row(&format!("{prefix}.{name}.weight"), width)?, eps: self.eps })
        };
        let matrix = |name: &str, out: usize, inputs: usize| {
            cx.matrix(&format!("{prefix}.{name}_proj.weight"), out, inputs)
        };
        let attention = LlamaAttention {
            norm: norm("input_layernorm")?,
            query: matrix("self_attn.q", width, width)?,
            key: matrix("self_attn.k", width, width)?,
            value: matrix("self_attn.v", width, width)?,
            out: matrix("self_attn.o", width, width)?,
            heads: self.heads,
            rope_base: self.rope_base,
        };
        let mlp = LlamaMlp {
            norm: norm("post_attention_layernorm")?,
            gate: matrix("mlp.gate", hidden, width)?,
            up: matrix("mlp.up", hidden, width)?,
            down: matrix("mlp.down", width, hidden)?,
        };
        Ok(Layer { attention, mlp })
    }

    fn embed<B: Backend>(&self, cx: &Forward<'_, B>, tokens: &Tokens) -> Result<Seq<B>, TensorError> {
        if tokens.len == 0 || tokens.len > self.max_positions {
            let expected = format!("1 to {}", self.max_positions);
            return Err(TensorError::shape("tokens of a text", expected, tokens.len));
        }
        let table = cx.matrix("model.embed_tokens.weight", self.vocab, self.width)?;
        let rows = cx.backend().embedding(table, &tokens.ids, Some(0))?;
        reshape::<_, _, B>(rows, (tokens.batch, tokens.len, self.width))
    }
}

/// Rows of the last real tokens in `[B T, C]`; the first row of a text without any.
fn last_rows(tokens: &Tokens, real: &[bool]) -> Vec<u32> {
    let last = |(record, real): (usize, &[bool])| {
        let count = real.iter().filter(|&&real| real).count();
        (record * tokens.len + count.saturating_sub(1)) as u32
    };
    real.chunks_exact(tokens.len).enumerate().map(last).collect()
}

impl Module for Llama {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (d, m) = (self.width, self.mlp_width);
        let matrix = Init::Normal { std: 0.02 };
        let mut specs = vec![ParameterSpec::new("model.embed_tokens.weight", [self.vocab, d], matrix)];
        for index in 0..self.depth {
            let name = |local: &str| format!("model.layers.{index}.{local}.weight");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                specs.push(ParameterSpec::new(name(norm), [d], Init::Ones));
            }
            for part in ["q", "k", "v", "o"] {
                specs.push(ParameterSpec::new(name(&format!("self_attn.{part}_proj")), [d, d], matrix));
            }
            for (part, shape) in [("gate", [m, d]), ("up", [m, d]), ("down", [d, m])] {
                specs.push(ParameterSpec::new(name(&format!("mlp.{part}_proj")), shape, matrix));
            }
        }
        specs.push(ParameterSpec::new("model.norm.weight", [d], Init::Ones));
        if let Some(out) = self.projection {
            let std = (d as f64).powf(-0.5);
            specs.push(ParameterSpec::new("text_projection", [d, out], Init::Normal { std }));
        }
        specs
    }

    fn macs(&self, input: InputSize) -> u64 {
        let InputSize::Tokens(tokens) = input else { return 0 };
        let (n, d, m) = (tokens as u64, self.width as u64, self.mlp_width as u64);
        let layer = n * (4 * d * d + 3 * d * m) + 2 * n * n * d;
        self.depth as u64 * layer + self.projection.map_or(0, |out| d * out as u64)
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        self.check()?;
        let tokens = cx.tokens("text")?;
        let real = tokens.real();
        let mask = Mask::Padding { keep: Arc::from(real.as_slice()), causal: true };
        let mut x = self.embed(cx, &tokens)?;
        for index in 0..self.depth {
            x = self.layer(cx, index, x, &mask)?;
        }
        let rows = reshape::<_, _, B>(x, (tokens.batch * tokens.len, self.width))?;
        let hidden = cx.backend().rms_norm(rows, cx.row("model.norm.weight", self.width)?, self.eps)?;
        if cx.wants("last") || cx.wants("eos") {
            let last = cx.backend().embedding(hidden.clone(), &last_rows(&tokens, &real), None)?;
            cx.put("last", Value::Vector(last.clone()));
            let eos = match self.projection {
                None => last,
                Some(out) => {
                    let weight = cx.matrix("text_projection", self.width, out)?;
                    cx.backend().linear_transposed(last, weight)?
                }
            };
            cx.put("eos", Value::Vector(eos));
        }
        let hidden = reshape::<_, _, B>(hidden, (tokens.batch, tokens.len, self.width))?;
        cx.put("hidden", Value::Sequence(hidden));
        Ok(())
    }
}
