//! Single numbers: losses, temperatures, and what they are multiplied with.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::Kind,
    driver::{Argument, Grid},
    loss::sum_all,
    own_op::{Input, finish, tape},
};
use crate::{
    error::{TensorError, expect_size},
    tensor::{Matrix, Row, Scalar},
};

/// See [`crate::Backend::weighted_sum`].
pub(super) fn weighted_sum(cuda: &Cuda, losses: &[(f64, Scalar<Cuda>)]) -> Result<Scalar<Cuda>, TensorError> {
    let read = |(weight, loss): &(f64, Scalar<Cuda>)| Ok((*weight as f32, Input::read(loss.clone())?));
    let losses = losses.iter().map(read).collect::<Result<Vec<_>, TensorError>>()?;
    let out = Output::new(cuda, ())?;
    let one = 1_usize;
    for (weight, loss) in &losses {
        cuda.launch("axpy", Grid::flat(one), &[weight, &loss.address(), &out.address, &one])?;
    }
    let tape = tape(losses.iter().map(|(_, loss)| loss));
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| {
        for (weight, loss) in &losses {
            if let Some(dloss) = loss.gradient(cuda, grads)? {
                cuda.launch("axpy", Grid::flat(one), &[weight, &dout, &dloss, &one])?;
            }
        }
        Ok(())
    }))
}

/// See [`crate::Backend::exp_limited`].
pub(super) fn exp_limited(
    cuda: &Cuda,
    x: Scalar<Cuda>,
    limit: Option<f64>,
) -> Result<Scalar<Cuda>, TensorError> {
    let (x, limit) = (Input::read(x)?, limit.map_or(f32::INFINITY, |limit| limit as f32));
    let out = Output::new(cuda, ())?;
    cuda.launch("exp_limited", Grid::one_block(1), &[&x.address(), &limit, &out.address])?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => {
            cuda.launch("exp_limited_backward", Grid::one_block(1), &[&x.address(), &limit, &dout, &dx])
        }
        None => Ok(()),
    }))
}

/// Adds `sum(x y)` to one number, or writes it.
fn add_dot(
    cuda: &Cuda,
    [x, y]: [Address; 2],
    len: usize,
    out: Address,
    add: bool,
) -> Result<(), TensorError> {
    let grid = Grid::flat(len);
    let partial = cuda.array(Kind::F32, grid.blocks[0])?;
    cuda.launch("dot_partials", grid, &[&x, &y, &len, &partial.address()])?;
    sum_all(cuda, partial.address(), grid.blocks[0], 1.0, out, add)
}

/// `out (+)= factor x`, with the factor in device memory.
fn times(
    cuda: &Cuda,
    factor: Address,
    x: Address,
    out: Address,
    add: bool,
    len: usize,
) -> Result<(), TensorError> {
    let add = usize::from(add);
    let arguments: [&dyn Argument; 5] = [&factor, &x, &out, &add, &len];
    cuda.launch("times", Grid::flat(len), &arguments)
}

/// See [`crate::Backend::scale_by`].
pub(super) fn scale_by(
    cuda: &Cuda,
    x: Matrix<Cuda>,
    factor: Scalar<Cuda>,
) -> Result<Matrix<Cuda>, TensorError> {
    let shape = *x.shape();
    let (x, factor) = (Input::read(x)?, Input::read(factor)?);
    let out = Output::new(cuda, shape)?;
    times(cuda, factor.address(), x.address(), out.address, false, x.len())?;
    Ok(finish(cuda, out, tape([&x, &factor]), move |cuda, grads, dout| {
        if let Some(dx) = x.gradient(cuda, grads)? {
            times(cuda, factor.address(), dout, dx, true, x.len())?;
        }
        match factor.gradient(cuda, grads)? {
            Some(dfactor) => add_dot(cuda, [dout, x.address()], x.len(), dfactor, true),
            None => Ok(()),
        }
    }))
}

/// See [`crate::Backend::dot`].
pub(super) fn dot(cuda: &Cuda, x: Row<Cuda>, y: Row<Cuda>) -> Result<Scalar<Cuda>, TensorError> {
    expect_size("elements of a scalar product", x.shape().0, y.shape().0)?;
    let (x, y) = (Input::read(x)?, Input::read(y)?);
    let out = Output::new(cuda, ())?;
    add_dot(cuda, [x.address(), y.address()], x.len(), out.address, false)?;
    Ok(finish(cuda, out, tape([&x, &y]), move |cuda, grads, dout| {
        for (input, other) in [(&x, &y), (&y, &x)] {
            if let Some(gradient) = input.gradient(cuda, grads)? {
                times(cuda, dout, other.address(), gradient, true, x.len())?;
            }
        }
        Ok(())
    }))
}
