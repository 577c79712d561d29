//! Activations.

use dfdx::prelude::{HasShape, TryAdd, TryMul, TrySub};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tensor::{Matrix, constant, detach},
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

/// See [`Backend::gated`].
pub fn gated<B: Backend>(backend: &B, gate: Matrix<B>, up: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    backend.silu(gate)?.try_mul(up).on_device()
}

/// See [`Backend::scale_each`].
pub fn scale_each<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    factors: Vec<B::Elem>,
) -> Result<Matrix<B>, TensorError> {
    let factors: Matrix<B> = constant(backend, factors, *x.shape())?;
    x.try_mul(factors).on_device()
}
