//! The two branches of a LLaMA layer, each one step on the tape.
//!
//! Of the forward pass stay: the input (which is the residual stream), turned queries and keys, values, the
//! attention's result with its log-sum-exp, and both factors of the gated perceptron. Norms and products of
//! factors are worked out again.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, Kind, View, for_kind},
    attention::{Attention, GradientRows, Rows, Sizes},
    driver::{Argument, Grid},
    heads::Turn,
    norm::Norm,
    operand::Operand,
    own_op::{Input, finish, tape},
};
use crate::{
    backend::{LlamaAttention, LlamaMlp},
    error::TensorError,
    mask::Mask,
    tape::Grads,
    tensor::Seq,
};

/// `out = x + y`, for a branch `y` of any kind.
fn join(cuda: &Cuda, x: &Input, y: View, out: Address, width: usize) -> Result<(), TensorError> {
    let (none, tokens, rows) = (Address::NONE, 1_usize, x.len() / width);
    let arguments: [&dyn Argument; 8] =
        [&x.address(), &y.address, &none, &none, &none, &out, &width, &tokens];
    cuda.launch(for_kind!(y.kind, "residual"), Grid::rows(rows, width), &arguments)
}

/// The gradient of `x` behind [`join`].
fn add_gradient(cuda: &Cuda, grads: &mut Grads<Cuda>, x: &Input, dout: Address) -> Result<(), TensorError> {
    match x.gradient(cuda, grads)? {
        Some(dx) => cuda.launch("axpy", Grid::flat(x.len()), &[&1.0_f32, &dout, &dx, &x.len()]),
        None => Ok(()),
    }
}

/// Gradients of projections of one normalised input, passed back to their weights and to that input.
fn projections_backward(
    cuda: &Cuda,
    grads: &mut Grads<Cuda>,
    norm: &Norm,
    projections: &[(Address, &Input)],
    outputs: usize,
) -> Result<(), TensorError> {
    let sizes = [norm.rows, norm.columns, outputs];
    let dnormed = cuda.array(Kind::F32, norm.rows * norm.columns)?;
    let normed = match projections.iter().any(|(_, weight)| weight.is_on()) {
        true => Some(norm.apply(cuda)?),
        false => None,
    };
    for (index, &(gradient, weight)) in projections.iter().enumerate() {
        let dy = cuda.gradient_operand(gradient, norm.rows * outputs)?;
        if let (Some(normed), Some(dw)) = (&normed, weight.gradient(cuda, grads)?) {
            cuda.project_weight(&dy, normed, sizes, dw)?;
        }
        if norm.is_on() {
            cuda.project_back(&dy, &cuda.weight(weight)?, sizes, dnormed.address(), index > 0)?;
        }
    }
    if norm.is_on() { norm.backward(cuda, grads, dnormed.address()) } else { Ok(()) }
}

/// See [`crate::Backend::llama_attention`].
pub(super) fn attention(
    cuda: &Cuda,
    x: Seq<Cuda>,
    w: LlamaAttention<Cuda>,
    positions: &[u32],
    mask: &Mask,
) -> Result<Seq<Cuda>, TensorError> {
    let (shape, w) = (*x.shape(), w.for_each_head(cuda)?);
    let (batch, len, width) = shape;
    let (rows, kind, sizes) = (batch * len, cuda.kind(), [batch * len, width, width]);
    let scale = ((width / w.heads) as f64).powf(-0.5);
    let of_scores = Sizes { batch, heads: w.heads, q_len: len, k_len: len, width, scale };
    let attention = Attention::new(cuda, of_scores, mask)?;
    let turn = Turn::new(cuda, shape, w.heads, w.rope_base, positions)?;
    let (x, weight, eps) = (Input::read(x)?, Input::read(w.norm.weight)?, w.norm.eps as f32);
    let norm = Norm { x, weight, rows, columns: width, eps };
    let weights = [Input::read(w.query)?, Input::read(w.key)?, Input::read(w.value)?];
    let out_w = Input::read(w.out)?;
    let out = Output::new(cuda, shape)?;

    let normed = norm.apply(cuda)?;
    let project = |weight: &Input| -> Result<Array, TensorError> {
        let to = cuda.array(kind, rows * width)?;
        cuda.project(&normed, &cuda.weight(weight)?, sizes, to.view())?;
        Ok(to)
    };
    let qkv = [project(&weights[0])?, project(&weights[1])?, project(&weights[2])?];
    drop(normed);
    for part in &qkv[..2] {
        turn.run(cuda, part.view(), part.address(), 1.0, false)?;
    }
    let parts = move |qkv: &[Array; 3]| qkv.each_ref().map(|part| Rows { view: part.view(), stride: width });
    let attended = attention.forward(cuda, parts(&qkv))?;
    let y = cuda.array(kind, rows * width)?;
    cuda.project(&Operand::borrowed(attended.out.view()), &cuda.weight(&out_w)?, sizes, y.view())?;
    join(cuda, &norm.x, y.view(), out.address, width)?;

    let tape = tape([&norm.x, &norm.weight, &out_w].into_iter().chain(&weights));
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        add_gradient(cuda, grads, &norm.x, dout)?;
        let dy = cuda.gradient_operand(dout, rows * width)?;
        if let Some(dw) = out_w.gradient(cuda, grads)? {
            cuda.project_weight(&dy, &Operand::borrowed(attended.out.view()), sizes, dw)?;
        }
        let dattended = cuda.array(Kind::F32, rows * width)?;
        cuda.project_back(&dy, &cuda.weight(&out_w)?, sizes, dattended.address(), false)?;
        drop(dy);
        let fresh = || cuda.array(Kind::F32, rows * width);
        let gradients = [fresh()?, fresh()?, fresh()?];
        let to = gradients.each_ref().map(|part| GradientRows { address: part.address(), stride: width });
        attention.backward(cuda, parts(&qkv), &attended, dattended.address(), to, false)?;
        for part in &gradients[..2] {
            turn.run(cuda, part.view(), part.address(), -1.0, false)?;
        }
        let [dq, dk, dv] = gradients.each_ref().map(Array::address);
        let projections = [(dq, &weights[0]), (dk, &weights[1]), (dv, &weights[2])];
        projections_backward(cuda, grads, &norm, &projections, width)
    }))
}

/// See [`crate::Backend::llama_mlp`].
pub(super) fn mlp(cuda: &Cuda, x: Seq<Cuda>, w: LlamaMlp<Cuda>) -> Result<Seq<Cuda>, TensorError> {
    let shape = *x.shape();
    let (batch, len, width) = shape;
    let (rows, hidden, kind) = (batch * len, w.gate.shape().0, cuda.kind());
    let (x, weight, eps) = (Input::read(x)?, Input::read(w.norm.weight)?, w.norm.eps as f32);
    let norm = Norm { x, weight, rows, columns: width, eps };
    let (gate_w, up_w, down_w) = (Input::read(w.gate)?, Input::read(w.up)?, Input::read(w.down)?);
    let out = Output::new(cuda, shape)?;

    let (to_hidden, to_out) = ([rows, width, hidden], [rows, hidden, width]);
    let normed = norm.apply(cuda)?;
    let (gate, up) = (cuda.array(kind, rows * hidden)?, cuda.array(kind, rows * hidden)?);
    cuda.project(&normed, &cuda.weight(&gate_w)?, to_hidden, gate.view())?;
    cuda.project(&normed, &cuda.weight(&up_w)?, to_hidden, up.view())?;
    drop(normed);
    let factors = Factors { gate, up, len: rows * hidden };
    let y = cuda.array(kind, rows * width)?;
    cuda.project(&factors.multiply(cuda)?, &cuda.weight(&down_w)?, to_out, y.view())?;
    join(cuda, &norm.x, y.view(), out.address, width)?;

    let tape = tape([&norm.x, &norm.weight, &gate_w, &up_w, &down_w]);
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        add_gradient(cuda, grads, &norm.x, dout)?;
        let dy = cuda.gradient_operand(dout, rows * width)?;
        if let Some(dw) = down_w.gradient(cuda, grads)? {
            cuda.project_weight(&dy, &factors.multiply(cuda)?, to_out, dw)?;
        }
        let dhidden = cuda.array(Kind::F32, rows * hidden)?;
        cuda.project_back(&dy, &cuda.weight(&down_w)?, to_out, dhidden.address(), false)?;
        let dup = cuda.array(Kind::F32, rows * hidden)?;
        let dgate = dhidden.address();
        factors.backward(cuda, dhidden.address(), [dgate, dup.address()])?;
        let projections = [(dgate, &gate_w), (dup.address(), &up_w)];
        projections_backward(cuda, grads, &norm, &projections, hidden)
    }))
}

/// The factors of a gated perceptron, `len` numbers each.
struct Factors {
    gate: Array,
    up: Array,
    len: usize,
}

impl Factors {
    /// `silu(gate) up`
    fn multiply(&self, cuda: &Cuda) -> Result<Operand, TensorError> {
        let kind = self.gate.view().kind;
        let out = cuda.array(kind, self.len)?;
        let arguments: [&dyn Argument; 4] =
            [&self.gate.address(), &self.up.address(), &out.address(), &self.len];
        cuda.launch(for_kind!(kind, "gated"), Grid::flat(self.len), &arguments)?;
        Ok(Operand::owned(out))
    }

    /// The gradients of both factors; that of `gate` may take the place of `dy`.
    fn backward(&self, cuda: &Cuda, dy: Address, [dgate, dup]: [Address; 2]) -> Result<(), TensorError> {
        let kind = self.gate.view().kind;
        let arguments: [&dyn Argument; 6] =
            [&self.gate.address(), &self.up.address(), &dy, &dgate, &dup, &self.len];
        cuda.launch(for_kind!(kind, "gated_backward"), Grid::flat(self.len), &arguments)
    }
}
