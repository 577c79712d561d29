//! Normalisation of rows.

use dfdx::prelude::{Axis, BroadcastTo, HasShape, MeanTo, SumTo, TryAdd, TryDiv, TryMul, TrySub};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tensor::{Matrix, Row},
};

/// Rows shorter than this are divided by it instead of by their length.
const SHORTEST: f64 = 1e-12;

/// See [`Backend::rms_norm`].
pub fn rms_norm<B: Backend>(x: Matrix<B>, w: Row<B>, eps: f64) -> Result<Matrix<B>, TensorError> {
    let square = x.clone().try_square().on_device()?;
    let mean = square.try_mean::<_, Axis<1>>().on_device()?;
    let root = mean.try_add(B::Elem::of(eps)).on_device()?.try_sqrt().on_device()?;
    scale_columns::<B>(divide_rows::<B>(x, root)?, w)
}

/// See [`Backend::layer_norm`].
pub fn layer_norm<B: Backend>(
    x: Matrix<B>,
    w: Row<B>,
    b: Row<B>,
    eps: f64,
) -> Result<Matrix<B>, TensorError> {
    let shape = *x.shape();
    let mean = x.clone().try_mean::<_, Axis<1>>().on_device()?;
    let mean = mean.try_broadcast_like::<_, Axis<1>>(&shape).on_device()?;
    let centered = x.try_sub(mean).on_device()?;
    let variance = centered.clone().try_square().on_device()?.try_mean::<_, Axis<1>>().on_device()?;
    let root = variance.try_add(B::Elem::of(eps)).on_device()?.try_sqrt().on_device()?;
    let scaled = scale_columns::<B>(divide_rows::<B>(centered, root)?, w)?;
    let bias = b.try_broadcast_like::<_, Axis<0>>(&shape).on_device()?;
    scaled.try_add(bias).on_device()
}

/// See [`Backend::normalize_rows`].
pub fn normalize_rows<B: Backend>(x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    let sum = x.clone().try_square().on_device()?.try_sum::<_, Axis<1>>().on_device()?;
    let root = sum.try_clamp(SHORTEST * SHORTEST, f64::MAX).on_device()?.try_sqrt().on_device()?;
    divide_rows::<B>(x, root)
}

/// Each row of `x` `[R, C]` divided by its entry of `by` `[R]`.
fn divide_rows<B: Backend>(x: Matrix<B>, by: Row<B>) -> Result<Matrix<B>, TensorError> {
    let shape = *x.shape();
    x.try_div(by.try_broadcast_like::<_, Axis<1>>(&shape).on_device()?).on_device()
}

/// Each column of `x` `[R, C]` multiplied by its entry of `by` `[C]`.
fn scale_columns<B: Backend>(x: Matrix<B>, by: Row<B>) -> Result<Matrix<B>, TensorError> {
    let shape = *x.shape();
    x.try_mul(by.try_broadcast_like::<_, Axis<0>>(&shape).on_device()?).on_device()
}
