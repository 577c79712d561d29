//! Sums of outer products, the gradients of weights: `out [N, K] = y^T x` of `y [R, N]` and `x [R, K]`.
//!
//! Rows are many and the result is small, so both matrices are read as they lie: what a row holds for six rows and 64 columns of
//! the result is two short runs of memory. Packing them first, as gemm does, costs as much as half of the arithmetic. Blocks of rows
//! are summed on their own before they join the total, which keeps the rounding error small.
//!
//! Must not know: layers, bias.

#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
use rayon::prelude::*;

use super::matmul::{Matrix, MatrixMut, Write, product};
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};

/// The most rows of the result in one task: every task reads all of `x`.
#[cfg(target_arch = "x86_64")]
const MOST_ROWS: usize = 24;
/// Rows of the result that a micro-kernel keeps in registers.
#[cfg(target_arch = "x86_64")]
const TILE: usize = 6;
/// Rows of `y` and `x` that are summed on their own: so many of one panel stay in the first-level cache.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 128;
/// Columns of the result that a micro-kernel keeps in registers.
#[cfg(target_arch = "x86_64")]
const PANEL: usize = 64;

/// `out = y^T x` or `out += y^T x`, on the pool.
///
/// # Shapes
/// - `y: [R, N]`, `x: [R, K]`, `out: [N, K]`
///
/// The bits do not depend on the number of threads: each element has one order of addition, whichever task it is in.
pub fn sum(y: &[f32], x: &[f32], out: &mut [f32], [rows, n, k]: [usize; 3], write: Write) {
    assert!(y.len() == rows * n && x.len() == rows * k && out.len() == n * k, "sizes of a sum agree");
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 && !out.is_empty() && rows > 0 {
        // Two tasks a thread, where there are so many rows.
        let height = n.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(TILE).min(MOST_ROWS);
        let tasks = out.par_chunks_mut(height * k).enumerate();
        tasks.for_each(|(task, out)| rows_of_task(y, x, out, task * height, [rows, n, k], write));
        return;
    }
    let (y, x) = (Matrix::new(y, rows, n).t(), Matrix::new(x, rows, k));
    product(1.0, y, x, MatrixMut::new(out, n, k), write);
}

/// Rows `first..` of the result: as many as `out` has.
#[cfg(target_arch = "x86_64")]
fn rows_of_task(y: &[f32], x: &[f32], out: &mut [f32], first: usize, [rows, n, k]: [usize; 3], write: Write) {
    for from in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - from);
        let write = if from == 0 { write } else { Write::Add };
        for column in (0..k).step_by(PANEL) {
            let block = Block {
                y: &y[from * n + first..],
                y_stride: n,
                x: &x[from * k + column..],
                x_stride: k,
                rows: count,
                columns: PANEL.min(k - column),
                write,
            };
            let height = out.len() / k;
            // SAFETY: `level` found AVX-512. The last row of `y` from `first` on has `height` elements, and the last of `x` and of
            // `out` from `column` on have `columns`.
            unsafe { avx512::tiles(&block, height, &mut out[column..], k) };
        }
    }
}

/// Some rows, and one panel of columns.
#[cfg(target_arch = "x86_64")]
struct Block<'a> {
    /// From its first row and column on; row `r` starts at `r * y_stride`.
    y: &'a [f32],
    y_stride: usize,
    /// Likewise.
    x: &'a [f32],
    x_stride: usize,
    rows: usize,
    /// At most [`PANEL`].
    columns: usize,
    write: Write,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random, to_f64};

    #[test]
    fn sums_agree_with_f64_for_odd_sizes() {
        for (rows, n, k) in [
            (1, 1, 1),
            (0, 3, 2),
            (3, 0, 2),
            (5, 7, 17),
            (128, 24, 64),
            (129, 25, 65),
            (300, 6, 130),
            (257, 53, 96),
            (1000, 11, 40),
        ] {
            let (y, x) = (random(rows * n, 1), random(rows * k, 2));
            let (y64, x64) = (to_f64(&y), to_f64(&x));
            let at = |i: usize| (0..rows).map(|r| y64[r * n + i / k] * x64[r * k + i % k]).sum::<f64>();
            let exact: Vec<f64> = (0..n * k).map(at).collect();
            let mut out = vec![f32::NAN; n * k];
            sum(&y, &x, &mut out, [rows, n, k], Write::Overwrite);
            assert_close(&out, &exact, 1e-4);
            sum(&y, &x, &mut out, [rows, n, k], Write::Add);
            assert_close(&out, &exact.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), 1e-4);
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_on_any_threads(|| {
            let [rows, n, k] = [515, 97, 130];
            let mut out = vec![0.0; n * k];
            sum(&random(rows * n, 1), &random(rows * k, 2), &mut out, [rows, n, k], Write::Add);
            vec![out]
        });
    }
}
