//! Linear layers and the perceptrons made of them.

use dfdx::prelude::{Axes2, BroadcastTo, HasShape, PermuteTo, TryAdd, TryMatMul, TryMul};

use crate::{
    backend::{Backend, GatedMlpWeights, MlpWeights},
    error::{OnDevice, TensorError},
    tensor::{Matrix, Row},
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

/// See [`Backend::mlp`].
pub fn mlp<B: Backend>(backend: &B, x: Matrix<B>, w: MlpWeights<B>) -> Result<Matrix<B>, TensorError> {
    let hidden = backend.linear(x, w.fc1, Some(w.fc1_bias))?;
    backend.linear(backend.gelu(hidden)?, w.fc2, Some(w.fc2_bias))
}

/// See [`Backend::gated_mlp`].
pub fn gated_mlp<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    w: GatedMlpWeights<B>,
) -> Result<Matrix<B>, TensorError> {
    let gate = backend.silu(backend.linear(x.clone(), w.gate, None)?)?;
    let up = backend.linear(x, w.up, None)?;
    backend.linear(gate.try_mul(up).on_device()?, w.down, None)
}
