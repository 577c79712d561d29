//! The linear layer `y = x w^T + b`, with weights in PyTorch's layout.
//!
//! Must not know: which layer it serves.

use std::ops::Range;

use rayon::prelude::*;

use super::few::{self, FEW};
use super::matmul::Write;
use super::outer;
use super::packed::Packed;
use super::simd::multiversion;
use super::split::{add_column_sums, for_each_panel};

/// Sizes of one linear layer's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// R: rows of the input, all leading dimensions together.
    pub rows: usize,
    /// K: features in.
    pub inputs: usize,
    /// N: features out.
    pub outputs: usize,
}

/// Rows of a task.
const TILE: usize = 128;

/// Outputs of a task, where rows are few: whole vectors.
const PANEL: usize = 64;

/// `out = x w^T + bias`.
///
/// # Shapes
/// - `x: [R, K]`, `w: [N, K]`, `bias: [N]`, `out: [R, N]`
pub fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32], dims: Dims) {
    let write = begin(bias, out, dims.outputs);
    sum(x, w, out, dims, write);
}

/// Puts the bias into rows that a product then adds to, if there is one.
pub fn begin(bias: Option<&[f32]>, out: &mut [f32], outputs: usize) -> Write {
    let Some(bias) = bias else { return Write::Overwrite };
    out.par_chunks_exact_mut(outputs.max(1)).for_each(|row| row.copy_from_slice(bias));
    Write::Add
}

/// `out += x w^T`.
///
/// # Shapes
/// - as in [`forward`]
pub fn add(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims) {
    sum(x, w, out, dims, Write::Add);
}

/// `out = x w^T` or `out += x w^T`, with the same bits for any number of rows.
fn sum(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims, write: Write) {
    match dims.rows {
        0..=FEW => few_rows(x, w, out, dims, write),
        _ => tiles(x, &Packed::transposed(w, dims.inputs, None), out, [dims.inputs, dims.outputs], write),
    }
}

/// Each task has some outputs, so that all threads read weights even for one row: what counts is reading them, as when
/// one token is decoded.
fn few_rows(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims, write: Write) {
    let Dims { inputs, outputs, .. } = dims;
    if inputs == 0 || out.is_empty() {
        return tiles(x, &Packed::transposed(w, inputs, None), out, [inputs, outputs], write);
    }
    for_each_panel(
        out,
        [outputs, PANEL],
        || (),
        |(), task, part| {
            let here = task * PANEL * inputs..w.len().min((task + 1) * PANEL * inputs);
            few::product(x, &w[here], part, inputs, write);
        },
    );
}

/// `dx += dy w`, `dw += dy^T x`, `db += sum over rows of dy`.
///
/// # Shapes
/// - `x, dx: [R, K]`, `w, dw: [N, K]`, `dy: [R, N]`, `db: [N]`
pub fn backward(
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
    dims: Dims,
) {
    let Dims { inputs, outputs, .. } = dims;
    if let Some(dx) = dx {
        tiles(dy, &Packed::straight(w, inputs, None), dx, [outputs, inputs], Write::Add);
    }
    if let Some(dw) = dw {
        weight_gradient(x, dy, dw, Write::Add, dims);
    }
    if let Some(db) = db {
        bias_gradient(dy, db);
    }
}

/// `out = x w` for weights that were published the other way round.
///
/// # Shapes
/// - `x: [R, K]`, `w: [K, N]`, `out: [R, N]`
pub fn forward_transposed(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims) {
    let Dims { inputs, outputs, .. } = dims;
    tiles(x, &Packed::straight(w, outputs, None), out, [inputs, outputs], Write::Overwrite);
}

/// `dx += dy w^T`, `dw += x^T dy`.
///
/// # Shapes
/// - as in [`forward_transposed`]
pub fn backward_transposed(
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
    dims: Dims,
) {
    let Dims { rows, inputs, outputs } = dims;
    if let Some(dx) = dx {
        tiles(dy, &Packed::transposed(w, outputs, None), dx, [outputs, inputs], Write::Add);
    }
    if let Some(dw) = dw {
        weight_gradient(dy, x, dw, Write::Add, Dims { rows, inputs: outputs, outputs: inputs });
    }
}

/// `out = x b` or `out += x b` on the pool, tile by tile: `x: [R, K]`, `b: [K, N]`, `out: [R, N]`.
fn tiles(x: &[f32], b: &Packed, out: &mut [f32], [depth, columns]: [usize; 2], write: Write) {
    if out.is_empty() || depth == 0 {
        // A sum of nothing.
        return if write == Write::Overwrite {
            out.fill(0.0)
        };
    }
    assert_eq!(out.len() / columns * depth, x.len());
    out.par_chunks_mut(TILE * columns).enumerate().for_each(|(tile, out)| {
        b.product(&x[tile * TILE * depth..][..out.len() / columns * depth], out, write);
    });
}

/// `dw = dy^T x` or `dw += dy^T x`.
///
/// # Shapes
/// - `x: [R, K]`, `dy: [R, N]`, `dw: [N, K]`
pub fn weight_gradient(x: &[f32], dy: &[f32], dw: &mut [f32], write: Write, dims: Dims) {
    let Dims { rows, inputs, outputs } = dims;
    outer::sum(dy, x, dw, [rows, outputs, inputs], write);
}

/// `db += sum over rows of dy`.
///
/// # Shapes
/// - `dy: [R, N]`, `db: [N]`
pub fn bias_gradient(dy: &[f32], db: &mut [f32]) {
    let outputs = db.len();
    let rows = dy.len() / outputs.max(1);
    assert_eq!(dy.len(), rows * outputs);
    add_column_sums(db, rows, |rows, first, acc| add_rows(&dy[first..], rows, outputs, acc));
}

multiversion! {
    fn add_rows(dy: &[f32], rows: Range<usize>, stride: usize, acc: &mut [f32]) {
        for row in rows {
            let dy = &dy[row * stride..][..acc.len()];
            acc.iter_mut().zip(dy).for_each(|(a, d)| *a += d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{
        assert_close, assert_same_on_any_threads, bits, gradient, probe, random, to_f64,
    };

    fn naive(x: &[f64], w: &[f64], b: &[f64], dims: Dims) -> Vec<f64> {
        let at = |r: usize, n: usize| {
            let terms = (0..dims.inputs).map(|k| x[r * dims.inputs + k] * w[n * dims.inputs + k]);
            b[n] + terms.sum::<f64>()
        };
        (0..dims.rows * dims.outputs).map(|i| at(i / dims.outputs, i % dims.outputs)).collect()
    }

    #[test]
    fn forward_and_gradients_agree_with_f64() {
        for (rows, inputs, outputs) in [(1, 1, 1), (4, 0, 3), (1, 9, 5), (3, 5, 7), (6, 17, 9), (2, 4, 65)] {
            let dims = Dims { rows, inputs, outputs };
            let (x, w) = (random(rows * inputs, 1), random(outputs * inputs, 2));
            let (b, dy) = (random(outputs, 3), random(rows * outputs, 4));
            let [x64, w64, b64] = [&x, &w, &b].map(|v| to_f64(v));
            let mut out = vec![f32::NAN; rows * outputs];
            forward(&x, &w, Some(&b), &mut out, dims);
            assert_close(&out, &naive(&x64, &w64, &b64, dims), 1e-5);

            let (mut dx, mut dw, mut db) = (vec![1.0; x.len()], vec![1.0; w.len()], vec![1.0; b.len()]);
            backward(&x, &w, &dy, Some(&mut dx), Some(&mut dw), Some(&mut db), dims);
            let plus_one = |g: Vec<f64>| g.into_iter().map(|v| v + 1.0).collect::<Vec<_>>();
            let exact = gradient(&x, |x| probe(&naive(x, &w64, &b64, dims), &dy));
            assert_close(&dx, &plus_one(exact), 1e-4);
            let exact = gradient(&w, |w| probe(&naive(&x64, w, &b64, dims), &dy));
            assert_close(&dw, &plus_one(exact), 1e-4);
            let exact = gradient(&b, |b| probe(&naive(&x64, &w64, b, dims), &dy));
            assert_close(&db, &plus_one(exact), 1e-4);
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_on_any_threads(|| {
            let dims = Dims { rows: 515, inputs: 130, outputs: 97 };
            let (x, w) = (random(dims.rows * dims.inputs, 1), random(dims.outputs * dims.inputs, 2));
            let mut out = vec![0.0; dims.rows * dims.outputs];
            forward(&x, &w, None, &mut out, dims);
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; dims.outputs]);
            backward(&x, &w, &out, Some(&mut dx), Some(&mut dw), Some(&mut db), dims);
            vec![out, dx, dw, db]
        });
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let sizes = [
            (2, 3),
            (2, 40),
            (9, 1),
            (64, 16),
            (64, 17),
            (64, 64),
            (96, 288),
            (384, 96),
            (1030, 1),
            (1540, 300),
        ];
        for (inputs, outputs) in sizes {
            let (x, w) = (random(131 * inputs, 1), random(outputs * inputs, 2));
            let b = random(outputs, 3);
            let run = |rows: usize| {
                let mut out = vec![0.0; rows * outputs];
                forward(&x[..rows * inputs], &w, Some(&b), &mut out, Dims { rows, inputs, outputs });
                bits(&[out]).remove(0)
            };
            let all = run(131);
            for rows in [1, 2, 3, 5, 8, 17, 33, 64, 130] {
                assert!(run(rows) == all[..rows * outputs], "{rows} rows, {inputs} to {outputs}");
            }
        }
    }
}
