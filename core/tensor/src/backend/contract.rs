//! What a device has to offer: the [`Backend`] trait.
//!
//! In and out: tensors with run-time shapes, each with its tape, so that every operation is differentiable
//! with respect to all of its tensor inputs. An input whose tape is off gets no gradient.
//!
//! The default bodies compose dfdx operations ([`super::compose`]): they run on every device and are the
//! reference in tests. A backend overrides the ones that it can do better. Sizes are checked by the callers
//! (modules), which know the names to put into an error; dfdx asserts them once more.

use std::{fmt::Debug, ops::Range};

use dfdx::{prelude::Shape, tensor_ops::Device};

use super::{
    compose,
    weights::{CrossAttention, LlamaAttention, LlamaMlp, VitAttention, VitMlp},
};
use crate::{
    element::Element,
    error::TensorError,
    mask::Mask,
    module::{DynModule, Forward},
    tape::Grads,
    tensor::{Flat, Image, Matrix, Plain, Row, Scalar, Seq, Vector},
};

/// One update of AdamW (Loshchilov and Hutter, 2019, algorithm 2), with everything that depends on the step
/// number already worked out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this parameter at this step.
    pub lr: f64,
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of this parameter; 0 for vectors and biases.
    pub weight_decay: f64,
    /// `1 - beta^t` for each moment.
    pub bias_corrections: [f64; 2],
}

/// A device, an element type and the kernels for both. See the module documentation.
pub trait Backend: Clone + Debug + Send + Sync + Sized + 'static {
    /// What tensors are made of.
    type Elem: Element;
    /// Where dfdx keeps them.
    type Device: Device<Self::Elem>;
    /// Device memory outside the reach of tapes: gradients, moments, averages.
    type Buffer: Clone + Debug + Send + Sync + 'static;

    /// The dfdx device.
    fn device(&self) -> &Self::Device;

    /// Calls a module that is only known as a trait object: the one place where the concrete backend meets
    /// the type-erased module.
    ///
    /// # Errors
    /// What the module's `forward` returns.
    fn run(&self, module: &dyn DynModule, cx: &mut Forward<'_, Self>) -> Result<(), TensorError>;

    /// Whether it pays to leave out an eighth of a sequence's rows: gathering the others and putting them back costs less.
    fn gains_by_fewer_rows(&self) -> bool {
        true
    }

    /// Copies numbers into device memory.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn buffer(&self, data: Vec<Self::Elem>) -> Result<Self::Buffer, TensorError>;

    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn zeros(&self, len: usize) -> Result<Self::Buffer, TensorError> {
        self.buffer(vec![Self::Elem::default(); len])
    }

    /// Copies device memory to the host.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn buffer_to_vec(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>, TensorError>;

    /// Copies a tensor into a buffer.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn read(&self, tensor: &Flat<Self>) -> Result<Self::Buffer, TensorError>;

    /// Makes a tensor of a buffer.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn tensor(&self, buffer: Self::Buffer) -> Result<Flat<Self>, TensorError>;

    /// The same values in memory of their own, under an identity of their own.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn fresh_copy<S: Shape>(x: Plain<S, Self>) -> Result<Plain<S, Self>, TensorError> {
        compose::fresh_copy::<S, Self>(x)
    }

    /// Moves the gradient of `of` out of `grads`; zeros if nothing reached it.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn take_gradient(&self, grads: &mut Grads<Self>, of: &Flat<Self>) -> Result<Self::Buffer, TensorError>;

    /// Sum of squares in a fixed order.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn sum_of_squares(&self, x: &Self::Buffer) -> Result<f64, TensorError>;

    /// [`Backend::sum_of_squares`] of each buffer: one wait for the device instead of one for each.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn sums_of_squares(&self, buffers: &[&Self::Buffer]) -> Result<Vec<f64>, TensorError> {
        buffers.iter().map(|buffer| self.sum_of_squares(buffer)).collect()
    }

    /// `y += a x`, elementwise.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the lengths differ.
    fn axpy(&self, a: f64, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<(), TensorError>;

    /// `x *= a`, elementwise.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    fn scale(&self, a: f64, x: &mut Self::Buffer) -> Result<(), TensorError>;

    /// One AdamW update of `param` and its two moments, in place.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the lengths differ.
    fn adamw(
        &self,
        param: &mut Flat<Self>,
        grad: &Self::Buffer,
        moments: [&mut Self::Buffer; 2],
        step: &AdamWStep,
    ) -> Result<(), TensorError>;

    /// `x w^T + bias`: `[R, in]`, `[out, in]`, `[out]` to `[R, out]`. `w` is a parameter, of which a backend may keep what it makes;
    /// for other products there is [`Backend::similarities`].
    ///
    /// # Errors
    /// [`TensorError::Device`], here and in all operations below.
    fn linear(
        &self,
        x: Matrix<Self>,
        w: Matrix<Self>,
        bias: Option<Row<Self>>,
    ) -> Result<Matrix<Self>, TensorError> {
        compose::linear::<Self>(x, w, bias)
    }

    /// `onto + x w^T`, `[R, out]`: what closes a branch of a residual network. On the processor one sum that begins with
    /// `onto`, as in the fused branches.
    fn linear_onto(
        &self,
        onto: Matrix<Self>,
        x: Matrix<Self>,
        w: Matrix<Self>,
    ) -> Result<Matrix<Self>, TensorError> {
        compose::linear_onto(self, onto, x, w)
    }

    /// `x w` for a weight that was published the other way round: `[R, in]`, `[in, out]` to `[R, out]`.
    fn linear_transposed(&self, x: Matrix<Self>, w: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::linear_transposed(self, x, w)
    }

    /// `x y^T` of two activations, `[R, C]` and `[S, C]` to `[R, S]`: what [`Backend::linear`] is with a
    /// weight.
    fn similarities(&self, x: Matrix<Self>, y: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        self.linear(x, y, None)
    }

    /// The matrix product `x y`, `[R, K]` times `[K, N]`.
    fn matmul(&self, x: Matrix<Self>, y: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::matmul::<Self>(x, y)
    }

    /// Root-mean-square norm of each row (Zhang and Sennrich, 2019): `w x / sqrt(mean(x^2) + eps)`.
    fn rms_norm(&self, x: Matrix<Self>, w: Row<Self>, eps: f64) -> Result<Matrix<Self>, TensorError> {
        compose::rms_norm::<Self>(x, w, eps)
    }

    /// Layer norm of each row (Ba et al., 2016): `w (x - mean) / sqrt(var + eps) + b`, biased variance.
    fn layer_norm(
        &self,
        x: Matrix<Self>,
        w: Row<Self>,
        b: Row<Self>,
        eps: f64,
    ) -> Result<Matrix<Self>, TensorError> {
        compose::layer_norm::<Self>(x, w, b, eps)
    }

    /// `x / max(|x|, 1e-12)` for each row.
    fn normalize_rows(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::normalize_rows::<Self>(x)
    }

    /// `x Phi(x)` with the exact normal distribution function.
    fn gelu(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::gelu::<Self>(x)
    }

    /// `x sigmoid(x)`.
    fn silu(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::silu::<Self>(x)
    }

    /// `silu(gate) up`, elementwise: the middle of a gated perceptron.
    fn gated(&self, gate: Matrix<Self>, up: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::gated(self, gate, up)
    }

    /// Each element of `x` times a number of its own, which gets no gradient: dropout.
    fn scale_each(&self, x: Matrix<Self>, factors: Vec<Self::Elem>) -> Result<Matrix<Self>, TensorError> {
        compose::scale_each(self, x, factors)
    }

    /// Multi-head attention `softmax(scale q k^T + mask) v` per head; `q` is `[B, Nq, C]`, `k` and `v` are
    /// `[B, Nk, C]`, the result is `[B, Nq, C]`. Head `h` is columns `h C/heads ..`.
    fn attention(
        &self,
        [q, k, v]: [Seq<Self>; 3],
        heads: usize,
        scale: f64,
        mask: &Mask,
    ) -> Result<Seq<Self>, TensorError> {
        compose::attention(self, [q, k, v], heads, scale, mask)
    }

    /// Rotary position embedding (Su et al., 2021) in LLaMA's half-split form: within each head, columns `i`
    /// and `i + d/2` turn by `position / base^(2i/d)`. `x` is `[B, T, C]`, one position per column `T`.
    fn rotary(
        &self,
        x: Seq<Self>,
        heads: usize,
        base: f64,
        positions: &[u32],
    ) -> Result<Seq<Self>, TensorError> {
        compose::rotary(self, x, heads, base, positions)
    }

    /// `x + keep gamma y`: `[B, N, C]`, `gamma` is LayerScale's `[C]`, `keep` scales each record (stochastic
    /// depth: 0 or `1 / (1 - rate)`).
    fn residual(
        &self,
        x: Seq<Self>,
        y: Seq<Self>,
        gamma: Option<Row<Self>>,
        keep: Option<&[f64]>,
    ) -> Result<Seq<Self>, TensorError> {
        compose::residual(self, x, y, gamma, keep)
    }

    /// The attention branch of an InternViT block: `x + keep gamma proj(attention(qkv(norm(x))))`, `[B, N,
    /// C]`, every token seeing every token. `keep` scales each record's branch, as in [`Backend::residual`].
    fn vit_attention(
        &self,
        x: Seq<Self>,
        w: VitAttention<Self>,
        keep: Option<&[f64]>,
    ) -> Result<Seq<Self>, TensorError> {
        compose::vit_attention(self, x, w, keep)
    }

    /// The perceptron branch of an InternViT block: `x + keep gamma fc2(gelu(fc1(norm(x))))`, `[B, N, C]`.
    fn vit_mlp(&self, x: Seq<Self>, w: VitMlp<Self>, keep: Option<&[f64]>) -> Result<Seq<Self>, TensorError> {
        compose::vit_mlp(self, x, w, keep)
    }

    /// The attention branch of a LLaMA layer: `x + out(attention(q, k, v))` of `norm(x)`, with rotary
    /// positions on queries and keys, one position per token, `[B, T, C]`.
    fn llama_attention(
        &self,
        x: Seq<Self>,
        w: LlamaAttention<Self>,
        positions: &[u32],
        mask: &Mask,
    ) -> Result<Seq<Self>, TensorError> {
        compose::llama_attention(self, x, w, positions, mask)
    }

    /// QLLaMA's cross-attention, without its residual: `out(attention(query(norm(q)), key(n), value(n)))` with `n =
    /// vision_norm(v)`, every query seeing every row of `v`, no positions. `[B, Q, C]`, `[B, N, D]` to `[B, Q, C]`.
    fn cross_attention(
        &self,
        q: Seq<Self>,
        v: Seq<Self>,
        w: CrossAttention<Self>,
    ) -> Result<Seq<Self>, TensorError> {
        compose::cross_attention(self, q, v, w)
    }

    /// The perceptron branch of a LLaMA layer: `x + down(silu(gate(n)) * up(n))` with `n = norm(x)`, `[B, T,
    /// C]`.
    fn llama_mlp(&self, x: Seq<Self>, w: LlamaMlp<Self>) -> Result<Seq<Self>, TensorError> {
        compose::llama_mlp(self, x, w)
    }

    /// Rows `ids` of `table`, `[V, C]` to `[ids, C]`. Rows of the table named by `padding` get no gradient.
    ///
    /// # Errors
    /// [`TensorError::OutOfRange`] for an id beyond the table.
    fn embedding(
        &self,
        table: Matrix<Self>,
        ids: &[u32],
        padding: Option<u32>,
    ) -> Result<Matrix<Self>, TensorError> {
        compose::embedding(self, table, ids, padding)
    }

    /// Patches of images as rows: `[B, C, H, W]` to `[B (H/p) (W/p), C p p]`, patches row by row, the
    /// columns in the order of a convolution kernel `[D, C, p, p]`.
    fn unfold(&self, image: Image<Self>, patch: usize) -> Result<Matrix<Self>, TensorError> {
        compose::unfold::<Self>(image, patch)
    }

    /// Puts the class embedding `[C]` before the patches `[B, N, C]` and adds positions `[N + 1, C]`.
    fn add_class_and_positions(
        &self,
        patches: Seq<Self>,
        class: Row<Self>,
        positions: Matrix<Self>,
    ) -> Result<Seq<Self>, TensorError> {
        compose::add_class_and_positions::<Self>(patches, class, positions)
    }

    /// Rows `rows` of each sequence, `[B, N, C]` to `[B, rows, C]`.
    fn slice_rows(&self, x: Seq<Self>, rows: Range<usize>) -> Result<Seq<Self>, TensorError> {
        compose::slice_rows::<Self>(x, rows)
    }

    /// The rows of `x`, then those of `y`, of each sequence: `[B, N, C]` and `[B, M, C]` to `[B, N + M, C]`.
    fn concat_rows(&self, x: Seq<Self>, y: Seq<Self>) -> Result<Seq<Self>, TensorError> {
        compose::concat_rows(self, x, y)
    }

    /// `x` with row `s` of `y` added to its row `places[s]`: `[R, C]` and `[S, C]` to `[R, C]`. No place comes twice.
    fn scatter_rows(
        &self,
        x: Matrix<Self>,
        y: Matrix<Self>,
        places: &[u32],
    ) -> Result<Matrix<Self>, TensorError> {
        compose::scatter_rows(self, x, y, places)
    }

    /// Mean over the rows of each sequence, `[B, N, C]` to `[B, C]`.
    fn mean_tokens(&self, x: Seq<Self>) -> Result<Vector<Self>, TensorError> {
        compose::mean_tokens::<Self>(x)
    }

    /// `sum of weight * loss`, 0 without losses.
    fn weighted_sum(&self, losses: &[(f64, Scalar<Self>)]) -> Result<Scalar<Self>, TensorError> {
        compose::weighted_sum(self, losses)
    }

    /// `exp(x)`, at most `limit`; beyond the limit nothing passes back.
    fn exp_limited(&self, x: Scalar<Self>, limit: Option<f64>) -> Result<Scalar<Self>, TensorError> {
        compose::exp_limited::<Self>(x, limit)
    }

    /// All elements of `x` times one number.
    fn scale_by(&self, x: Matrix<Self>, factor: Scalar<Self>) -> Result<Matrix<Self>, TensorError> {
        compose::scale_by::<Self>(x, factor)
    }

    /// `sum(x y)`; the two may be the same tensor.
    fn dot(&self, x: Row<Self>, y: Row<Self>) -> Result<Scalar<Self>, TensorError> {
        compose::dot::<Self>(x, y)
    }

    /// Mean over rows of the cross-entropy of `[R, classes]`; a row whose target is `None` does not count,
    /// and without any counting row the loss is 0. With smoothing `s` a target is `1 - s` of its class plus
    /// `s / classes` of each (Szegedy et al., 2016).
    ///
    /// # Errors
    /// [`TensorError::OutOfRange`] for a target beyond the classes.
    fn cross_entropy(
        &self,
        logits: Matrix<Self>,
        targets: &[Option<u32>],
        smoothing: f64,
    ) -> Result<Scalar<Self>, TensorError> {
        compose::cross_entropy(self, logits, targets, smoothing)
    }

    /// Symmetric contrastive loss (CLIP; Radford et al., 2021): mean of the cross-entropies of
    /// `scale image text^T` over rows and over columns, with targets on the diagonal. Both inputs `[B, C]`.
    fn contrastive(
        &self,
        image: Vector<Self>,
        text: Vector<Self>,
        scale: Scalar<Self>,
        smoothing: f64,
    ) -> Result<Scalar<Self>, TensorError> {
        compose::contrastive(self, image, text, scale, smoothing)
    }
}
