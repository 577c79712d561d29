//! Linear layers and activations as operations of their own.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, Kind, View},
    columns::Columns,
    driver::{Argument, Grid},
    own_op::{Input, finish, tape},
    product::{Layout, Product},
};
use crate::{
    error::{TensorError, expect_size},
    tensor::{Matrix, Row},
};

/// See [`crate::Backend::linear`].
pub(super) fn linear(
    cuda: &Cuda,
    x: Matrix<Cuda>,
    w: Matrix<Cuda>,
    bias: Option<Row<Cuda>>,
) -> Result<Matrix<Cuda>, TensorError> {
    let (&(rows, inputs), &(outputs, _)) = (x.shape(), w.shape());
    let sizes = [rows, inputs, outputs];
    let (x, w, bias) = (Input::read(x)?, Input::read(w)?, bias.map(Input::read).transpose()?);
    let out = Output::new(cuda, (rows, outputs))?;
    cuda.project(&cuda.operand(x.address(), x.len())?, &cuda.weight(&w)?, sizes, View::f32(out.address))?;
    if let Some(bias) = &bias {
        cuda.launch("add_bias_f32", Grid::rows(rows, outputs), &[&out.address, &bias.address(), &outputs])?;
    }
    let tape = tape([Some(&x), Some(&w), bias.as_ref()].into_iter().flatten());
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        let dy = cuda.gradient_operand(dout, rows * outputs)?;
        if let Some(dx) = x.gradient(cuda, grads)? {
            cuda.project_back(&dy, &cuda.weight(&w)?, sizes, dx, true)?;
        }
        if let Some(dw) = w.gradient(cuda, grads)? {
            cuda.project_weight(&dy, &cuda.operand(x.address(), x.len())?, sizes, dw)?;
        }
        match bias.map(|bias| bias.gradient(cuda, grads)).transpose()?.flatten() {
            Some(db) => cuda.add_column_sums(&Columns::of(dout, rows, outputs), db),
            None => Ok(()),
        }
    }))
}

/// See [`crate::Backend::matmul`] and [`crate::Backend::linear_transposed`].
pub(super) fn matmul(cuda: &Cuda, x: Matrix<Cuda>, y: Matrix<Cuda>) -> Result<Matrix<Cuda>, TensorError> {
    let (&(rows, inner), &(_, columns)) = (x.shape(), y.shape());
    let (x, y) = (Input::read(x)?, Input::read(y)?);
    let out = Output::new(cuda, (rows, columns))?;
    cuda.multiply(&Product {
        m: rows,
        n: columns,
        k: inner,
        a: (cuda.operand(x.address(), x.len())?.view(), Layout::Plain),
        b: (cuda.weight(&y)?.view(), Layout::Plain),
        out: View::f32(out.address),
        add: false,
        scale: None,
    })?;
    Ok(finish(cuda, out, tape([&x, &y]), move |cuda, grads, dout| {
        let upstream = cuda.gradient_operand(dout, rows * columns)?;
        let product = |a, b, [m, n, k]: [usize; 3], out: Address| {
            let (out, scale) = (View::f32(out), upstream.unscale());
            cuda.multiply(&Product { m, n, k, a, b, out, add: true, scale })
        };
        if let Some(dx) = x.gradient(cuda, grads)? {
            let y = cuda.weight(&y)?;
            let (a, b) = ((upstream.view(), Layout::Plain), (y.view(), Layout::Transposed));
            product(a, b, [rows, inner, columns], dx)?;
        }
        if let Some(dy) = y.gradient(cuda, grads)? {
            let x = cuda.operand(x.address(), x.len())?;
            let (a, b) = ((x.view(), Layout::Transposed), (upstream.view(), Layout::Plain));
            product(a, b, [inner, columns, rows], dy)?;
        }
        Ok(())
    }))
}

/// See [`crate::Backend::gelu`].
pub(super) fn gelu(cuda: &Cuda, x: Matrix<Cuda>) -> Result<Matrix<Cuda>, TensorError> {
    let &(rows, columns) = x.shape();
    let (x, grid) = (Input::read(x)?, Grid::rows(rows, columns));
    let out = Output::new(cuda, (rows, columns))?;
    cuda.launch("gelu_f32", grid, &[&x.address(), &Address::NONE, &out.address, &columns])?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => {
            let add = 1_usize;
            cuda.launch(
                "gelu_backward_f32",
                grid,
                &[&x.address(), &Address::NONE, &dout, &dx, &add, &columns],
            )
        }
        None => Ok(()),
    }))
}

/// See [`crate::Backend::silu`].
pub(super) fn silu(cuda: &Cuda, x: Matrix<Cuda>) -> Result<Matrix<Cuda>, TensorError> {
    let shape = *x.shape();
    let x = Input::read(x)?;
    let (len, grid) = (x.len(), Grid::flat(x.len()));
    let out = Output::new(cuda, shape)?;
    cuda.launch("silu", grid, &[&x.address(), &out.address, &len])?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => cuda.launch("silu_backward", grid, &[&x.address(), &dout, &dx, &len]),
        None => Ok(()),
    }))
}

/// See [`crate::Backend::gated`].
pub(super) fn gated(cuda: &Cuda, gate: Matrix<Cuda>, up: Matrix<Cuda>) -> Result<Matrix<Cuda>, TensorError> {
    let shape = *gate.shape();
    let (gate, up) = (Input::read(gate)?, Input::read(up)?);
    let (len, grid) = (gate.len(), Grid::flat(gate.len()));
    let out = Output::new(cuda, shape)?;
    cuda.launch("gated_f32", grid, &[&gate.address(), &up.address(), &out.address, &len])?;
    Ok(finish(cuda, out, tape([&gate, &up]), move |cuda, grads, dout| {
        let parts = [cuda.array(Kind::F32, len)?, cuda.array(Kind::F32, len)?];
        let arguments: [&dyn Argument; 6] =
            [&gate.address(), &up.address(), &dout, &parts[0].address(), &parts[1].address(), &len];
        cuda.launch("gated_backward_f32", grid, &arguments)?;
        for (input, part) in [&gate, &up].into_iter().zip(&parts) {
            if let Some(gradient) = input.gradient(cuda, grads)? {
                cuda.launch("axpy", grid, &[&1.0_f32, &part.address(), &gradient, &len])?;
            }
        }
        Ok(())
    }))
}

/// `out (+)= x factors`, elementwise.
fn multiply(cuda: &Cuda, [x, factors, out]: [Address; 3], add: bool, len: usize) -> Result<(), TensorError> {
    let add = usize::from(add);
    cuda.launch("times_each", Grid::flat(len), &[&x, &factors, &out, &add, &len])
}

/// See [`crate::Backend::scale_each`].
pub(super) fn scale_each(cuda: &Cuda, x: Matrix<Cuda>, factors: &[f32]) -> Result<Matrix<Cuda>, TensorError> {
    let shape = *x.shape();
    let x = Input::read(x)?;
    let len = x.len();
    expect_size("factors, one for each element", len, factors.len())?;
    let factors = Array::upload(cuda.driver(), factors)?;
    let out = Output::new(cuda, shape)?;
    multiply(cuda, [x.address(), factors.address(), out.address], false, len)?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => multiply(cuda, [dout, factors.address(), dx], true, len),
        None => Ok(()),
    }))
}
