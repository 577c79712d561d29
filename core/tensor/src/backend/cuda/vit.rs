//! The two branches of an InternViT block, each one step on the tape.
//!
//! Of the forward pass stay: the input (which is the residual stream), packed queries, keys and values, the
//! attention's result with its log-sum-exp, the perceptron's pre-activations, and, where LayerScale learns,
//! the branch before it. Norms and activations are worked out again.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, Kind, View, for_kind},
    attention::{Attention, Sizes},
    columns::Columns,
    driver::{Argument, Grid},
    heads::{Packed, QkNorms},
    norm::Norm,
    operand::Operand,
    own_op::{Input, finish, tape},
};
use crate::{
    backend::{VitAttention, VitMlp},
    error::TensorError,
    mask::Mask,
    tape::Grads,
    tensor::{Row, Seq},
};

/// The end of a branch: `x + keep gamma (y + bias)`.
struct Joint {
    bias: Input,
    gamma: Input,
    /// One factor for each record.
    keep: Option<Array>,
    rows: usize,
    width: usize,
    tokens: usize,
}

impl Joint {
    fn new(
        cuda: &Cuda,
        (batch, tokens, width): (usize, usize, usize),
        bias: Row<Cuda>,
        gamma: Row<Cuda>,
        keep: Option<&[f64]>,
    ) -> Result<Self, TensorError> {
        let keep = keep.map(|keep| cuda.factors(keep)).transpose()?;
        let (bias, gamma) = (Input::read(bias)?, Input::read(gamma)?);
        Ok(Self { bias, gamma, keep, rows: batch * tokens, width, tokens })
    }

    fn keep(&self) -> Address {
        self.keep.as_ref().map_or(Address::NONE, Array::address)
    }

    fn forward(&self, cuda: &Cuda, x: Address, y: View, out: Address) -> Result<(), TensorError> {
        let (bias, gamma, keep) = (self.bias.address(), self.gamma.address(), self.keep());
        let arguments: [&dyn Argument; 8] =
            [&x, &y.address, &bias, &gamma, &keep, &out, &self.width, &self.tokens];
        cuda.launch(for_kind!(y.kind, "residual"), Grid::rows(self.rows, self.width), &arguments)
    }

    /// Adds to the gradients of `x`, bias and gamma; gives that of `y`. `y` is there where gamma learns.
    fn backward(
        &self,
        cuda: &Cuda,
        grads: &mut Grads<Cuda>,
        x: &Input,
        y: Option<&Array>,
        dout: Address,
    ) -> Result<Array, TensorError> {
        let Self { rows, width, tokens, .. } = *self;
        let (gamma, keep, add) = (self.gamma.address(), self.keep(), 0_usize);
        let dx = Address::from(x.gradient(cuda, grads)?);
        let dy = cuda.array(Kind::F32, rows * width)?;
        let arguments: [&dyn Argument; 8] = [&dout, &gamma, &keep, &dx, &dy.address(), &add, &width, &tokens];
        cuda.launch("residual_backward", Grid::rows(rows, width), &arguments)?;
        if let (Some(y), Some(dgamma)) = (y, self.gamma.gradient(cuda, grads)?) {
            let sums = Columns {
                b: Some((y.view(), width)),
                bias: self.bias.address(),
                scale: keep,
                rows_per_scale: tokens,
                ..Columns::of(dout, rows, width)
            };
            cuda.add_column_sums(&sums, dgamma)?;
        }
        if let Some(dbias) = self.bias.gradient(cuda, grads)? {
            cuda.add_column_sums(&Columns::of(dy.address(), rows, width), dbias)?;
        }
        Ok(dy)
    }
}

/// See [`crate::Backend::vit_attention`].
pub(super) fn attention(
    cuda: &Cuda,
    x: Seq<Cuda>,
    w: VitAttention<Cuda>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cuda>, TensorError> {
    let shape = *x.shape();
    let (batch, len, width) = shape;
    let (rows, kind) = (batch * len, cuda.kind());
    let scale = ((width / w.heads) as f64).powf(-0.5);
    let sizes = Sizes { batch, heads: w.heads, q_len: len, k_len: len, width, scale };
    let attention = Attention::new(cuda, sizes, &Mask::None)?;
    let (x, weight, eps) = (Input::read(x)?, Input::read(w.norm.weight)?, w.norm.eps as f32);
    let norm = Norm { x, weight, rows, columns: width, eps };
    let (qkv_w, proj_w) = (Input::read(w.qkv)?, Input::read(w.proj)?);
    let qkv_bias = w.qkv_bias.map(Input::read).transpose()?;
    let norms = w.qk_norm.map(QkNorms::read).transpose()?;
    let joint = Joint::new(cuda, shape, w.proj_bias, w.gamma, keep)?;
    let out = Output::new(cuda, shape)?;

    let (to_qkv, to_out) = ([rows, width, 3 * width], [rows, width, width]);
    let qkv = cuda.array(kind, 3 * rows * width)?;
    cuda.project(&norm.apply(cuda)?, &cuda.weight(&qkv_w)?, to_qkv, qkv.view())?;
    if let Some(bias) = &qkv_bias {
        let (grid, columns) = (Grid::rows(rows, 3 * width), 3 * width);
        cuda.launch(for_kind!(kind, "add_bias"), grid, &[&qkv.address(), &bias.address(), &columns])?;
    }
    let packed = Packed { qkv: Operand::owned(qkv), norms, rows, width };
    let attended = packed.attend(cuda, &attention)?;
    let y = cuda.array(kind, rows * width)?;
    cuda.project(&Operand::borrowed(attended.out.view()), &cuda.weight(&proj_w)?, to_out, y.view())?;
    joint.forward(cuda, norm.x.address(), y.view(), out.address)?;

    let weights = [&norm.x, &norm.weight, &qkv_w, &proj_w, &joint.bias, &joint.gamma];
    let optional = packed.norms.iter().flat_map(|norms| [&norms.query, &norms.key]).chain(&qkv_bias);
    let tape = tape(weights.into_iter().chain(optional));
    let y = joint.gamma.is_on().then_some(y);
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        let dy = joint.backward(cuda, grads, &norm.x, y.as_ref(), dout)?;
        let dy = cuda.gradient_operand(dy.address(), rows * width)?;
        if let Some(dproj) = proj_w.gradient(cuda, grads)? {
            cuda.project_weight(&dy, &Operand::borrowed(attended.out.view()), to_out, dproj)?;
        }
        let dattended = cuda.array(Kind::F32, rows * width)?;
        cuda.project_back(&dy, &cuda.weight(&proj_w)?, to_out, dattended.address(), false)?;
        drop(dy);
        let dqkv = cuda.array(Kind::F32, 3 * rows * width)?;
        let (from, to) = (dattended.address(), dqkv.address());
        packed.backward(cuda, grads, &attention, &attended, from, to)?;
        if let Some(dbias) = qkv_bias.map(|bias| bias.gradient(cuda, grads)).transpose()?.flatten() {
            cuda.add_column_sums(&Columns::of(dqkv.address(), rows, 3 * width), dbias)?;
        }
        let dqkv = cuda.gradient_operand(dqkv.address(), 3 * rows * width)?;
        if let Some(dw) = qkv_w.gradient(cuda, grads)? {
            cuda.project_weight(&dqkv, &norm.apply(cuda)?, to_qkv, dw)?;
        }
        if !norm.is_on() {
            return Ok(());
        }
        let dnormed = dattended.address();
        cuda.project_back(&dqkv, &cuda.weight(&qkv_w)?, to_qkv, dnormed, false)?;
        norm.backward(cuda, grads, dnormed)
    }))
}

/// See [`crate::Backend::vit_mlp`].
pub(super) fn mlp(
    cuda: &Cuda,
    x: Seq<Cuda>,
    w: VitMlp<Cuda>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cuda>, TensorError> {
    let shape = *x.shape();
    let (batch, len, width) = shape;
    let (rows, hidden, kind) = (batch * len, w.fc1.shape().0, cuda.kind());
    let (x, weight, eps) = (Input::read(x)?, Input::read(w.norm.weight)?, w.norm.eps as f32);
    let norm = Norm { x, weight, rows, columns: width, eps };
    let (fc1, fc1_bias, fc2) = (Input::read(w.fc1)?, Input::read(w.fc1_bias)?, Input::read(w.fc2)?);
    let joint = Joint::new(cuda, shape, w.fc2_bias, w.gamma, keep)?;
    let out = Output::new(cuda, shape)?;

    let (to_hidden, to_out) = ([rows, width, hidden], [rows, hidden, width]);
    let before = cuda.array(kind, rows * hidden)?;
    cuda.project(&norm.apply(cuda)?, &cuda.weight(&fc1)?, to_hidden, before.view())?;
    let after = Hidden { before, bias: fc1_bias, rows, hidden };
    let y = cuda.array(kind, rows * width)?;
    cuda.project(&after.activate(cuda)?, &cuda.weight(&fc2)?, to_out, y.view())?;
    joint.forward(cuda, norm.x.address(), y.view(), out.address)?;

    let tape = tape([&norm.x, &norm.weight, &fc1, &after.bias, &fc2, &joint.bias, &joint.gamma]);
    let y = joint.gamma.is_on().then_some(y);
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        let dy = joint.backward(cuda, grads, &norm.x, y.as_ref(), dout)?;
        let dy_operand = cuda.gradient_operand(dy.address(), rows * width)?;
        if let Some(dfc2) = fc2.gradient(cuda, grads)? {
            cuda.project_weight(&dy_operand, &after.activate(cuda)?, to_out, dfc2)?;
        }
        let dhidden = cuda.array(Kind::F32, rows * hidden)?;
        cuda.project_back(&dy_operand, &cuda.weight(&fc2)?, to_out, dhidden.address(), false)?;
        drop(dy_operand);
        after.backward(cuda, dhidden.address())?;
        if let Some(dbias) = after.bias.gradient(cuda, grads)? {
            cuda.add_column_sums(&Columns::of(dhidden.address(), rows, hidden), dbias)?;
        }
        let dhidden = cuda.gradient_operand(dhidden.address(), rows * hidden)?;
        if let Some(dfc1) = fc1.gradient(cuda, grads)? {
            cuda.project_weight(&dhidden, &norm.apply(cuda)?, to_hidden, dfc1)?;
        }
        if !norm.is_on() {
            return Ok(());
        }
        let dnormed = dy.address();
        cuda.project_back(&dhidden, &cuda.weight(&fc1)?, to_hidden, dnormed, false)?;
        norm.backward(cuda, grads, dnormed)
    }))
}

/// A perceptron's hidden layer before its bias and GELU, `[rows, hidden]`.
struct Hidden {
    before: Array,
    bias: Input,
    rows: usize,
    hidden: usize,
}

impl Hidden {
    /// `gelu(before + bias)`
    fn activate(&self, cuda: &Cuda) -> Result<Operand, TensorError> {
        let before = self.before.view();
        let out = cuda.array(before.kind, self.rows * self.hidden)?;
        let arguments: [&dyn Argument; 4] =
            [&before.address, &self.bias.address(), &out.address(), &self.hidden];
        cuda.launch(for_kind!(before.kind, "gelu"), Grid::rows(self.rows, self.hidden), &arguments)?;
        Ok(Operand::owned(out))
    }

    /// Turns the gradient behind the activation into the one before it, in place.
    fn backward(&self, cuda: &Cuda, gradient: Address) -> Result<(), TensorError> {
        let (before, add) = (self.before.view(), 0_usize);
        let arguments: [&dyn Argument; 6] =
            [&before.address, &self.bias.address(), &gradient, &gradient, &add, &self.hidden];
        cuda.launch(for_kind!(before.kind, "gelu_backward"), Grid::rows(self.rows, self.hidden), &arguments)
    }
}
