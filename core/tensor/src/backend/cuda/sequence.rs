//! What turns images and ids into sequences, and moves rows about.

use std::{collections::BTreeMap, ops::Range};

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, View},
    columns::Columns,
    driver::{Argument, Grid},
    own_op::{Input, finish, tape},
};
use crate::{
    error::TensorError,
    tensor::{Image, Matrix, Row, Seq, Vector},
};

/// See [`crate::Backend::residual`].
pub(super) fn add_residual(
    cuda: &Cuda,
    x: Seq<Cuda>,
    y: Seq<Cuda>,
    gamma: Option<Row<Cuda>>,
    keep: Option<&[f64]>,
) -> Result<Seq<Cuda>, TensorError> {
    let &(batch, tokens, width) = x.shape();
    let (rows, grid) = (batch * tokens, Grid::rows(batch * tokens, width));
    let keep = keep.map(|keep| cuda.factors(keep)).transpose()?;
    let (x, y, gamma) = (Input::read(x)?, Input::read(y)?, gamma.map(Input::read).transpose()?);
    let factors = move |gamma: &Option<Input>, keep: &Option<Array>| {
        let gamma = Address::from(gamma.as_ref().map(Input::address));
        (gamma, Address::from(keep.as_ref().map(Array::address)))
    };
    let out = Output::new(cuda, (batch, tokens, width))?;
    let (scale, kept) = factors(&gamma, &keep);
    let arguments: [&dyn Argument; 8] =
        [&x.address(), &y.address(), &Address::NONE, &scale, &kept, &out.address, &width, &tokens];
    cuda.launch("residual_f32", grid, &arguments)?;
    let tape = tape([Some(&x), Some(&y), gamma.as_ref()].into_iter().flatten());
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        let (scale, kept) = factors(&gamma, &keep);
        let dx = Address::from(x.gradient(cuda, grads)?);
        let dy = Address::from(y.gradient(cuda, grads)?);
        let arguments: [&dyn Argument; 8] = [&dout, &scale, &kept, &dx, &dy, &1_usize, &width, &tokens];
        cuda.launch("residual_backward", grid, &arguments)?;
        let dgamma = gamma.map(|gamma| gamma.gradient(cuda, grads)).transpose()?.flatten();
        let Some(dgamma) = dgamma else { return Ok(()) };
        let sums = Columns {
            b: Some((View::f32(y.address()), width)),
            scale: kept,
            rows_per_scale: tokens,
            ..Columns::of(dout, rows, width)
        };
        cuda.add_column_sums(&sums, dgamma)
    }))
}

/// See [`crate::Backend::embedding`].
pub(super) fn gather(
    cuda: &Cuda,
    table: Matrix<Cuda>,
    ids: &[u32],
    padding: Option<u32>,
) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, width) = table.shape();
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(TensorError::OutOfRange { what: "token id", id: u64::from(id), limit: rows });
    }
    let table = Input::read(table)?;
    let places = Array::upload(cuda.driver(), ids)?;
    let out = Output::new(cuda, (ids.len(), width))?;
    let arguments: [&dyn Argument; 4] = [&table.address(), &places.address(), &out.address, &width];
    cuda.launch("gather_rows", Grid::rows(ids.len(), width), &arguments)?;
    let readers = table.is_on().then(|| Readers::new(ids, padding));
    Ok(finish(cuda, out, tape([&table]), move |cuda, grads, dout| {
        let (Some(readers), Some(dtable)) = (readers, table.gradient(cuda, grads)?) else { return Ok(()) };
        let upload = |data: &[u32]| Array::upload(cuda.driver(), data);
        let (rows, starts, places) =
            (upload(&readers.rows)?, upload(&readers.starts)?, upload(&readers.places)?);
        let arguments: [&dyn Argument; 6] =
            [&dout, &rows.address(), &starts.address(), &places.address(), &dtable, &width];
        cuda.launch("scatter_rows", Grid::rows(readers.rows.len(), width), &arguments)
    }))
}

/// See [`crate::Backend::scatter_rows`].
pub(super) fn scatter(
    cuda: &Cuda,
    x: Matrix<Cuda>,
    y: Matrix<Cuda>,
    places: &[u32],
) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, width) = x.shape();
    let count = places.len();
    let (x, y) = (Input::read(x)?, Input::read(y)?);
    let counted = Array::upload(cuda.driver(), &(0..=rows.max(count) as u32).collect::<Vec<_>>())?;
    let places = Array::upload(cuda.driver(), places)?;
    let out = Output::new(cuda, (rows, width))?;
    let arguments: [&dyn Argument; 4] = [&x.address(), &counted.address(), &out.address, &width];
    cuda.launch("gather_rows", Grid::rows(rows, width), &arguments)?;
    // Every row of `out` that is named has one reader: row `s` of `y`.
    let (one_each, named) = (counted.address(), places.address());
    let arguments: [&dyn Argument; 6] = [&y.address(), &named, &one_each, &one_each, &out.address, &width];
    cuda.launch("scatter_rows", Grid::rows(count, width), &arguments)?;
    Ok(finish(cuda, out, tape([&x, &y]), move |cuda, grads, dout| {
        if let Some(dx) = x.gradient(cuda, grads)? {
            add_rows(cuda, (dout, rows, 0), (dx, rows, 0), [1, rows, width])?;
        }
        let Some(dy) = y.gradient(cuda, grads)? else { return Ok(()) };
        let (one_each, named) = (counted.address(), places.address());
        let arguments: [&dyn Argument; 6] = [&dout, &one_each, &one_each, &named, &dy, &width];
        cuda.launch("scatter_rows", Grid::rows(count, width), &arguments)
    }))
}

/// Who read which row of a table: for each distinct row the places in the output, in order, so that one block
/// can add them up in a fixed order.
struct Readers {
    rows: Vec<u32>,
    /// Row `i` was read by `places[starts[i] .. starts[i + 1]]`.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Readers {
    fn new(ids: &[u32], padding: Option<u32>) -> Self {
        let mut by_row = BTreeMap::<u32, Vec<u32>>::new();
        for (place, &id) in (0..).zip(ids) {
            if Some(id) != padding {
                by_row.entry(id).or_default().push(place);
            }
        }
        let mut readers = Self { rows: Vec::new(), starts: vec![0], places: Vec::new() };
        for (row, mut places) in by_row {
            readers.rows.push(row);
            readers.places.append(&mut places);
            readers.starts.push(readers.places.len() as u32);
        }
        readers
    }
}

/// `struct Patches` of `kernels/sequence.cu`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Patches {
    channels: i64,
    height: i64,
    width: i64,
    patch: i64,
}

impl Argument for Patches {}

/// See [`crate::Backend::unfold`].
pub(super) fn unfold(cuda: &Cuda, image: Image<Cuda>, patch: usize) -> Result<Matrix<Cuda>, TensorError> {
    let &(batch, channels, height, width) = image.shape();
    let [c, h, w, p] = [channels, height, width, patch].map(|size| size as i64);
    let shape = Patches { channels: c, height: h, width: w, patch: p };
    let (rows, columns) = (batch * (height / patch) * (width / patch), channels * patch * patch);
    let image = Input::read(image)?;
    let out = Output::new(cuda, (rows, columns))?;
    cuda.launch("unfold", Grid::rows(rows, columns), &[&image.address(), &out.address, &shape])?;
    Ok(finish(cuda, out, tape([&image]), move |cuda, grads, dout| match image.gradient(cuda, grads)? {
        Some(dimage) => {
            cuda.launch("fold", Grid::rows(batch * channels * height, width), &[&dout, &dimage, &shape])
        }
        None => Ok(()),
    }))
}

/// See [`crate::Backend::add_class_and_positions`].
pub(super) fn add_class_and_positions(
    cuda: &Cuda,
    patches: Seq<Cuda>,
    class: Row<Cuda>,
    positions: Matrix<Cuda>,
) -> Result<Seq<Cuda>, TensorError> {
    let &(batch, len, width) = patches.shape();
    let tokens = len + 1;
    let (patches, class, positions) = (Input::read(patches)?, Input::read(class)?, Input::read(positions)?);
    let out = Output::new(cuda, (batch, tokens, width))?;
    let arguments: [&dyn Argument; 6] =
        [&patches.address(), &class.address(), &positions.address(), &out.address, &tokens, &width];
    cuda.launch("add_class_and_positions", Grid::rows(batch * tokens, width), &arguments)?;
    Ok(finish(cuda, out, tape([&patches, &class, &positions]), move |cuda, grads, dout| {
        if let Some(dpatches) = patches.gradient(cuda, grads)? {
            add_rows(cuda, (dout, tokens, 1), (dpatches, len, 0), [batch, len, width])?;
        }
        let dclass = Address::from(class.gradient(cuda, grads)?);
        let dpositions = Address::from(positions.gradient(cuda, grads)?);
        let arguments: [&dyn Argument; 6] = [&dout, &dclass, &dpositions, &batch, &tokens, &width];
        cuda.launch("class_and_positions_backward", Grid::rows(tokens, width), &arguments)
    }))
}

/// Adds `kept` rows of each sequence: from and to (address, rows of a sequence, first row).
fn add_rows(
    cuda: &Cuda,
    (from, from_tokens, from_first): (Address, usize, usize),
    (to, to_tokens, to_first): (Address, usize, usize),
    [batch, kept, width]: [usize; 3],
) -> Result<(), TensorError> {
    let arguments: [&dyn Argument; 8] =
        [&from, &from_tokens, &from_first, &to, &to_tokens, &to_first, &kept, &width];
    cuda.launch("add_rows", Grid::rows(batch * kept, width), &arguments)
}

/// See [`crate::Backend::slice_rows`].
pub(super) fn slice(cuda: &Cuda, x: Seq<Cuda>, rows: Range<usize>) -> Result<Seq<Cuda>, TensorError> {
    let &(batch, tokens, width) = x.shape();
    let (first, kept) = (rows.start, rows.len());
    let x = Input::read(x)?;
    let out = Output::new(cuda, (batch, kept, width))?;
    let arguments: [&dyn Argument; 6] = [&x.address(), &out.address, &tokens, &first, &kept, &width];
    cuda.launch("slice_rows", Grid::rows(batch * kept, width), &arguments)?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => add_rows(cuda, (dout, kept, 0), (dx, tokens, first), [batch, kept, width]),
        None => Ok(()),
    }))
}

/// See [`crate::Backend::mean_tokens`].
pub(super) fn mean_tokens(cuda: &Cuda, x: Seq<Cuda>) -> Result<Vector<Cuda>, TensorError> {
    let &(batch, tokens, width) = x.shape();
    let x = Input::read(x)?;
    let out = Output::new(cuda, (batch, width))?;
    let grid = Grid { blocks: [batch, width.div_ceil(128), 1], threads: [128, 1, 1], shared_bytes: 0 };
    cuda.launch("mean_tokens", grid, &[&x.address(), &out.address, &tokens, &width])?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => {
            let grid = Grid::rows(batch * tokens, width);
            cuda.launch("mean_tokens_backward", grid, &[&dout, &dx, &tokens, &width])
        }
        None => Ok(()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_a_row_come_in_order_and_padding_has_none() {
        let readers = Readers::new(&[3, 0, 3, 1, 0, 3], Some(0));
        assert_eq!(readers.rows, [1, 3]);
        assert_eq!(readers.starts, [0, 1, 4]);
        assert_eq!(readers.places, [3, 0, 2, 5]);
    }
}
