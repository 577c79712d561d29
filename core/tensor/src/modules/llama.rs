//! LLaMA (Touvron et al., 2023) as a causal text encoder: InternVL's stage-1 text tower.

use std::sync::Arc;

use dfdx::prelude::{Axes2, HasShape, PermuteTo};

use crate::{
    backend::{Backend, GatedMlpWeights},
    error::{OnDevice, TensorError},
    mask::Mask,
    module::{Forward, InputSize, Module},
    parameter::{Init, ParameterSpec},
    tensor::{Matrix, Seq, reshape},
    value::{Tokens, Value},
};

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
        let prefix = format!("model.layers.{index}");
        let &(batch, len, width) = x.shape();
        let rows = (batch * len, width);
        let normed = |x: &Seq<B>, norm: &str| {
            let weight = cx.row(&format!("{prefix}.{norm}.weight"), width)?;
            cx.backend().rms_norm(reshape::<_, _, B>(x.clone(), rows)?, weight, self.eps)
        };
        let attended = self.attention(cx, &prefix, normed(&x, "input_layernorm")?, (batch, len), mask)?;
        let x = cx.backend().residual(x, attended, None, None)?;
        let matrix = |part: &str, out: usize, inputs: usize| {
            cx.matrix(&format!("{prefix}.mlp.{part}_proj.weight"), out, inputs)
        };
        let weights = GatedMlpWeights {
            gate: matrix("gate", self.mlp_width, width)?,
            up: matrix("up", self.mlp_width, width)?,
            down: matrix("down", width, self.mlp_width)?,
        };
        let expanded = cx.backend().gated_mlp(normed(&x, "post_attention_layernorm")?, weights)?;
        cx.backend().residual(x, reshape::<_, _, B>(expanded, (batch, len, width))?, None, None)
    }

    fn attention<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        prefix: &str,
        x: Matrix<B>,
        (batch, len): (usize, usize),
        mask: &Mask,
    ) -> Result<Seq<B>, TensorError> {
        let width = self.width;
        let linear = |x: Matrix<B>, part: &str| {
            let weight = cx.matrix(&format!("{prefix}.self_attn.{part}_proj.weight"), width, width)?;
            cx.backend().linear(x, weight, None)
        };
        let sequence = |x: Matrix<B>| reshape::<_, _, B>(x, (batch, len, width));
        let positions: Vec<u32> = (0..len as u32).collect();
        let turned = |x: Seq<B>| cx.backend().rotary(x, self.heads, self.rope_base, &positions);
        let q = turned(sequence(linear(x.clone(), "q")?)?)?;
        let k = turned(sequence(linear(x.clone(), "k")?)?)?;
        let v = sequence(linear(x, "v")?)?;
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let out = cx.backend().attention([q, k, v], self.heads, scale, mask)?;
        let out = linear(reshape::<_, _, B>(out, (batch * len, width))?, "o")?;
        sequence(out)
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
                    // The published matrix is `[in, out]`; `linear` takes `[out, in]`.
                    let weight = cx.matrix("text_projection", self.width, out)?;
                    let weight = weight.try_permute::<(usize, usize), Axes2<1, 0>>().on_device()?;
                    cx.backend().linear(last, weight, None)?
                }
            };
            cx.put("eos", Value::Vector(eos));
        }
        let hidden = reshape::<_, _, B>(hidden, (tokens.batch, tokens.len, self.width))?;
        cx.put("hidden", Value::Sequence(hidden));
        Ok(())
    }
}
