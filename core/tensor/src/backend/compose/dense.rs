//! The linear layer.

use dfdx::prelude::{Axes2, BroadcastTo, HasShape, PermuteTo, TryAdd, TryMatMul};

use crate::{
    backend::Backend,
    error::{OnDevice, TensorError},
    tensor::{Matrix, Row, reshape},
};

/// See [`Backend::linear`].
pub fn linear<B: Backend>(
    x: Matrix<B>,
    w: Matrix<B>,
    bias: Option<Row<B>>,
) -> Result<Matrix<B>, TensorError> {
    let transposed = w.try_permute::<(usize, usize), Axes2<1, 0>>().on_device()?;
    let y = x.try_matmul(transposed).on_device()?;
    match bias {
        None => Ok(y),
        Some(bias) => {
            let shape = *y.shape();
            let bias = bias.try_broadcast_like::<_, dfdx::shapes::Axis<0>>(&shape).on_device()?;
            y.try_add(bias).on_device()
        }
    }
}

/// See [`Backend::linear_onto`].
pub fn linear_onto<B: Backend>(
    backend: &B,
    onto: Matrix<B>,
    x: Matrix<B>,
    w: Matrix<B>,
) -> Result<Matrix<B>, TensorError> {
    let shape @ (rows, width) = *onto.shape();
    let sequence = |x: Matrix<B>| reshape::<_, _, B>(x, (1, rows, width));
    let sum = backend.residual(sequence(onto)?, sequence(backend.linear(x, w, None)?)?, None, None)?;
    reshape::<_, _, B>(sum, shape)
}

/// See [`Backend::linear_transposed`].
pub fn linear_transposed<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    w: Matrix<B>,
) -> Result<Matrix<B>, TensorError> {
    let weight = w.try_permute::<(usize, usize), Axes2<1, 0>>().on_device()?;
    backend.linear(x, weight, None)
}

/// See [`Backend::matmul`].
pub fn matmul<B: Backend>(x: Matrix<B>, y: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    x.try_matmul(y).on_device()
}
