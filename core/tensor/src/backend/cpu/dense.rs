//! Linear layers, activations, products of elements.

use dfdx::prelude::HasShape;

use super::{
    super::compose,
    Cpu,
    frozen::Layer,
    own_op::{Input, finish, merged, read, with_gradients},
};
use crate::{
    error::{TensorError, expect_size},
    kernels::{
        activation,
        bf16::{self, PackedWeights},
        linear::{self, Dims},
        matmul::Write,
    },
    tensor::{Matrix, Row, constant},
};

/// See [`crate::Backend::linear`].
pub(super) fn linear(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: Matrix<Cpu>,
    bias: Option<Row<Cpu>>,
) -> Result<Matrix<Cpu>, TensorError> {
    let dims = Dims { rows: x.shape().0, inputs: x.shape().1, outputs: w.shape().0 };
    let (x, w, bias) = (read(x)?, read(w)?, bias.map(read).transpose()?);
    let tape = merged([&x, &w].into_iter().chain(&bias));
    let shape = (dims.rows, dims.outputs);
    if let Some(frozen) = backend.frozen.as_ref().filter(|_| dims.inputs > 0) {
        let pack = || Layer::Linear(PackedWeights::pack(w.data(), dims.outputs, dims.inputs));
        let layer = frozen.layer([&w], &tape, pack)?;
        let Layer::Linear(packed) = &*layer else { unreachable!("the weights are a linear layer's") };
        let mut out = vec![0.0; dims.rows * dims.outputs];
        bf16::linear(frozen.engine, x.data(), packed, bias.as_ref().map(Input::data), &mut out);
        return constant(backend, out, shape);
    }
    if let Some(kept) = backend.kept_matrix(&w, dims, &tape) {
        let mut out = vec![0.0; dims.rows * dims.outputs];
        let write = linear::begin(bias.as_ref().map(Input::data), &mut out, dims.outputs);
        kept.product(x.data(), &mut out, write);
        return constant(backend, out, shape);
    }
    product_of(backend, x, w, bias, dims)
}

/// `x w^T` in single precision whatever the backend's; `w` need not be a parameter.
pub(super) fn product(backend: &Cpu, x: Matrix<Cpu>, w: Matrix<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let dims = Dims { rows: x.shape().0, inputs: x.shape().1, outputs: w.shape().0 };
    product_of(backend, read(x)?, read(w)?, None, dims)
}

fn product_of(
    backend: &Cpu,
    x: Input,
    w: Input,
    bias: Option<Input>,
    dims: Dims,
) -> Result<Matrix<Cpu>, TensorError> {
    let shape = (dims.rows, dims.outputs);
    let mut out = vec![0.0; dims.rows * dims.outputs];
    linear::forward(x.data(), w.data(), bias.as_ref().map(Input::data), &mut out, dims);
    match bias {
        None => finish(backend, out, shape, [x, w], move |grads, dy, [x, w]| {
            with_gradients(grads, [x, w], |[dx, dw]| {
                linear::backward(x.data(), w.data(), dy, dx, dw, None, dims);
            })
        }),
        Some(bias) => finish(backend, out, shape, [x, w, bias], move |grads, dy, [x, w, bias]| {
            with_gradients(grads, [x, w, bias], |[dx, dw, db]| {
                linear::backward(x.data(), w.data(), dy, dx, dw, db, dims);
            })
        }),
    }
}

/// See [`crate::Backend::linear_onto`].
pub(super) fn onto(
    backend: &Cpu,
    onto: Matrix<Cpu>,
    x: Matrix<Cpu>,
    w: Matrix<Cpu>,
) -> Result<Matrix<Cpu>, TensorError> {
    if backend.frozen.is_some() {
        return compose::linear_onto(backend, onto, x, w);
    }
    let (&(rows, inputs), &(outputs, _)) = (x.shape(), w.shape());
    let dims = Dims { rows, inputs, outputs };
    let (onto, x, w) = (read(onto)?, read(x)?, read(w)?);
    let mut out = onto.data().to_vec();
    if let Some(kept) = backend.kept_matrix(&w, dims, &merged([&onto, &x, &w])) {
        kept.product(x.data(), &mut out, Write::Add);
        return constant(backend, out, (rows, outputs));
    }
    linear::add(x.data(), w.data(), &mut out, dims);
    finish(backend, out, (rows, outputs), [onto, x, w], move |grads, dy, [onto, x, w]| {
        with_gradients(grads, [onto, x, w], |[donto, dx, dw]| {
            if let Some(donto) = donto {
                donto.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
            linear::backward(x.data(), w.data(), dy, dx, dw, None, dims);
        })
    })
}

/// See [`crate::Backend::linear_transposed`]. In single precision whatever the backend's.
pub(super) fn linear_transposed(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: Matrix<Cpu>,
) -> Result<Matrix<Cpu>, TensorError> {
    let (&(rows, inputs), &(_, outputs)) = (x.shape(), w.shape());
    let dims = Dims { rows, inputs, outputs };
    let mut out = vec![0.0; rows * outputs];
    let (x, w) = (read(x)?, read(w)?);
    linear::forward_transposed(x.data(), w.data(), &mut out, dims);
    finish(backend, out, (rows, outputs), [x, w], move |grads, dy, [x, w]| {
        with_gradients(grads, [x, w], |[dx, dw]| {
            linear::backward_transposed(x.data(), w.data(), dy, dx, dw, dims);
        })
    })
}

/// See [`crate::Backend::gelu`].
pub(super) fn gelu(backend: &Cpu, x: Matrix<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let x = read(x)?;
    let mut out = vec![0.0; x.data().len()];
    activation::gelu_forward(x.data(), &mut out);
    finish(backend, out, shape, [x], |grads, dy, [x]| {
        with_gradients(grads, [x], |[dx]| {
            if let Some(dx) = dx {
                activation::gelu_backward(x.data(), dy, dx);
            }
        })
    })
}

/// See [`crate::Backend::gated`].
pub(super) fn gated(backend: &Cpu, gate: Matrix<Cpu>, up: Matrix<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *gate.shape();
    let inputs = [read(gate)?, read(up)?];
    let mut out = vec![0.0; inputs[0].data().len()];
    activation::gated_forward(inputs[0].data(), inputs[1].data(), &mut out);
    finish(backend, out, shape, inputs, |grads, dy, inputs| {
        with_gradients(grads, inputs.each_ref(), |[dgate, dup]| {
            activation::gated_backward(inputs[0].data(), inputs[1].data(), dy, dgate, dup);
        })
    })
}

/// See [`crate::Backend::scale_each`].
pub(super) fn scale_each(
    backend: &Cpu,
    x: Matrix<Cpu>,
    factors: Vec<f32>,
) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let x = read(x)?;
    expect_size("factors, one for each element", x.data().len(), factors.len())?;
    let out = x.data().iter().zip(&factors).map(|(x, factor)| x * factor).collect();
    finish(backend, out, shape, [x], move |grads, dy, [x]| {
        with_gradients(grads, [x], |[dx]| {
            if let Some(dx) = dx {
                dx.iter_mut().zip(dy.iter().zip(&factors)).for_each(|(dx, (dy, factor))| *dx += dy * factor);
            }
        })
    })
}
