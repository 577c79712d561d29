//! Losses on logits.

use dfdx::prelude::{Axes2, Axis, BroadcastTo, HasShape, MaxTo, PermuteTo, SumTo, TryAdd, TryMul, TrySub};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError, expect_size},
    tensor::{Matrix, Scalar, Vector, constant, detach, reshape},
};

/// See [`Backend::cross_entropy`].
pub fn cross_entropy<B: Backend>(
    backend: &B,
    logits: Matrix<B>,
    targets: &[Option<u32>],
    smoothing: f64,
) -> Result<Scalar<B>, TensorError> {
    let &(rows, classes) = logits.shape();
    expect_size("targets", rows, targets.len())?;
    let weights = target_weights::<B>(targets, classes, smoothing)?;
    let weights: Matrix<B> = constant(backend, weights, (rows, classes))?;
    let weighted = log_softmax_rows::<B>(logits)?.try_mul(weights).on_device()?;
    weighted.try_sum::<(), Axes2<0, 1>>().on_device()?.try_negate().on_device()
}

/// How much each class counts in each row's loss, rows that do not count being zero and the others together
/// one, `[R, classes]`.
fn target_weights<B: Backend>(
    targets: &[Option<u32>],
    classes: usize,
    smoothing: f64,
) -> Result<Vec<B::Elem>, TensorError> {
    let counted = targets.iter().flatten().count().max(1) as f64;
    let spread = B::Elem::of(smoothing / classes as f64 / counted);
    let peak = B::Elem::of((1.0 - smoothing + smoothing / classes as f64) / counted);
    let mut weights = vec![B::Elem::default(); targets.len() * classes];
    for (row, target) in weights.chunks_exact_mut(classes.max(1)).zip(targets) {
        let Some(target) = *target else { continue };
        row.fill(spread);
        *row.get_mut(target as usize).ok_or(TensorError::OutOfRange {
            what: "target class",
            id: u64::from(target),
            limit: classes,
        })? = peak;
    }
    Ok(weights)
}

fn log_softmax_rows<B: Backend>(x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
    let shape = *x.shape();
    let largest = detach::<_, B>(x.clone())?.try_max::<_, Axis<1>>().on_device()?;
    let shifted = x.try_sub(largest.try_broadcast_like::<_, Axis<1>>(&shape).on_device()?).on_device()?;
    let sum = shifted.clone().try_exp().on_device()?.try_sum::<_, Axis<1>>().on_device()?;
    let log = sum.try_ln().on_device()?;
    shifted.try_sub(log.try_broadcast_like::<_, Axis<1>>(&shape).on_device()?).on_device()
}

/// See [`Backend::contrastive`].
pub fn contrastive<B: Backend>(
    backend: &B,
    image: Vector<B>,
    text: Vector<B>,
    scale: Scalar<B>,
    smoothing: f64,
) -> Result<Scalar<B>, TensorError> {
    let &(batch, _) = image.shape();
    let logits = backend.similarities(image, text)?;
    let scale = scale.try_broadcast_like::<_, Axes2<0, 1>>(&(batch, batch)).on_device()?;
    let per_image = logits.try_mul(scale).on_device()?;
    let per_text = per_image.clone().try_permute::<(usize, usize), Axes2<1, 0>>().on_device()?;
    let targets: Vec<_> = (0..batch as u32).map(Some).collect();
    let rows = backend.cross_entropy(per_image, &targets, smoothing)?;
    let per_text = reshape::<_, _, B>(per_text, (batch, batch))?;
    let columns = backend.cross_entropy(per_text, &targets, smoothing)?;
    rows.try_add(columns).on_device()?.try_mul(B::Elem::of(0.5)).on_device()
}
