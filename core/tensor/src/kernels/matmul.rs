//! The matrix product, for any strides: `gemm` behind a checked interface.
//!
//! In: [`Matrix`] views of slices. Out: one [`MatrixMut`], overwritten or added to.
//!
//! Must not know: layers, bias, gradients.

use std::marker::PhantomData;

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

/// `out = scale a b` or `out += scale a b`.
///
/// # Shapes
/// - `a: [m, k]`, `b: [k, n]`, `out: [m, n]`
///
/// The bits do not depend on the size of the pool. They may depend on `m`; where a row's must not, see
/// [`super::packed`].
pub fn product(scale: f32, a: Matrix<'_>, b: Matrix<'_>, out: MatrixMut<'_>, write: Write) {
    assert!(a.cols == b.rows && a.rows == out.rows && b.cols == out.cols, "shapes of a product agree");
    let parallelism = gemm::Parallelism::Rayon(rayon::current_num_threads());
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
            product(1.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n), target, Write::Overwrite);
            assert_close(&out, &exact, 1e-5);
            let target = MatrixMut::new(&mut out, m, n);
            product(2.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n), target, Write::Add);
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
        product(1.0, a, b, target, Write::Overwrite);
        assert_close(&out, &exact, 1e-5);
    }
}
