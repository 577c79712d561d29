//! Normalisation of rows.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    error::TensorError,
    kernels::{
        norm::{self, LayerStats},
        normalize,
    },
    tensor::{Matrix, Row},
};

/// Rows shorter than this are divided by it instead of by their length.
const SHORTEST: f32 = 1e-12;

/// See [`crate::Backend::rms_norm`].
pub(super) fn rms(backend: &Cpu, x: Matrix<Cpu>, w: Row<Cpu>, eps: f64) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let (x, w) = (read(x)?, read(w)?);
    let (mut out, mut rstd) = (vec![0.0; x.data().len()], vec![0.0; shape.0]);
    norm::rms_forward(x.data(), w.data(), eps as f32, &mut out, &mut rstd);
    finish(backend, out, shape, [x, w], move |grads, dy, [x, w]| {
        with_gradients(grads, [x, w], |[dx, dw]| {
            norm::rms_backward(x.data(), w.data(), &rstd, dy, dx, dw);
        })
    })
}

/// See [`crate::Backend::layer_norm`].
pub(super) fn layer(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: Row<Cpu>,
    b: Row<Cpu>,
    eps: f64,
) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let (x, w, b) = (read(x)?, read(w)?, read(b)?);
    let mut out = vec![0.0; x.data().len()];
    let (mut mean, mut rstd) = (vec![0.0; shape.0], vec![0.0; shape.0]);
    norm::layer_forward(x.data(), w.data(), b.data(), eps as f32, &mut out, &mut mean, &mut rstd);
    finish(backend, out, shape, [x, w, b], move |grads, dy, [x, w, b]| {
        with_gradients(grads, [x, w, b], |[dx, dw, db]| {
            let stats = LayerStats { mean: &mean, rstd: &rstd };
            norm::layer_backward(x.data(), w.data(), stats, dy, dx, dw, db);
        })
    })
}

/// See [`crate::Backend::normalize_rows`].
pub(super) fn normalize_rows(backend: &Cpu, x: Matrix<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let x = read(x)?;
    let (mut out, mut length) = (vec![0.0; x.data().len()], vec![0.0; shape.0]);
    normalize::forward(x.data(), shape.1, SHORTEST, &mut out, &mut length);
    let unit = out.clone();
    finish(backend, out, shape, [x], move |grads, dy, [x]| {
        with_gradients(grads, [x], |[dx]| {
            if let Some(dx) = dx {
                normalize::backward(&unit, &length, dy, shape.1, SHORTEST, dx);
            }
        })
    })
}
