//! What turns images and ids into sequences, and moves rows about.

use std::ops::Range;

use dfdx::prelude::{
    Axes2, Axes6, Axis, BroadcastTo, GatherTo, HasShape, MeanTo, PermuteTo, TensorFromVec, TryAdd,
    TryConcatAlong, TryMul,
};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tensor::{Image, Matrix, Row, Seq, Tensor, Vector, constant, detach, own_copy, reshape},
};

/// See [`Backend::residual`].
pub fn residual<B: Backend>(
    backend: &B,
    x: Seq<B>,
    y: Seq<B>,
    gamma: Option<Row<B>>,
    keep: Option<&[f64]>,
) -> Result<Seq<B>, TensorError> {
    let shape = *x.shape();
    let mut y = y;
    if let Some(gamma) = gamma {
        y = y.try_mul(gamma.try_broadcast_like::<_, Axes2<0, 1>>(&shape).on_device()?).on_device()?;
    }
    if let Some(keep) = keep {
        let keep: Row<B> = constant(backend, keep.iter().map(|&k| B::Elem::of(k)).collect(), (shape.0,))?;
        y = y.try_mul(keep.try_broadcast_like::<_, Axes2<1, 2>>(&shape).on_device()?).on_device()?;
    }
    x.try_add(y).on_device()
}

/// See [`Backend::embedding`].
pub fn embedding<B: Backend>(
    backend: &B,
    table: Matrix<B>,
    ids: &[u32],
    padding: Option<u32>,
) -> Result<Matrix<B>, TensorError> {
    let &(rows, width) = table.shape();
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(TensorError::OutOfRange { what: "token id", id: u64::from(id), limit: rows });
    }
    let table = match padding {
        Some(padding) => freeze_row(backend, table, padding)?,
        None => table,
    };
    let index = ids.iter().map(|&id| id as usize).collect();
    let index: dfdx::tensor::Tensor<(usize,), usize, B::Device> =
        backend.device().try_tensor_from_vec(index, (ids.len(),)).on_device()?;
    let out: Matrix<B> = table.try_gather(index).on_device()?;
    reshape::<_, _, B>(out, (ids.len(), width))
}

/// The same table, one row of which passes no gradient on: `table * mask + constant rest`.
fn freeze_row<B: Backend>(backend: &B, table: Matrix<B>, row: u32) -> Result<Matrix<B>, TensorError> {
    let shape = *table.shape();
    let column = |here: f64, elsewhere: f64| -> Result<Matrix<B>, TensorError> {
        let pick = |r: usize| B::Elem::of(if r == row as usize { here } else { elsewhere });
        let mask: Row<B> = constant(backend, (0..shape.0).map(pick).collect(), (shape.0,))?;
        mask.try_broadcast_like::<_, Axis<1>>(&shape).on_device()
    };
    let frozen = detach::<_, B>(table.clone())?.try_mul(column(1.0, 0.0)?).on_device()?;
    table.try_mul(column(0.0, 1.0)?).on_device()?.try_add(frozen).on_device()
}

/// See [`Backend::unfold`].
pub fn unfold<B: Backend>(image: Image<B>, patch: usize) -> Result<Matrix<B>, TensorError> {
    type Rank6<B> = Tensor<(usize, usize, usize, usize, usize, usize), B>;
    let &(batch, channels, height, width) = image.shape();
    let (rows, columns) = (height / patch, width / patch);
    let x: Rank6<B> = reshape::<_, _, B>(image, (batch, channels, rows, patch, columns, patch))?;
    let x: Rank6<B> = x.try_permute::<_, Axes6<0, 2, 4, 1, 3, 5>>().on_device()?;
    reshape::<_, _, B>(x, (batch * rows * columns, channels * patch * patch))
}

/// See [`Backend::add_class_and_positions`].
pub fn add_class_and_positions<B: Backend>(
    patches: Seq<B>,
    class: Row<B>,
    positions: Matrix<B>,
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = patches.shape();
    let class: Matrix<B> = reshape::<_, _, B>(class, (1, width))?;
    let class: Seq<B> = class.try_broadcast_like::<_, Axis<0>>(&(batch, 1, width)).on_device()?;
    let x: Seq<B> = (class, patches).try_concat_along(Axis::<1>).on_device()?;
    let positions = positions.try_broadcast_like::<_, Axis<0>>(&(batch, len + 1, width)).on_device()?;
    x.try_add(positions).on_device()
}

/// See [`Backend::slice_rows`].
pub fn slice_rows<B: Backend>(x: Seq<B>, rows: Range<usize>) -> Result<Seq<B>, TensorError> {
    let &(batch, _, width) = x.shape();
    own_copy::<_, B>(x)?.try_slice((0..batch, rows, 0..width)).on_device()
}

/// See [`Backend::concat_rows`]: both scattered over zeros, by the backend's own operation.
pub fn concat_rows<B: Backend>(backend: &B, x: Seq<B>, y: Seq<B>) -> Result<Seq<B>, TensorError> {
    let (&(batch, first, width), &(_, second, _)) = (x.shape(), y.shape());
    let len = first + second;
    let zeros: Matrix<B> =
        constant(backend, vec![B::Elem::default(); batch * len * width], (batch * len, width))?;
    let put = |sum: Matrix<B>, part: Seq<B>, from: usize, count: usize| {
        let places: Vec<u32> =
            (0..batch).flat_map(|b| (from..from + count).map(move |row| (b * len + row) as u32)).collect();
        backend.scatter_rows(sum, reshape::<_, _, B>(part, (batch * count, width))?, &places)
    };
    let sum = put(put(zeros, x, 0, first)?, y, first, second)?;
    reshape::<_, _, B>(sum, (batch, len, width))
}

/// See [`Backend::scatter_rows`].
pub fn scatter_rows<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    y: Matrix<B>,
    places: &[u32],
) -> Result<Matrix<B>, TensorError> {
    let &(rows, width) = x.shape();
    // What each row of `x` gets: a row of `y`, or the row of zeros that follows them.
    let mut ids = vec![places.len() as u32; rows];
    (0..).zip(places).for_each(|(row, &place)| ids[place as usize] = row);
    let zeros: Matrix<B> = constant(backend, vec![B::Elem::default(); width], (1, width))?;
    let y: Matrix<B> = (y, zeros).try_concat_along(Axis::<0>).on_device()?;
    let y = reshape::<_, _, B>(y, (places.len() + 1, width))?;
    x.try_add(embedding(backend, y, &ids, None)?).on_device()
}

/// See [`Backend::mean_tokens`].
pub fn mean_tokens<B: Backend>(x: Seq<B>) -> Result<Vector<B>, TensorError> {
    x.try_mean::<_, Axis<1>>().on_device()
}
