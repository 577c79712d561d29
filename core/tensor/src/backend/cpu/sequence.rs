//! What turns images and ids into sequences, and moves rows about.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    error::TensorError,
    kernels::{embedding, patch, residual},
    tensor::{Image, Matrix, Row, Seq, Vector},
};

/// See [`crate::Backend::residual`].
pub(super) fn add_residual(
    backend: &Cpu,
    x: Seq<Cpu>,
    y: Seq<Cpu>,
    gamma: Option<Row<Cpu>>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cpu>, TensorError> {
    let shape = *x.shape();
    let keep: Option<Vec<f32>> = keep.map(|keep| keep.iter().map(|&k| k as f32).collect());
    let (x, y) = (read(x)?, read(y)?);
    let mut out = vec![0.0; x.data().len()];
    match gamma {
        None => {
            residual::forward(x.data(), y.data(), None, keep.as_deref(), &mut out);
            finish(backend, out, shape, [x, y], move |grads, dout, [x, y]| {
                with_gradients(grads, [x, y], |[dx, dy]| {
                    residual::backward(y.data(), None, keep.as_deref(), dout, dx, dy, None);
                })
            })
        }
        Some(gamma) => {
            let gamma = read(gamma)?;
            residual::forward(x.data(), y.data(), Some(gamma.data()), keep.as_deref(), &mut out);
            finish(backend, out, shape, [x, y, gamma], move |grads, dout, [x, y, gamma]| {
                with_gradients(grads, [x, y, gamma], |[dx, dy, dgamma]| {
                    residual::backward(y.data(), Some(gamma.data()), keep.as_deref(), dout, dx, dy, dgamma);
                })
            })
        }
    }
}

/// See [`crate::Backend::embedding`].
pub(super) fn gather(
    backend: &Cpu,
    table: Matrix<Cpu>,
    ids: &[u32],
    padding: Option<u32>,
) -> Result<Matrix<Cpu>, TensorError> {
    let &(rows, width) = table.shape();
    let table = read(table)?;
    let mut out = vec![0.0; ids.len() * width];
    embedding::forward(ids, table.data(), width, &mut out).map_err(|error| TensorError::OutOfRange {
        what: "token id",
        id: u64::from(error.id),
        limit: rows,
    })?;
    let ids = ids.to_vec();
    finish(backend, out, (ids.len(), width), [table.place()], move |grads, dout, [table]| {
        with_gradients(grads, [table], |[dtable]| {
            if let Some(dtable) = dtable {
                // The forward pass has refused every id that this could refuse.
                let _checked = embedding::backward(&ids, dout, width, padding, dtable);
            }
        })
    })
}

/// See [`crate::Backend::concat_rows`].
pub(super) fn concat(backend: &Cpu, x: Seq<Cpu>, y: Seq<Cpu>) -> Result<Seq<Cpu>, TensorError> {
    let (&(batch, first, width), &(_, second, _)) = (x.shape(), y.shape());
    let (x, y) = (read(x)?, read(y)?);
    let parts = [first * width, second * width];
    let mut out = Vec::with_capacity(batch * (parts[0] + parts[1]));
    for record in 0..batch {
        out.extend_from_slice(&x.data()[record * parts[0]..][..parts[0]]);
        out.extend_from_slice(&y.data()[record * parts[1]..][..parts[1]]);
    }
    finish(backend, out, (batch, first + second, width), [x, y], move |grads, dout, [x, y]| {
        with_gradients(grads, [x, y], |[mut dx, mut dy]| {
            for (record, dout) in dout.chunks_exact((parts[0] + parts[1]).max(1)).enumerate() {
                let (left, right) = dout.split_at(parts[0]);
                add(dx.as_deref_mut().map(|dx| &mut dx[record * parts[0]..]), left);
                add(dy.as_deref_mut().map(|dy| &mut dy[record * parts[1]..]), right);
            }
        })
    })
}

/// See [`crate::Backend::scatter_rows`].
pub(super) fn scatter(
    backend: &Cpu,
    x: Matrix<Cpu>,
    y: Matrix<Cpu>,
    places: &[u32],
) -> Result<Matrix<Cpu>, TensorError> {
    let shape @ (_, width) = *x.shape();
    let (x, y) = (read(x)?, read(y)?);
    let mut out = x.data().to_vec();
    for (row, &place) in y.data().chunks_exact(width).zip(places) {
        add(Some(&mut out[place as usize * width..]), row);
    }
    let places = places.to_vec();
    finish(backend, out, shape, [x.place(), y.place()], move |grads, dout, [x, y]| {
        with_gradients(grads, [x, y], |[dx, dy]| {
            add(dx, dout);
            let Some(dy) = dy else { return };
            for (dy, &place) in dy.chunks_exact_mut(width).zip(&places) {
                add(Some(dy), &dout[place as usize * width..]);
            }
        })
    })
}

/// See [`crate::Backend::unfold`].
pub(super) fn unfold(backend: &Cpu, image: Image<Cpu>, side: usize) -> Result<Matrix<Cpu>, TensorError> {
    let &(batch, channels, height, width) = image.shape();
    let shape = patch::Shape { batch, channels, height, width, patch: side };
    let rows = batch * (height / side) * (width / side);
    let columns = channels * side * side;
    let image = read(image)?;
    let mut out = vec![0.0; rows * columns];
    patch::unfold(image.data(), &shape, &mut out);
    finish(backend, out, (rows, columns), [image], move |grads, dout, [image]| {
        with_gradients(grads, [image], |[dimage]| {
            if let Some(dimage) = dimage {
                patch::fold(dout, &shape, dimage);
            }
        })
    })
}

/// See [`crate::Backend::add_class_and_positions`].
pub(super) fn add_class_and_positions(
    backend: &Cpu,
    patches: Seq<Cpu>,
    class: Row<Cpu>,
    positions: Matrix<Cpu>,
) -> Result<Seq<Cpu>, TensorError> {
    let &(batch, len, width) = patches.shape();
    let inputs = [read(patches)?, read(class)?, read(positions)?];
    let [patches, class, positions] = &inputs;
    let mut out = Vec::with_capacity(batch * (len + 1) * width);
    for patches in patches.data().chunks_exact(len * width) {
        let first = out.len();
        out.extend_from_slice(class.data());
        out.extend_from_slice(patches);
        add(Some(&mut out[first..]), positions.data());
    }
    finish(backend, out, (batch, len + 1, width), inputs, move |grads, dout, inputs| {
        with_gradients(grads, inputs.each_ref(), |[mut dpatches, mut dclass, mut dpositions]| {
            for (record, dout) in dout.chunks_exact((len + 1) * width).enumerate() {
                let (dfirst, drest) = dout.split_at(width);
                let dpatches = dpatches.as_deref_mut().map(|all| &mut all[record * len * width..]);
                add(dclass.as_deref_mut(), dfirst);
                add(dpatches, drest);
                add(dpositions.as_deref_mut(), dout);
            }
        })
    })
}

/// `sum += part`, as far as both reach.
fn add(sum: Option<&mut [f32]>, part: &[f32]) {
    if let Some(sum) = sum {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
}

/// See [`crate::Backend::mean_tokens`].
pub(super) fn mean_tokens(backend: &Cpu, x: Seq<Cpu>) -> Result<Vector<Cpu>, TensorError> {
    let &(batch, len, width) = x.shape();
    let x = read(x)?;
    let share = 1.0 / len as f32;
    let mut out = vec![0.0; batch * width];
    for (out, rows) in out.chunks_exact_mut(width).zip(x.data().chunks_exact(len * width)) {
        rows.chunks_exact(width).for_each(|row| add(Some(out), row));
        out.iter_mut().for_each(|sum| *sum *= share);
    }
    finish(backend, out, (batch, width), [x], move |grads, dout, [x]| {
        with_gradients(grads, [x], |[dx]| {
            let Some(dx) = dx else { return };
            for (dx, dout) in dx.chunks_exact_mut(len * width).zip(dout.chunks_exact(width)) {
                for dx in dx.chunks_exact_mut(width) {
                    dx.iter_mut().zip(dout).for_each(|(dx, dout)| *dx += dout * share);
                }
            }
        })
    })
}
