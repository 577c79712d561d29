//! The CPU: fused kernels behind the [`Backend`] operations.
//!
//! Every operation that decides speed is one step on the tape, however many kernels it runs. Results have the
//! same bits for any number of threads, and a record's for any batch it is in.

mod attention;
mod by_weights;
mod compact;
mod dense;
mod frozen;
mod llama;
mod loss;
mod norm;
mod own_op;
mod sequence;
mod vit;

use std::sync::Arc;

use dfdx::prelude::{Cpu as Device, HasShape};

use self::{compact::CompactWeights, frozen::Frozen, own_op::Input};
use super::{AdamWStep, Backend, LlamaAttention, LlamaMlp, VitAttention, VitMlp, host};
use crate::{
    error::{OnDevice, TensorError, expect_size},
    kernels::{
        adamw,
        bf16::{self, Engine},
        compact::Compact,
        linear::Dims,
        vector,
    },
    mask::Mask,
    module::{DynModule, Forward},
    tape::{Grads, Tape},
    tensor::{Flat, Image, Matrix, Row, Scalar, Seq, Vector, plain, plain_to_vec},
};

/// The CPU with fused kernels on rayon's current pool; in single precision, or in bf16 for frozen towers.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    device: Device,
    frozen: Option<Arc<Frozen>>,
    compact: Option<Arc<CompactWeights>>,
}

impl Cpu {
    /// A CPU for weights that do not change, in single precision with the same bits. Matrices that meet at most 256 rows at a time,
    /// as in a decoder's steps, are kept a second time in the form that is quickest to read, for as long as this value or a
    /// clone of it lives: weights that were published in 16 bits in two bytes each, blocks of GGUF in one and a quarter, others in
    /// four up to 256 MiB in all. Make one for each set of weights.
    pub fn inference() -> Self {
        Self { compact: Some(Arc::default()), ..Self::default() }
    }

    /// A CPU whose transformer blocks and linear layers run in bf16, where the processor multiplies bf16 itself
    /// (`avx512_bf16`). What is on a tape is refused; pooling and losses stay in single precision. Weights are packed
    /// once and kept for as long as this value or a clone of it lives: make one for each set of weights.
    pub fn bf16() -> Option<Self> {
        bf16::supported().then(|| Self::bf16_on(Engine::detect()))
    }

    /// The same on any processor, rounded alike and slow: for tests.
    pub fn bf16_portable() -> Self {
        Self::bf16_on(Engine::Portable)
    }

    fn bf16_on(engine: Engine) -> Self {
        Self { frozen: Some(Arc::new(Frozen::new(engine))), ..Self::default() }
    }
}

impl Cpu {
    /// The kept form of a parameter, for a product that `tape` records nothing of.
    fn kept_matrix(&self, w: &Input, dims: Dims, tape: &Tape<Self>) -> Option<Arc<Compact>> {
        let compact = self.compact.as_ref().filter(|_| !tape.is_on())?;
        compact.of(w, dims)
    }
}

impl Backend for Cpu {
    type Elem = f32;
    type Device = Device;
    type Buffer = Vec<f32>;

    fn device(&self) -> &Device {
        &self.device
    }

    fn run(&self, module: &dyn DynModule, cx: &mut Forward<'_, Self>) -> Result<(), TensorError> {
        module.forward_cpu(cx)
    }

    fn buffer(&self, data: Vec<f32>) -> Result<Vec<f32>, TensorError> {
        Ok(data)
    }

    fn buffer_to_vec(&self, buffer: &Vec<f32>) -> Result<Vec<f32>, TensorError> {
        Ok(buffer.clone())
    }

    fn read(&self, tensor: &Flat<Self>) -> Result<Vec<f32>, TensorError> {
        plain_to_vec::<_, Self>(tensor)
    }

    fn tensor(&self, buffer: Vec<f32>) -> Result<Flat<Self>, TensorError> {
        let len = buffer.len();
        plain(self, buffer, (len,))
    }

    fn take_gradient(&self, grads: &mut Grads<Self>, of: &Flat<Self>) -> Result<Vec<f32>, TensorError> {
        let slot = grads.get_or_alloc_mut(of).on_device()?;
        Ok(host::take_slot(slot, of.shape().0))
    }

    fn sum_of_squares(&self, x: &Vec<f32>) -> Result<f64, TensorError> {
        Ok(vector::sum_of_squares(x))
    }

    fn axpy(&self, a: f64, x: &Vec<f32>, y: &mut Vec<f32>) -> Result<(), TensorError> {
        expect_size("elements", y.len(), x.len())?;
        vector::axpy(a as f32, x, y);
        Ok(())
    }

    fn scale(&self, a: f64, x: &mut Vec<f32>) -> Result<(), TensorError> {
        vector::scale(a as f32, x);
        Ok(())
    }

    fn adamw(
        &self,
        param: &mut Flat<Self>,
        grad: &Vec<f32>,
        [m, v]: [&mut Vec<f32>; 2],
        step: &AdamWStep,
    ) -> Result<(), TensorError> {
        let mut values = self.read(param)?;
        expect_size("elements of the gradient", values.len(), grad.len())?;
        let update = adamw::Update {
            lr: step.lr as f32,
            beta1: step.betas[0] as f32,
            beta2: step.betas[1] as f32,
            eps: step.eps as f32,
            weight_decay: step.weight_decay as f32,
            bias1: step.bias_corrections[0] as f32,
            bias2: step.bias_corrections[1] as f32,
            grad_scale: 1.0,
        };
        adamw::step(&mut values, grad, m, v, &update);
        *param = self.tensor(values)?;
        Ok(())
    }

    fn linear(
        &self,
        x: Matrix<Self>,
        w: Matrix<Self>,
        bias: Option<Row<Self>>,
    ) -> Result<Matrix<Self>, TensorError> {
        dense::linear(self, x, w, bias)
    }

    fn linear_onto(
        &self,
        onto: Matrix<Self>,
        x: Matrix<Self>,
        w: Matrix<Self>,
    ) -> Result<Matrix<Self>, TensorError> {
        dense::onto(self, onto, x, w)
    }

    fn linear_transposed(&self, x: Matrix<Self>, w: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::linear_transposed(self, x, w)
    }

    fn similarities(&self, x: Matrix<Self>, y: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::product(self, x, y)
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

    fn gated(&self, gate: Matrix<Self>, up: Matrix<Self>) -> Result<Matrix<Self>, TensorError> {
        dense::gated(self, gate, up)
    }

    fn scale_each(&self, x: Matrix<Self>, factors: Vec<f32>) -> Result<Matrix<Self>, TensorError> {
        dense::scale_each(self, x, factors)
    }

    fn attention(
        &self,
        qkv: [Seq<Self>; 3],
        heads: usize,
        scale: f64,
        mask: &Mask,
    ) -> Result<Seq<Self>, TensorError> {
        attention::separate(self, qkv, heads, scale, mask)
    }

    fn rotary(
        &self,
        x: Seq<Self>,
        heads: usize,
        base: f64,
        positions: &[u32],
    ) -> Result<Seq<Self>, TensorError> {
        attention::rotary(self, x, heads, base, positions)
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

    fn concat_rows(&self, x: Seq<Self>, y: Seq<Self>) -> Result<Seq<Self>, TensorError> {
        sequence::concat(self, x, y)
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

    fn mean_tokens(&self, x: Seq<Self>) -> Result<Vector<Self>, TensorError> {
        sequence::mean_tokens(self, x)
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
