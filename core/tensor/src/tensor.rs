//! Names for dfdx tensors with run-time shapes on a backend, and small helpers on them.
//!
//! Every alias carries our [`Tape`], switched on or off at run time, so that training and inference share
//! one type. [`Flat`] has no tape: parameters rest in it.

use std::ops::Range;

use dfdx::prelude::{HasShape, PutTape, ReshapeTo, Shape, SplitTape, TensorFromVec, TryMul};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError, expect_size},
    tape::Tape,
};

/// A tensor of backend `B` with shape `S`.
pub type Tensor<S, B> = dfdx::tensor::Tensor<S, <B as Backend>::Elem, <B as Backend>::Device, Tape<B>>;
/// A tensor that takes no part in differentiation.
pub type Plain<S, B> = dfdx::tensor::Tensor<S, <B as Backend>::Elem, <B as Backend>::Device>;
/// A tensor as one row of numbers, without tape.
pub type Flat<B> = Plain<(usize,), B>;

/// Images, `[B, 3, H, W]`.
pub type Image<B> = Tensor<(usize, usize, usize, usize), B>;
/// Feature maps, `[B, C, H, W]`.
pub type Map<B> = Tensor<(usize, usize, usize, usize), B>;
/// Sequences of features, `[B, N, C]`.
pub type Seq<B> = Tensor<(usize, usize, usize), B>;
/// One feature vector per record, `[B, C]`.
pub type Vector<B> = Tensor<(usize, usize), B>;
/// A matrix, `[rows, columns]`.
pub type Matrix<B> = Tensor<(usize, usize), B>;
/// A one-dimensional parameter, `[C]`.
pub type Row<B> = Tensor<(usize,), B>;
/// A single number.
pub type Scalar<B> = Tensor<(), B>;

/// Elements of `tensor` in row-major order, copied to the host.
///
/// # Errors
/// [`TensorError::Device`] if the device fails.
pub fn to_vec<S: Shape, B: Backend>(tensor: &Tensor<S, B>) -> Result<Vec<B::Elem>, TensorError> {
    plain_to_vec::<S, B>(&tensor.clone().split_tape().0)
}

/// As [`to_vec`], for a tensor without tape.
pub(crate) fn plain_to_vec<S: Shape, B: Backend>(tensor: &Plain<S, B>) -> Result<Vec<B::Elem>, TensorError> {
    // A permuted or broadcast tensor has to be laid out first: `copy_into` copies storage, not elements.
    let tensor = tensor.clone().try_contiguous().on_device()?;
    let mut out = vec![B::Elem::default(); tensor.shape().num_elements()];
    tensor.copy_into(&mut out);
    Ok(out)
}

/// A tensor of the given shape that starts no gradient.
///
/// # Errors
/// [`TensorError::Shape`] if `data` has another number of elements.
pub fn constant<S: Shape, B: Backend>(
    backend: &B,
    data: Vec<B::Elem>,
    shape: S,
) -> Result<Tensor<S, B>, TensorError> {
    Ok(plain(backend, data, shape)?.put_tape(Tape::off()))
}

/// As [`constant`], without tape.
pub(crate) fn plain<S: Shape, B: Backend>(
    backend: &B,
    data: Vec<B::Elem>,
    shape: S,
) -> Result<Plain<S, B>, TensorError> {
    if data.len() != shape.num_elements() {
        return Err(TensorError::shape("number of elements", shape.num_elements(), data.len()));
    }
    backend.device().try_tensor_from_vec(data, shape).on_device()
}

/// The same values with no way back to what they were computed from.
///
/// They get an identity of their own: dfdx's operations collect a gradient for every input, constants too,
/// and under the old identity that one would count.
///
/// # Errors
/// [`TensorError::Device`]
pub fn detach<S: Shape, B: Backend>(tensor: Tensor<S, B>) -> Result<Tensor<S, B>, TensorError> {
    Ok(B::fresh_copy(tensor.split_tape().0)?.put_tape(Tape::off()))
}

/// Rows `rows` of each sequence, `[B, N, C]` to `[B, rows, C]`.
///
/// # Errors
/// [`TensorError::Shape`] if the rows do not exist.
pub fn slice_rows<B: Backend>(backend: &B, x: Seq<B>, rows: Range<usize>) -> Result<Seq<B>, TensorError> {
    let &(_, len, _) = x.shape();
    if rows.start > rows.end || rows.end > len {
        return Err(TensorError::shape("rows of a sequence", 0..len, rows));
    }
    backend.slice_rows(x, rows)
}

/// Rows `places` of `x`, `[R, C]` to `[places, C]`; a row may be named more than once.
///
/// # Errors
/// [`TensorError::Shape`] for a row that does not exist.
pub fn gather_rows<B: Backend>(backend: &B, x: Matrix<B>, places: &[u32]) -> Result<Matrix<B>, TensorError> {
    let &(rows, _) = x.shape();
    match places.iter().find(|&&place| place as usize >= rows) {
        Some(place) => Err(TensorError::shape("row of a matrix", 0..rows, place)),
        None => backend.embedding(x, places, None),
    }
}

/// `x` with row `s` of `y` added to its row `places[s]`: `[R, C]` and `[S, C]` to `[R, C]`.
///
/// # Errors
/// [`TensorError::Shape`] if sizes differ, or a place is not there or comes twice.
pub fn scatter_rows<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    y: Matrix<B>,
    places: &[u32],
) -> Result<Matrix<B>, TensorError> {
    let (&(rows, width), &(count, given)) = (x.shape(), y.shape());
    expect_size("width of the rows", width, given)?;
    expect_size("places, one for each row", count, places.len())?;
    let mut taken = vec![false; rows];
    for &place in places {
        match taken.get_mut(place as usize) {
            Some(taken) if !*taken => *taken = true,
            _ => return Err(TensorError::shape("places that exist, each once", 0..rows, place)),
        }
    }
    if count == 0 { Ok(x) } else { backend.scatter_rows(x, y, places) }
}

/// The same values as a tensor that nothing else reads: a slice's backward step in dfdx 0.13 overwrites the
/// gradient of what was sliced instead of adding to it, so that must have no other reader.
pub(crate) fn own_copy<S: Shape, B: Backend>(x: Tensor<S, B>) -> Result<Tensor<S, B>, TensorError> {
    x.try_mul(B::Elem::of(1.0)).on_device()
}

/// The same elements in the same order under another shape.
///
/// # Errors
/// [`TensorError::Shape`] if the numbers of elements differ.
pub fn reshape<S: Shape, Dst: Shape, B: Backend>(
    tensor: Tensor<S, B>,
    shape: Dst,
) -> Result<Tensor<Dst, B>, TensorError> {
    let (expected, found) = (shape.num_elements(), tensor.shape().num_elements());
    if expected != found {
        return Err(TensorError::shape("number of elements", expected, found));
    }
    tensor.try_reshape_like(&shape).on_device()
}
