//! Losses and the scores that they are made of. Products of features run in single precision whatever the
//! precision of the backend, except that TF32 stays TF32.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, Kind, View},
    driver::{Argument, Grid},
    own_op::{Input, finish, tape},
    product::{Layout, Product},
};
use crate::{
    error::{TensorError, expect_size},
    tape::Grads,
    tensor::{Matrix, Scalar, Vector},
};

/// Stands for a target that does not count.
const IGNORED: u32 = u32::MAX;

/// `struct Scores` of `kernels/loss.cu`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Scores {
    data: Address,
    row_stride: i64,
    column_stride: i64,
    rows: i64,
    classes: i64,
    factor: Address,
    targets: Address,
    smoothing: f32,
}

impl Argument for Scores {}

/// Threads for a row of scores.
fn grid(rows: usize, classes: usize) -> Grid {
    Grid {
        blocks: [rows, 1, 1],
        threads: [classes.next_multiple_of(32).clamp(32, 512), 1, 1],
        shared_bytes: 0,
    }
}

/// See [`crate::Backend::cross_entropy`].
pub(super) fn cross_entropy(
    cuda: &Cuda,
    logits: Matrix<Cuda>,
    targets: &[Option<u32>],
    smoothing: f64,
) -> Result<Scalar<Cuda>, TensorError> {
    let &(rows, classes) = logits.shape();
    expect_size("targets", rows, targets.len())?;
    if let Some(&id) = targets.iter().flatten().find(|&&id| id as usize >= classes) {
        return Err(TensorError::OutOfRange { what: "target class", id: u64::from(id), limit: classes });
    }
    let share = 1.0 / targets.iter().flatten().count().max(1) as f32;
    let targets: Vec<u32> = targets.iter().map(|target| target.unwrap_or(IGNORED)).collect();
    let targets = Array::upload(cuda.driver(), &targets)?;
    let logits = Input::read(logits)?;
    let scores = Scores {
        data: logits.address(),
        row_stride: classes as i64,
        column_stride: 1,
        rows: rows as i64,
        classes: classes as i64,
        factor: Address::NONE,
        targets: targets.address(),
        smoothing: smoothing as f32,
    };
    let (lse, losses) = (cuda.array(Kind::F32, rows)?, cuda.array(Kind::F32, rows)?);
    let grid = grid(rows, classes);
    cuda.launch("cross_entropy_rows", grid, &[&scores, &lse.address(), &losses.address()])?;
    let out = Output::new(cuda, ())?;
    sum_all(cuda, losses.address(), rows, share, out.address, false)?;
    Ok(finish(cuda, out, tape([&logits]), move |cuda, grads, dout| {
        // The scores' address of the targets is this one's.
        let _targets = targets;
        let Some(dlogits) = logits.gradient(cuda, grads)? else { return Ok(()) };
        let arguments: [&dyn Argument; 5] = [&scores, &lse.address(), &dout, &share, &dlogits];
        cuda.launch("cross_entropy_backward", grid, &arguments)
    }))
}

/// `out (+)= scale sum(x)`
pub(super) fn sum_all(
    cuda: &Cuda,
    x: Address,
    len: usize,
    scale: f32,
    out: Address,
    add: bool,
) -> Result<(), TensorError> {
    let add = usize::from(add);
    cuda.launch("sum_all", Grid::one_block(256), &[&x, &len, &scale, &out, &add])
}

/// See [`crate::Backend::contrastive`].
pub(super) fn contrastive(
    cuda: &Cuda,
    image: Vector<Cuda>,
    text: Vector<Cuda>,
    scale: Scalar<Cuda>,
    smoothing: f64,
) -> Result<Scalar<Cuda>, TensorError> {
    let (&(batch, width), &(texts, _)) = (image.shape(), text.shape());
    expect_size("texts, one for each image", batch, texts)?;
    let (image, text, scale) = (Input::read(image)?, Input::read(text)?, Input::read(scale)?);
    let logits = cuda.array(Kind::F32, batch * batch)?;
    let pairs = Pairs { x: image, y: text, sizes: [batch, batch, width] };
    pairs.multiply(cuda, logits.address())?;
    let rows = Scores {
        data: logits.address(),
        row_stride: batch as i64,
        column_stride: 1,
        rows: batch as i64,
        classes: batch as i64,
        factor: scale.address(),
        targets: Address::NONE,
        smoothing: smoothing as f32,
    };
    let columns = Scores { row_stride: 1, column_stride: batch as i64, ..rows };
    let (lse, losses) = (cuda.array(Kind::F32, 2 * batch)?, cuda.array(Kind::F32, 2 * batch)?);
    let grid = grid(batch, batch);
    for (scores, offset) in [(rows, 0), (columns, 4 * batch)] {
        let (lse, losses) = (lse.address().plus(offset), losses.address().plus(offset));
        cuda.launch("cross_entropy_rows", grid, &[&scores, &lse, &losses])?;
    }
    let out = Output::new(cuda, ())?;
    sum_all(cuda, losses.address(), 2 * batch, 0.5 / batch as f32, out.address, false)?;
    Ok(finish(cuda, out, tape([&pairs.x, &pairs.y, &scale]), move |cuda, grads, dout| {
        let (dlogits, of_factor) = (cuda.array(Kind::F32, batch * batch)?, cuda.array(Kind::F32, batch)?);
        let arguments: [&dyn Argument; 5] =
            [&rows, &lse.address(), &dout, &dlogits.address(), &of_factor.address()];
        cuda.launch("contrastive_backward", grid, &arguments)?;
        let _scores = &logits;
        pairs.backward(cuda, grads, dlogits.address())?;
        match scale.gradient(cuda, grads)? {
            Some(dscale) => sum_all(cuda, of_factor.address(), batch, 1.0, dscale, true),
            None => Ok(()),
        }
    }))
}

/// Rows of features that are compared with each other: `[m, k]`, `[n, k]`.
struct Pairs {
    x: Input,
    y: Input,
    sizes: [usize; 3],
}

impl Pairs {
    /// `out = x y^T`
    fn multiply(&self, cuda: &Cuda, out: Address) -> Result<(), TensorError> {
        let ([m, n, k], out) = (self.sizes, View::f32(out));
        let a = (View::f32(self.x.address()), Layout::Plain);
        let b = (View::f32(self.y.address()), Layout::Transposed);
        cuda.multiply(&Product { m, n, k, a, b, out, add: false, scale: None })
    }

    /// Adds to the gradients of both from that of the product.
    fn backward(&self, cuda: &Cuda, grads: &mut Grads<Cuda>, dout: Address) -> Result<(), TensorError> {
        let ([m, n, k], dout) = (self.sizes, View::f32(dout));
        for (input, other, layout, [rows, inner]) in
            [(&self.x, &self.y, Layout::Plain, [m, n]), (&self.y, &self.x, Layout::Transposed, [n, m])]
        {
            let Some(gradient) = input.gradient(cuda, grads)? else { continue };
            cuda.multiply(&Product {
                m: rows,
                n: k,
                k: inner,
                a: (dout, layout),
                b: (View::f32(other.address()), Layout::Plain),
                out: View::f32(gradient),
                add: true,
                scale: None,
            })?;
        }
        Ok(())
    }
}

/// See [`crate::Backend::similarities`].
pub(super) fn similarities(
    cuda: &Cuda,
    x: Matrix<Cuda>,
    y: Matrix<Cuda>,
) -> Result<Matrix<Cuda>, TensorError> {
    let (&(m, k), &(n, _)) = (x.shape(), y.shape());
    let pairs = Pairs { x: Input::read(x)?, y: Input::read(y)?, sizes: [m, n, k] };
    let out = Output::new(cuda, (m, n))?;
    pairs.multiply(cuda, out.address)?;
    let tape = tape([&pairs.x, &pairs.y]);
    Ok(finish(cuda, out, tape, move |cuda, grads, dout| pairs.backward(cuda, grads, dout)))
}
