//! Normalisation of rows as operations of their own, and the RMS norm that sub-layers start with.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Kind, View, for_kind},
    columns::Columns,
    driver::{Argument, Grid},
    operand::Operand,
    own_op::{Input, finish, tape},
};
use crate::{
    error::TensorError,
    tape::Grads,
    tensor::{Matrix, Row},
};

/// Rows shorter than this are divided by it instead of by their length.
const SHORTEST: f32 = 1e-12;

/// The RMS norm at the start of a sub-layer: its input, `[rows, columns]`, and its weight.
pub(super) struct Norm {
    pub(super) x: Input,
    pub(super) weight: Input,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) eps: f32,
}

impl Norm {
    /// The normalised rows as an operand of products. Made again in the backward pass instead of kept.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn apply(&self, cuda: &Cuda) -> Result<Operand, TensorError> {
        let out = cuda.array(cuda.kind(), self.x.len())?;
        self.write(cuda, out.view())?;
        Ok(Operand::owned(out))
    }

    fn write(&self, cuda: &Cuda, out: View) -> Result<(), TensorError> {
        let arguments: [&dyn Argument; 5] =
            [&self.x.address(), &self.weight.address(), &out.address, &self.columns, &self.eps];
        cuda.launch(for_kind!(out.kind, "rms_norm"), Grid::rows(self.rows, self.columns), &arguments)
    }

    /// Adds to the gradients of input and weight what `dy`, the gradient of the normalised rows, makes of
    /// them.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn backward(
        &self,
        cuda: &Cuda,
        grads: &mut Grads<Cuda>,
        dy: Address,
    ) -> Result<(), TensorError> {
        let Self { rows, columns, eps, .. } = *self;
        let (x, w) = (self.x.address(), self.weight.address());
        let dx = Address::from(self.x.gradient(cuda, grads)?);
        let scales = cuda.array(Kind::F32, rows)?;
        let grid = Grid::rows(rows, columns);
        cuda.launch("rms_norm_backward", grid, &[&x, &w, &dy, &dx, &scales.address(), &columns, &eps])?;
        let Some(dw) = self.weight.gradient(cuda, grads)? else { return Ok(()) };
        let b = Some((View::f32(x), columns));
        let sums = Columns { b, scale: scales.address(), ..Columns::of(dy, rows, columns) };
        cuda.add_column_sums(&sums, dw)
    }

    /// Whether anything wants the gradient of the normalised rows.
    pub(super) fn is_on(&self) -> bool {
        self.x.is_on() || self.weight.is_on()
    }
}

/// See [`crate::Backend::rms_norm`].
pub(super) fn rms(cuda: &Cuda, x: Matrix<Cuda>, w: Row<Cuda>, eps: f64) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, columns) = x.shape();
    let norm = Norm { x: Input::read(x)?, weight: Input::read(w)?, rows, columns, eps: eps as f32 };
    let out = Output::new(cuda, (rows, columns))?;
    norm.write(cuda, View::f32(out.address))?;
    let tape = tape([&norm.x, &norm.weight]);
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| norm.backward(cuda, grads, dout)))
}

/// See [`crate::Backend::layer_norm`].
pub(super) fn layer(
    cuda: &Cuda,
    x: Matrix<Cuda>,
    w: Row<Cuda>,
    b: Row<Cuda>,
    eps: f64,
) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, columns) = x.shape();
    let (eps, grid) = (eps as f32, Grid::rows(rows, columns));
    let (x, w, b) = (Input::read(x)?, Input::read(w)?, Input::read(b)?);
    let out = Output::new(cuda, (rows, columns))?;
    cuda.launch(
        "layer_norm",
        grid,
        &[&x.address(), &w.address(), &b.address(), &out.address, &columns, &eps],
    )?;
    Ok(finish(cuda, out, tape([&x, &w, &b]), move |cuda, grads, dout| {
        let dx = Address::from(x.gradient(cuda, grads)?);
        let (means, scales) = (cuda.array(Kind::F32, rows)?, cuda.array(Kind::F32, rows)?);
        let (mean, scale) = (means.address(), scales.address());
        let arguments: [&dyn Argument; 8] =
            [&x.address(), &w.address(), &dout, &dx, &mean, &scale, &columns, &eps];
        cuda.launch("layer_norm_backward", grid, &arguments)?;
        if let Some(dw) = w.gradient(cuda, grads)? {
            let factor = Some((View::f32(x.address()), columns));
            let sums = Columns { b: factor, mean, scale, ..Columns::of(dout, rows, columns) };
            cuda.add_column_sums(&sums, dw)?;
        }
        match b.gradient(cuda, grads)? {
            Some(db) => cuda.add_column_sums(&Columns::of(dout, rows, columns), db),
            None => Ok(()),
        }
    }))
}

/// See [`crate::Backend::normalize_rows`].
pub(super) fn normalize_rows(cuda: &Cuda, x: Matrix<Cuda>) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, columns) = x.shape();
    let (x, grid) = (Input::read(x)?, Grid::rows(rows, columns));
    let out = Output::new(cuda, (rows, columns))?;
    cuda.launch("normalize_rows", grid, &[&x.address(), &out.address, &columns, &SHORTEST])?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => {
            cuda.launch("normalize_rows_backward", grid, &[&x.address(), &dout, &dx, &columns, &SHORTEST])
        }
        None => Ok(()),
    }))
}
