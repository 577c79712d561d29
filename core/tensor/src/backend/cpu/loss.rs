//! Losses.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    error::{TensorError, expect_size},
    kernels::{
        contrastive,
        cross_entropy::{self, Options},
    },
    tensor::{Matrix, Scalar, Vector},
};

/// Stands for a target that does not count.
const IGNORED: u32 = u32::MAX;

/// See [`crate::Backend::cross_entropy`].
pub(super) fn cross_entropy(
    backend: &Cpu,
    logits: Matrix<Cpu>,
    targets: &[Option<u32>],
    smoothing: f64,
) -> Result<Scalar<Cpu>, TensorError> {
    let &(rows, classes) = logits.shape();
    expect_size("targets", rows, targets.len())?;
    let targets: Vec<u32> = targets.iter().map(|target| target.unwrap_or(IGNORED)).collect();
    let options = Options { classes, smoothing: smoothing as f32, ignore: Some(IGNORED) };
    let logits = read(logits)?;
    let (mut losses, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    let mean = cross_entropy::forward(logits.data(), &targets, options, &mut losses, &mut lse);
    let mean = mean.map_err(|error| TensorError::OutOfRange {
        what: "target class",
        id: u64::from(error.target),
        limit: classes,
    })?;
    let counted = mean.counted.max(1) as f32;
    finish(backend, vec![mean.loss], (), [logits], move |grads, upstream, [logits]| {
        with_gradients(grads, [logits], |[dlogits]| {
            if let Some(dlogits) = dlogits {
                let scale = upstream[0] / counted;
                cross_entropy::backward(logits.data(), &targets, &lse, options, scale, dlogits);
            }
        })
    })
}

/// See [`crate::Backend::contrastive`].
pub(super) fn contrastive(
    backend: &Cpu,
    image: Vector<Cpu>,
    text: Vector<Cpu>,
    scale: Scalar<Cpu>,
    smoothing: f64,
) -> Result<Scalar<Cpu>, TensorError> {
    let (&(_, width), &texts) = (image.shape(), text.shape());
    expect_size("texts, one for each image", image.shape().0, texts.0)?;
    let inputs = [read(image)?, read(text)?, read(scale)?];
    let [image, text, scale] = &inputs;
    let (loss, saved) =
        contrastive::forward(image.data(), text.data(), width, scale.data()[0], smoothing as f32);
    finish(backend, vec![loss], (), inputs, move |grads, upstream, [image, text, scale]| {
        with_gradients(grads, [image, text, scale], |[dimage, dtext, dscale]| {
            let dscale = dscale.and_then(|dscale| dscale.first_mut());
            let sums = contrastive::Grads { image: dimage, text: dtext, scale: dscale };
            contrastive::backward(&saved, image.data(), text.data(), upstream[0], sums);
        })
    })
}
