//! What the operations on whole sub-layers take: their weights, as tensors with tapes.

use dfdx::prelude::{HasShape, Merge, PutTape, Shape, SplitTape};

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    tape::Tape,
    tensor::{Matrix, Row, Tensor, gather_rows},
};

/// An RMS norm (Zhang and Sennrich, 2019): `weight x / sqrt(mean(x^2) + eps)`.
#[derive(Debug, Clone)]
pub struct RmsNorm<B: Backend> {
    /// `[C]`
    pub weight: Row<B>,
    /// Added to the mean square.
    pub eps: f64,
}

/// Query/key normalisation: an RMS norm over all heads concatenated, on queries and on keys.
#[derive(Debug, Clone)]
pub struct QkNorm<B: Backend> {
    /// Weight for queries, `[C]`.
    pub query: Row<B>,
    /// Weight for keys, `[C]`.
    pub key: Row<B>,
    /// Added to the mean square.
    pub eps: f64,
}

/// Attention of an InternViT block with its norm, projections and LayerScale.
#[derive(Debug, Clone)]
pub struct VitAttention<B: Backend> {
    /// Before the projection.
    pub norm: RmsNorm<B>,
    /// Queries, keys and values, `[3C, C]`.
    pub qkv: Matrix<B>,
    /// `[3C]`
    pub qkv_bias: Option<Row<B>>,
    /// On queries and keys, where the model has it.
    pub qk_norm: Option<QkNorm<B>>,
    /// `[C, C]`
    pub proj: Matrix<B>,
    /// `[C]`
    pub proj_bias: Row<B>,
    /// LayerScale, `[C]`.
    pub gamma: Row<B>,
    /// Number of heads; `C / heads` columns each, scores divided by the root of that.
    pub heads: usize,
}

/// Perceptron of an InternViT block with its norm and LayerScale.
#[derive(Debug, Clone)]
pub struct VitMlp<B: Backend> {
    /// Before the perceptron.
    pub norm: RmsNorm<B>,
    /// `[hidden, C]`
    pub fc1: Matrix<B>,
    /// `[hidden]`
    pub fc1_bias: Row<B>,
    /// `[C, hidden]`
    pub fc2: Matrix<B>,
    /// `[C]`
    pub fc2_bias: Row<B>,
    /// LayerScale, `[C]`.
    pub gamma: Row<B>,
}

/// Self-attention of a LLaMA layer with its norm, projections and rotary positions.
#[derive(Debug, Clone)]
pub struct LlamaAttention<B: Backend> {
    /// Before the projections.
    pub norm: RmsNorm<B>,
    /// `[C, C]`
    pub query: Matrix<B>,
    /// `[K, C]`: `K / (C / heads)` heads, each read by as many heads of the queries (Ainslie et al., 2023).
    pub key: Matrix<B>,
    /// `[K, C]`
    pub value: Matrix<B>,
    /// `[C, C]`
    pub out: Matrix<B>,
    /// Number of heads of the queries; `C / heads` columns each, scores divided by the root of that.
    pub heads: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
}

impl<B: Backend> LlamaAttention<B> {
    /// The same with a head of keys and values for every head of the queries, `[C, C]`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the heads cannot be shared out evenly.
    pub fn for_each_head(mut self, backend: &B) -> Result<Self, TensorError> {
        if let Some(rows) = self.repeated_rows()? {
            self.key = gather_rows(backend, self.key, &rows)?;
            self.value = gather_rows(backend, self.value, &rows)?;
        }
        Ok(self)
    }

    /// Which row of `key` and `value` belongs to each column of the queries; none if that is its own.
    ///
    /// # Errors
    /// as [`LlamaAttention::for_each_head`]
    pub(super) fn repeated_rows(&self) -> Result<Option<Vec<u32>>, TensorError> {
        let (&(width, _), &(kept, _)) = (self.query.shape(), self.key.shape());
        expect_size("rows of the values' projection", kept, self.value.shape().0)?;
        let (size, heads) = (width / self.heads.max(1), self.heads.max(1));
        let whole = size > 0 && kept > 0 && kept.is_multiple_of(size) && heads.is_multiple_of(kept / size);
        if !whole {
            let expected = format!("whole heads of {size} that divide {heads}");
            return Err(TensorError::shape("rows of the keys' projection", expected, kept));
        }
        let readers = heads * size / kept;
        let row = |column: usize| (column / size / readers * size + column % size) as u32;
        Ok((readers > 1).then(|| (0..width).map(row).collect()))
    }
}

/// Cross-attention of a QLLaMA layer from queries to visual features, with both norms, without biases.
#[derive(Debug, Clone)]
pub struct CrossAttention<B: Backend> {
    /// Of the queries, before their projection.
    pub norm: RmsNorm<B>,
    /// Of the visual features `[D]`, before theirs.
    pub vision_norm: RmsNorm<B>,
    /// `[C, C]`
    pub query: Matrix<B>,
    /// `[C, D]`
    pub key: Matrix<B>,
    /// `[C, D]`
    pub value: Matrix<B>,
    /// `[C, C]`
    pub out: Matrix<B>,
    /// Number of heads; `C / heads` columns each, scores divided by the root of that.
    pub heads: usize,
}

/// Gated perceptron of a LLaMA layer with its norm, without biases.
#[derive(Debug, Clone)]
pub struct LlamaMlp<B: Backend> {
    /// Before the perceptron.
    pub norm: RmsNorm<B>,
    /// `[hidden, C]`
    pub gate: Matrix<B>,
    /// `[hidden, C]`
    pub up: Matrix<B>,
    /// `[C, hidden]`
    pub down: Matrix<B>,
}

/// Weights that can be read through another tape: what recomputation needs.
pub trait Weights<B: Backend>: Sized {
    /// The same weights, those that were on a tape now on `tape`; constants stay constants.
    #[must_use]
    fn with_tape(&self, tape: &Tape<B>) -> Self;

    /// The tape that the weights are on, off if all are constants.
    fn tape(&self) -> Tape<B>;
}

impl<S: Shape, B: Backend> Weights<B> for Tensor<S, B> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        let (tensor, old) = self.clone().split_tape();
        tensor.put_tape(if old.is_on() { tape.clone() } else { old })
    }

    fn tape(&self) -> Tape<B> {
        self.clone().split_tape().1
    }
}

impl<B: Backend, T: Weights<B>> Weights<B> for Option<T> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        self.as_ref().map(|weights| weights.with_tape(tape))
    }

    fn tape(&self) -> Tape<B> {
        self.as_ref().map_or(Tape::off(), Weights::tape)
    }
}

/// `struct { fields with weights } { fields that are copied }`
macro_rules! weights {
    ($($name:ident { $($weights:ident),* } { $($rest:ident),* })*) => {$(
        impl<B: Backend> Weights<B> for $name<B> {
            fn with_tape(&self, tape: &Tape<B>) -> Self {
                Self { $($weights: self.$weights.with_tape(tape),)* $($rest: self.$rest,)* }
            }

            fn tape(&self) -> Tape<B> {
                Tape::off()$(.merge(self.$weights.tape()))*
            }
        }
    )*};
}

weights! {
    RmsNorm { weight } { eps }
    QkNorm { query, key } { eps }
    VitAttention { norm, qkv, qkv_bias, qk_norm, proj, proj_bias, gamma } { heads }
    VitMlp { norm, fc1, fc1_bias, fc2, fc2_bias, gamma } {}
    LlamaAttention { norm, query, key, value, out } { heads, rope_base }
    CrossAttention { norm, vision_norm, query, key, value, out } { heads }
    LlamaMlp { norm, gate, up, down } {}
}
