//! Single numbers: losses, temperatures, and what they are multiplied with.

use dfdx::prelude::{Axes2, Axis, BroadcastTo, HasShape, Shape, SumTo, TryAdd, TryMul};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tensor::{Matrix, Plain, Row, Scalar, constant},
};

/// See [`Backend::fresh_copy`].
pub fn fresh_copy<S: Shape, B: Backend>(x: Plain<S, B>) -> Result<Plain<S, B>, TensorError> {
    x.try_mul(B::Elem::of(1.0)).on_device()
}

/// See [`Backend::weighted_sum`].
pub fn weighted_sum<B: Backend>(backend: &B, losses: &[(f64, Scalar<B>)]) -> Result<Scalar<B>, TensorError> {
    let zero = constant(backend, vec![B::Elem::default()], ())?;
    losses.iter().try_fold(zero, |sum: Scalar<B>, (weight, loss)| {
        let weighted = loss.clone().try_mul(B::Elem::of(*weight)).on_device()?;
        sum.try_add(weighted).on_device()
    })
}

/// See [`Backend::exp_limited`].
pub fn exp_limited<B: Backend>(x: Scalar<B>, limit: Option<f64>) -> Result<Scalar<B>, TensorError> {
    let exp = x.try_exp().on_device()?;
    match limit {
        Some(limit) => exp.try_clamp(0.0, limit).on_device(),
        None => Ok(exp),
    }
}

/// See [`Backend::scale_by`].
pub fn scale_by<B: Backend>(x: Matrix<B>, factor: Scalar<B>) -> Result<Matrix<B>, TensorError> {
    let shape = *x.shape();
    x.try_mul(factor.try_broadcast_like::<_, Axes2<0, 1>>(&shape).on_device()?).on_device()
}

/// See [`Backend::dot`].
pub fn dot<B: Backend>(x: Row<B>, y: Row<B>) -> Result<Scalar<B>, TensorError> {
    // dfdx does not multiply a tensor by itself; times one it is another tensor.
    let y = y.try_mul(B::Elem::of(1.0)).on_device()?;
    x.try_mul(y).on_device()?.try_sum::<(), Axis<0>>().on_device()
}
