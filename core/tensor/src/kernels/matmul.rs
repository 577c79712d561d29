//! The matrix product, for any strides: `gemm` behind a checked interface.
//!
//! In: [`Matrix`] views of slices. Out: one [`MatrixMut`], overwritten or added to.
//!
//! Must not know: layers, bias, gradients.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::math::dot;
use super::simd::multiversion;
use super::split::rows_per_task;

/// A strided view of a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Contiguous rows: `data: [rows, cols]`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that start every `row_stride` elements.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(reach(rows, cols, row_stride) <= data.len(), "matrix lies in its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view; nothing is copied.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// The matrix that a product writes; rows are contiguous.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// Contiguous rows: `data: [rows, cols]`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert!(rows * cols <= data.len(), "matrix lies in its slice");
        Self { data: data.as_mut_ptr(), rows, cols, row_stride: cols, borrow: PhantomData }
    }
}

/// Elements from the first to one past the last.
pub fn reach(rows: usize, cols: usize, row_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols }
}

/// What becomes of the old contents of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `out = scale a b`
    Overwrite,
    /// `out += scale a b`
    Add,
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone; for products inside a task.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "attention, the last such task, has products of its own")
    )]
    One,
    /// rayon's current pool.
    Pool,
}

/// `out = scale a b` or `out += scale a b`.
///
/// # Shapes
/// - `a: [m, k]`, `b: [k, n]`, `out: [m, n]`
///
/// The bits do not depend on the size of the pool. They may depend on `m`; see [`row_product`].
pub fn product(scale: f32, a: Matrix<'_>, b: Matrix<'_>, out: MatrixMut<'_>, write: Write, threads: Threads) {
    assert!(a.cols == b.rows && a.rows == out.rows && b.cols == out.cols, "shapes of a product agree");
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::Pool => gemm::Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: the views were checked against their slices when they were made, `out` is exclusive by its
    // borrow, and the shapes agree.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.data,
            1,
            out.row_stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Up to so many columns [`row_product`] takes inner products instead of calling `gemm`.
const NARROW: usize = 16;
/// `gemm` 0.19 sums along `k` in another order while an output has at most so many elements.
const SMALL_OUTPUT: usize = 16 * 16;

/// `out += x b` on the pool, where a row's bits do not depend on how many rows there are.
///
/// # Shapes
/// - `x: [rows, k]`, `b: [k, n]`, `out: [rows, n]`
///
/// `gemm` chooses other paths, with another rounding, for one row or column, for `k <= 2`, and for small
/// outputs of two operands contiguous in `k`. So narrow outputs and short sums have loops of their own here,
/// and few rows are computed in the company of zeros.
pub fn row_product(x: &[f32], rows: usize, b: Matrix<'_>, out: &mut [f32]) {
    let (k, n) = (b.rows, b.cols);
    assert!(x.len() == rows * k && out.len() == rows * n, "rows of a product agree");
    let enough_rows = (SMALL_OUTPUT / n.max(1) + 1).max(2);
    if n <= NARROW {
        narrow_product(x, b, out);
    } else if k <= 2 {
        outer_product(x, b, out);
    } else if rows < enough_rows {
        let (mut padded, mut wide) = (x.to_vec(), out.to_vec());
        padded.resize(enough_rows * k, 0.0);
        wide.resize(enough_rows * n, 0.0);
        pool_product(&padded, enough_rows, b, &mut wide);
        out.copy_from_slice(&wide[..out.len()]);
    } else {
        pool_product(x, rows, b, out);
    }
}

fn pool_product(x: &[f32], rows: usize, b: Matrix<'_>, out: &mut [f32]) {
    let out = MatrixMut::new(out, rows, b.cols);
    product(1.0, Matrix::new(x, rows, b.rows), b, out, Write::Add, Threads::Pool);
}

/// [`row_product`] for few columns.
fn narrow_product(x: &[f32], b: Matrix<'_>, out: &mut [f32]) {
    let (k, n) = (b.rows, b.cols);
    if k == 0 || n == 0 {
        return;
    }
    let at = |i: usize| b.data[i % k * b.row_stride + i / k * b.col_stride];
    let columns: Vec<f32> = (0..n * k).map(at).collect();
    let rows = rows_per_task(k * n);
    let tasks = out.par_chunks_mut(rows * n).zip(x.par_chunks(rows * k));
    tasks.for_each(|(out, x)| inner_products(x, &columns, k, out));
}

multiversion! {
    /// `out[i, j] += x[i] . columns[j]`, both of length `k`.
    fn inner_products(x: &[f32], columns: &[f32], k: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(columns.len() / k)) {
            for (column, o) in columns.chunks_exact(k).zip(out) {
                *o += dot::<FMA>(x, column);
            }
        }
    }
}

/// [`row_product`] for very few terms.
fn outer_product(x: &[f32], b: Matrix<'_>, out: &mut [f32]) {
    for (i, out) in out.chunks_exact_mut(b.cols.max(1)).enumerate() {
        for (l, x) in x[i * b.rows..][..b.rows].iter().enumerate() {
            for (j, o) in out.iter_mut().enumerate() {
                *o += x * b.data[l * b.row_stride + j * b.col_stride];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, random, to_f64};

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
        (0..m * n).map(|ij| at(ij / n, ij % n)).collect()
    }

    #[test]
    fn products_agree_with_f64_for_odd_sizes() {
        for (m, k, n) in [(1, 1, 1), (2, 3, 5), (7, 17, 33), (65, 24, 17), (3, 0, 4), (0, 3, 4), (31, 130, 1)]
        {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let exact = naive(&to_f64(&a), &to_f64(&b), m, k, n);
            let mut out = vec![f32::NAN; m * n];
            let target = MatrixMut::new(&mut out, m, n);
            product(
                1.0,
                Matrix::new(&a, m, k),
                Matrix::new(&b, k, n),
                target,
                Write::Overwrite,
                Threads::Pool,
            );
            assert_close(&out, &exact, 1e-5);
            let target = MatrixMut::new(&mut out, m, n);
            product(2.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n), target, Write::Add, Threads::One);
            assert_close(&out, &exact.iter().map(|v| 3.0 * v).collect::<Vec<_>>(), 1e-5);
        }
    }

    #[test]
    fn views_may_be_transposed_and_strided() {
        let (m, k, n, stride) = (5, 7, 6, 11);
        let (a, b) = (random(k * m, 3), random(k * stride, 4));
        let packed: Vec<f32> = b.chunks(stride).flat_map(|row| &row[..n]).copied().collect();
        let a_t: Vec<f32> = (0..m * k).map(|ij| a[(ij % k) * m + ij / k]).collect();
        let exact = naive(&to_f64(&a_t), &to_f64(&packed), m, k, n);
        let mut out = vec![0.0; m * n];
        let target = MatrixMut::new(&mut out, m, n);
        let (a, b) = (Matrix::new(&a, k, m).t(), Matrix::strided(&b, k, n, stride));
        product(1.0, a, b, target, Write::Overwrite, Threads::One);
        assert_close(&out, &exact, 1e-5);
    }
}
