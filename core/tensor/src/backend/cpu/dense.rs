//! Linear layers and GELU.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    error::TensorError,
    kernels::{
        activation,
        linear::{self, Dims},
    },
    tensor::{Matrix, Row},
};

/// See [`crate::Backend::linear`].
pub(super) fn linear(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: Matrix<Cpu>,
    bias: Option<Row<Cpu>>,
) -> Result<Matrix<Cpu>, TensorError> {
    let (&(rows, inputs), &(outputs, _)) = (x.shape(), w.shape());
    let dims = Dims { rows, inputs, outputs };
    let mut out = vec![0.0; rows * outputs];
    let (x, w) = (read(x)?, read(w)?);
    match bias {
        None => {
            linear::forward(x.data(), w.data(), None, &mut out, dims);
            finish(backend, out, (rows, outputs), [x, w], move |grads, dy, [x, w]| {
                with_gradients(grads, [x, w], |[dx, dw]| {
                    linear::backward(x.data(), w.data(), dy, dx, dw, None, dims);
                })
            })
        }
        Some(bias) => {
            let bias = read(bias)?;
            linear::forward(x.data(), w.data(), Some(bias.data()), &mut out, dims);
            finish(backend, out, (rows, outputs), [x, w, bias], move |grads, dy, [x, w, bias]| {
                with_gradients(grads, [x, w, bias], |[dx, dw, db]| {
                    linear::backward(x.data(), w.data(), dy, dx, dw, db, dims);
                })
            })
        }
    }
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
