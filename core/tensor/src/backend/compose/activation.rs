//! Activations.

use dfdx::prelude::{TryAdd, TryMul, TrySub};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tensor::{Matrix, detach},
};

/// See [`Backend::gelu`].
///
/// dfdx 0.13's `accurate_gelu` has the right value, but its derivative is `Phi(x) + sqrt(2) x phi(x)`
/// instead of `Phi(x) + x phi(x)`, with `phi` the normal density. Since `phi' = -x phi`, adding
/// `(sqrt(2) - 1) (phi(x) - constant phi(x))`, which is 0, sets the derivative right.
pub fn gelu<B: Backend>(x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    let density = normal_density::<B>(x.clone())?;
    let frozen = detach::<_, B>(density.clone())?;
    let correction = density.try_sub(frozen).on_device()?;
    let correction = correction.try_mul(B::Elem::of(std::f64::consts::SQRT_2 - 1.0)).on_device()?;
    x.try_accurate_gelu().on_device()?.try_add(correction).on_device()
}

/// `exp(-x^2 / 2) / sqrt(2 pi)`.
fn normal_density<B: Backend>(x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    let halved = x.try_square().on_device()?.try_mul(B::Elem::of(-0.5)).on_device()?;
    let norm = (2.0 * std::f64::consts::PI).sqrt().recip();
    halved.try_exp().on_device()?.try_mul(B::Elem::of(norm)).on_device()
}

/// See [`Backend::silu`].
pub fn silu<B: Backend>(x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    let gate = x.clone().try_sigmoid().on_device()?;
    x.try_mul(gate).on_device()
}
