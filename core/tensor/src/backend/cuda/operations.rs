//! The [`Backend`] operations by name; each is a line that says where it is done.

use std::ops::Range;

use dfdx::{
    prelude::{HasShape, Shape},
    tensor::Cuda as Device,
};

use super::{Cuda, CudaBuffer, buffer, dense, heads, llama, loss, norm, own_op, scalar, sequence, vit};
use crate::{
    backend::{AdamWStep, Backend, LlamaAttention, LlamaMlp, VitAttention, VitMlp},
    error::{OnDevice, TensorError},
    mask::Mask,
    module::{DynModule, Forward},
    tape::Grads,
    tensor::{Flat, Image, Matrix, Plain, Row, Scalar, Seq, Vector},
};

impl Backend for Cuda {
    type Elem = f32;
    type Device = Device;
    type Buffer = CudaBuffer;

    fn device(&self) -> &Device {
        self.dfdx()
    }

    fn run(&self, module: &dyn DynModule, cx: &mut Forward<'_, Self>) -> Result<(), TensorError> {
        module.forward_cuda(cx)
    }

    /// Every number of rows is another product to cublasLt, which looks for the best way to do it.
    fn gains_by_fewer_rows(&self) -> bool {
        false
    }

    fn buffer(&self, data: Vec<f32>) -> Result<CudaBuffer, TensorError> {
        if data.is_empty() {
            return self.zeros(0);
        }
        Ok(CudaBuffer::new(self.driver().upload(&data)?))
    }

    fn zeros(&self, len: usize) -> Result<CudaBuffer, TensorError> {
        Ok(CudaBuffer::new(self.driver().device().alloc_zeros(len).on_device()?))
    }

    fn buffer_to_vec(&self, buffer: &CudaBuffer) -> Result<Vec<f32>, TensorError> {
        self.download(buffer)
    }

    fn read(&self, tensor: &Flat<Self>) -> Result<CudaBuffer, TensorError> {
        self.buffer_of(tensor)
    }

    fn tensor(&self, buffer: CudaBuffer) -> Result<Flat<Self>, TensorError> {
        self.tensor_of(&buffer)
    }

    fn fresh_copy<S: Shape>(x: Plain<S, Self>) -> Result<Plain<S, Self>, TensorError> {
        buffer::fresh_copy(x)
    }

    fn take_gradient(&self, grads: &mut Grads<Self>, of: &Flat<Self>) -> Result<CudaBuffer, TensorError> {
        let slot = grads.get_or_alloc_mut(of).on_device()?;
        Ok(CudaBuffer::new(own_op::take_slot(self.driver(), slot, of.shape().0)?))
    }

    fn sum_of_squares(&self, x: &CudaBuffer) -> Result<f64, TensorError> {
        Ok(self.squares(&[x])?.into_iter().sum())
    }

    fn sums_of_squares(&self, buffers: &[&CudaBuffer]) -> Result<Vec<f64>, TensorError> {
        self.squares(buffers)
    }

    fn axpy(&self, a: f64, x: &CudaBuffer, y: &mut CudaBuffer) -> Result<(), TensorError> {
        self.add_scaled(a, x, y)
    }

    fn scale(&self, a: f64, x: &mut CudaBuffer) -> Result<(), TensorError> {
        self.scale_buffer(a, x)
    }

    fn adamw(
        &self,
        param: &mut Flat<Self>,
        grad: &CudaBuffer,
        moments: [&mut CudaBuffer; 2],
        step: &AdamWStep,
    ) -> Result<(), TensorError> {
        buffer::adamw(self, param, grad, moments, step)
    }

    fn linear(
        &self,
        x: Matrix<Self>,
        w: Matrix<Self>,
        bias: Option<Row<Self>>,
    ) -> Result<Matrix<Self>, TensorError> {
        dense::linear(self, x, w, bias)
    }

    fn similarities(&self, x: Matrix<Self>, y: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        loss::similarities(self, x, y)
    }

    fn linear_transposed(&self, x: Matrix<Self>, w: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::matmul(self, x, w)
    }

    fn matmul(&self, x: Matrix<Self>, y: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::matmul(self, x, y)
    }

    fn rms_norm(&self, x: Matrix<Self>, w: Row<Self>, eps: f64) -> Result<Matrix<Self>, TensorError> {
        norm::rms(self, x, w, eps)
    }

    fn layer_norm(
        &self,
        x: Matrix<Self>,
        w: Row<Self>,
        b: Row<Self>,
        eps: f64,
    ) -> Result<Matrix<Self>, TensorError> {
        norm::layer(self, x, w, b, eps)
    }

    fn normalize_rows(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        norm::normalize_rows(self, x)
    }

    fn gelu(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::gelu(self, x)
    }

    fn silu(&self, x: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::silu(self, x)
    }

    fn gated(&self, gate: Matrix<Self>, up: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::gated(self, gate, up)
    }

    fn scale_each(&self, x: Matrix<Self>, factors: Vec<f32>) -> Result<Matrix<Self>, TensorError> {
        dense::scale_each(self, x, &factors)
    }

    fn attention(
        &self,
        qkv: [Seq<Self>; 3],
        heads: usize,
        scale: f64,
        mask: &Mask,
    ) -> Result<Seq<Self>, TensorError> {
        heads::separate(self, qkv, heads, scale, mask)
    }

    fn rotary(
        &self,
        x: Seq<Self>,
        heads: usize,
        base: f64,
        positions: &[u32],
    ) -> Result<Seq<Self>, TensorError> {
        heads::rotary(self, x, heads, base, positions)
    }

    fn residual(
        &self,
        x: Seq<Self>,
        y: Seq<Self>,
        gamma: Option<Row<Self>>,
        keep: Option<&[f64]>,
    ) -> Result<Seq<Self>, TensorError> {
        sequence::add_residual(self, x, y, gamma, keep)
    }

    fn vit_attention(
        &self,
        x: Seq<Self>,
        w: VitAttention<Self>,
        keep: Option<&[f64]>,
    ) -> Result<Seq<Self>, TensorError> {
        vit::attention(self, x, w, keep)
    }

    fn vit_mlp(&self, x: Seq<Self>, w: VitMlp<Self>, keep: Option<&[f64]>) -> Result<Seq<Self>, TensorError> {
        vit::mlp(self, x, w, keep)
    }

    fn llama_attention(
        &self,
        x: Seq<Self>,
        w: LlamaAttention<Self>,
        positions: &[u32],
        mask: &Mask,
    ) -> Result<Seq<Self>, TensorError> {
        llama::attention(self, x, w, positions, mask)
    }

    fn llama_mlp(&self, x: Seq<Self>, w: LlamaMlp<Self>) -> Result<Seq<Self>, TensorError> {
        llama::mlp(self, x, w)
    }

    fn embedding(
        &self,
        table: Matrix<Self>,
        ids: &[u32],
        padding: Option<u32>,
    ) -> Result<Matrix<Self>, TensorError> {
        sequence::gather(self, table, ids, padding)
    }

    fn scatter_rows(
        &self,
        x: Matrix<Self>,
        y: Matrix<Self>,
        places: &[u32],
    ) -> Result<Matrix<Self>, TensorError> {
        sequence::scatter(self, x, y, places)
    }

    fn unfold(&self, image: Image<Self>, patch: usize) -> Result<Matrix<Self>, TensorError> {
        sequence::unfold(self, image, patch)
    }

    fn add_class_and_positions(
        &self,
        patches: Seq<Self>,
        class: Row<Self>,
        positions: Matrix<Self>,
    ) -> Result<Seq<Self>, TensorError> {
        sequence::add_class_and_positions(self, patches, class, positions)
    }

    fn slice_rows(&self, x: Seq<Self>, rows: Range<usize>) -> Result<Seq<Self>, TensorError> {
        sequence::slice(self, x, rows)
    }

    fn mean_tokens(&self, x: Seq<Self>) -> Result<Vector<Self>, TensorError> {
        sequence::mean_tokens(self, x)
    }

    fn weighted_sum(&self, losses: &[(f64, Scalar<Self>)]) -> Result<Scalar<Self>, TensorError> {
        scalar::weighted_sum(self, losses)
    }

    fn exp_limited(&self, x: Scalar<Self>, limit: Option<f64>) -> Result<Scalar<Self>, TensorError> {
        scalar::exp_limited(self, x, limit)
    }

    fn scale_by(&self, x: Matrix<Self>, factor: Scalar<Self>) -> Result<Matrix<Self>, TensorError> {
        scalar::scale_by(self, x, factor)
    }

    fn dot(&self, x: Row<Self>, y: Row<Self>) -> Result<Scalar<Self>, TensorError> {
        scalar::dot(self, x, y)
    }

    fn cross_entropy(
        &self,
        logits: Matrix<Self>,
        targets: &[Option<u32>],
        smoothing: f64,
    ) -> Result<Scalar<Self>, TensorError> {
        loss::cross_entropy(self, logits, targets, smoothing)
    }

    fn contrastive(
        &self,
        image: Vector<Self>,
        text: Vector<Self>,
        scale: Scalar<Self>,
        smoothing: f64,
    ) -> Result<Scalar<Self>, TensorError> {
        loss::contrastive(self, image, text, scale, smoothing)
    }
}
