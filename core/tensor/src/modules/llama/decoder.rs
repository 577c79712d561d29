//! LLaMA's stack (Touvron et al., 2023): what the text tower, QLLaMA and the chat decoder have in common.

use super::lora::{Lora, Projection};
use crate::{
    Backend,
    backend::{LlamaAttention, LlamaMlp, RmsNorm},
    error::TensorError,
    module::Forward,
    parameter::{Init, ParameterSpec},
    tensor::Matrix,
    value::Tokens,
};

/// A pre-norm decoder with RMS norms, rotary positions in half-split form, and gated perceptrons, no biases. The
/// defaults are Chinese-Alpaca 7B, InternVL's.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values, each read by `heads / kv_heads` heads of queries (grouped-query attention, Ainslie et
    /// al., 2023); as many as heads if not given.
    pub kv_heads: Option<usize>,
    /// Hidden width of the gated perceptron.
    pub mlp_width: usize,
    /// Added to mean squares in norms.
    pub eps: f64,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Longest sequence in tokens.
    pub max_positions: usize,
    /// Whether training keeps only the input of each layer and runs the layer again in the backward pass.
    pub checkpoint: bool,
    /// Thin matrices beside some projections of every layer.
    pub lora: Option<Lora>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            vocab: 49954,
            width: 4096,
            depth: 32,
            heads: 32,
            kv_heads: None,
            mlp_width: 11008,
            eps: 1e-6,
            rope_base: 10000.0,
            max_positions: 2048,
            checkpoint: false,
            lora: None,
        }
    }
}

/// The published name of the matrix from states to scores of tokens.
pub(in crate::modules) const HEAD: &str = "lm_head.weight";

const TABLE: &str = "model.embed_tokens.weight";

impl Decoder {
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
        let kept = self.kept_heads();
        if kept == 0 || !self.heads.is_multiple_of(kept) {
            let reason = format!("{} heads do not divide among {kept} heads of keys and values", self.heads);
            return Err(TensorError::Config(reason));
        }
        self.lora.as_ref().map_or(Ok(()), Lora::check)
    }

    /// Heads of keys and values.
    fn kept_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Columns of keys, and of values.
    fn kept_width(&self) -> usize {
        self.kept_heads() * self.head_dim()
    }

    /// Columns of one head.
    pub(in crate::modules) fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Rows and columns of a projection.
    pub(super) fn sizes(&self, projection: Projection) -> [usize; 2] {
        let (d, m, kept) = (self.width, self.mlp_width, self.kept_width());
        match projection {
            Projection::Query | Projection::Out => [d, d],
            Projection::Key | Projection::Value => [kept, d],
            Projection::Gate | Projection::Up => [m, d],
            Projection::Down => [d, m],
        }
    }

    /// The embedding, the layers, the final norm, what is beside the layers' projections.
    pub(in crate::modules) fn parameters(&self) -> Vec<ParameterSpec> {
        let (d, m, kept) = (self.width, self.mlp_width, self.kept_width());
        let mut specs = vec![ParameterSpec::new(TABLE, [self.vocab, d], MATRIX)];
        for index in 0..self.depth {
            let name = |local: &str| format!("model.layers.{index}.{local}.weight");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                specs.push(ParameterSpec::new(name(norm), [d], Init::Ones));
            }
            for (part, rows) in [("q", d), ("k", kept), ("v", kept), ("o", d)] {
                specs.push(ParameterSpec::new(name(&format!("self_attn.{part}_proj")), [rows, d], MATRIX));
            }
            for (part, shape) in [("gate", [m, d]), ("up", [m, d]), ("down", [d, m])] {
                specs.push(ParameterSpec::new(name(&format!("mlp.{part}_proj")), shape, MATRIX));
            }
        }
        specs.push(ParameterSpec::new("model.norm.weight", [d], Init::Ones));
        specs.extend(self.lora_parameters());
        specs
    }

    /// The matrix from states to scores.
    pub(in crate::modules) fn head_parameter(&self) -> ParameterSpec {
        ParameterSpec::new(HEAD, [self.vocab, self.width], MATRIX)
    }

    /// Multiply-adds of all layers for a sequence of this many tokens that see each other.
    pub(in crate::modules) fn macs(&self, tokens: usize) -> u64 {
        let (n, d, m) = (tokens as u64, self.width as u64, self.mlp_width as u64);
        let kept = (self.kept_width()) as u64;
        self.depth as u64 * (n * (2 * d * d + 2 * d * kept + 3 * d * m + self.lora_macs()) + 2 * n * n * d)
    }

    /// Rows of the embedding for some of the tokens of a batch, `[places, C]`. Row 0, which is padding, gets no
    /// gradient.
    pub(in crate::modules) fn embed<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        ids: &[u32],
    ) -> Result<Matrix<B>, TensorError> {
        let table = cx.matrix(TABLE, self.vocab, self.width)?;
        cx.backend().embedding(table, ids, Some(0))
    }

    /// Checks the length of a sequence.
    ///
    /// # Errors
    /// [`TensorError::Shape`]
    pub(in crate::modules) fn check_length(&self, tokens: usize) -> Result<(), TensorError> {
        if tokens == 0 || tokens > self.max_positions {
            let expected = format!("1 to {}", self.max_positions);
            return Err(TensorError::shape("tokens of a sequence", expected, tokens));
        }
        Ok(())
    }

    /// Weights of self-attention of layer `index`.
    pub(in crate::modules) fn attention<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        index: usize,
    ) -> Result<LlamaAttention<B>, TensorError> {
        let (width, kept) = (self.width, self.kept_width());
        let matrix = |part: &str, rows: usize| {
            cx.matrix(&format!("model.layers.{index}.self_attn.{part}_proj.weight"), rows, width)
        };
        Ok(LlamaAttention {
            norm: self.norm(cx, &format!("model.layers.{index}.input_layernorm.weight"))?,
            query: matrix("q", width)?,
            key: matrix("k", kept)?,
            value: matrix("v", kept)?,
            out: matrix("o", width)?,
            heads: self.heads,
            rope_base: self.rope_base,
        })
    }

    /// Weights of the perceptron of layer `index`.
    pub(in crate::modules) fn mlp<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        index: usize,
    ) -> Result<LlamaMlp<B>, TensorError> {
        let matrix = |part: &str, rows: usize, columns: usize| {
            cx.matrix(&format!("model.layers.{index}.mlp.{part}_proj.weight"), rows, columns)
        };
        Ok(LlamaMlp {
            norm: self.norm(cx, &format!("model.layers.{index}.post_attention_layernorm.weight"))?,
            gate: matrix("gate", self.mlp_width, self.width)?,
            up: matrix("up", self.mlp_width, self.width)?,
            down: matrix("down", self.width, self.mlp_width)?,
        })
    }

    fn norm<B: Backend>(&self, cx: &Forward<'_, B>, name: &str) -> Result<RmsNorm<B>, TensorError> {
        Ok(RmsNorm { weight: cx.row(name, self.width)?, eps: self.eps })
    }

    /// The norm after the last layer, `[R, C]`.
    pub(in crate::modules) fn finish<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        rows: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        cx.backend().rms_norm(rows, cx.row("model.norm.weight", self.width)?, self.eps)
    }

    /// Scores of all tokens after each row, `[R, C]` to `[R, V]`.
    pub(in crate::modules) fn logits<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        rows: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        cx.backend().linear(rows, cx.matrix(HEAD, self.vocab, self.width)?, None)
    }
}

const MATRIX: Init = Init::Normal { std: 0.02 };

/// Rows of the last real tokens in `[B T, C]`; the first row of a text without any.
pub(in crate::modules) fn last_rows(tokens: &Tokens) -> Vec<u32> {
    let last = |(record, real): (usize, &[bool])| {
        let count = real.iter().filter(|&&real| real).count();
        (record * tokens.len + count.saturating_sub(1)) as u32
    };
    tokens.real().chunks_exact(tokens.len.max(1)).enumerate().map(last).collect()
}
