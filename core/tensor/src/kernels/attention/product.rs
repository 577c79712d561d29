//! The products of one head: a block of rows times a padded matrix, with the sums held in registers.
//!
//! `gemm` packs its operands and picks a path for each call, which costs more than the arithmetic of a small
//! head. Here the operands are taken as they lie, and a call may leave out the terms that a causal mask makes
//! zero. Each element is one chain of (fused) multiply-adds over its terms in order, so its bits do
//! not depend on how rows and columns are cut into blocks, nor on the width of the processor's vectors.
//!
//! Must not know: what the matrices mean, softmax, threads.

use std::{marker::PhantomData, ops::Range};

pub use super::super::matmul::Write;
use super::{
    super::{
        math::fma,
        matmul::reach,
        simd::{BASELINE_FMA, Level, level},
        split::SharedMut,
    },
    padded::{Padded, Rows, UNIT, View},
};

/// The left operand: its elements are read one at a time, so either index may be the contiguous one.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    data: &'a [f32],
    rows: usize,
    terms: usize,
    row_stride: usize,
    term_stride: usize,
    factors: Option<&'a [f32]>,
}

impl<'a> Left<'a> {
    /// The matrix itself.
    pub fn new(matrix: View<'a>) -> Self {
        let View { data, rows, cols, stride } = matrix;
        Self { data, rows, terms: cols, row_stride: stride, term_stride: 1, factors: None }
    }

    /// The transpose of the matrix; nothing is copied.
    pub fn transposed(matrix: View<'a>) -> Self {
        let View { data, rows, cols, stride } = matrix;
        Self { data, rows: cols, terms: rows, row_stride: 1, term_stride: stride, factors: None }
    }

    /// Row `i` of the product will be multiplied by `factors[i]`.
    pub fn times(self, factors: &'a [f32]) -> Self {
        Self { factors: Some(factors), ..self }
    }

    fn reach(&self) -> usize {
        match self.rows * self.terms {
            0 => 0,
            _ => (self.rows - 1) * self.row_stride + (self.terms - 1) * self.term_stride + 1,
        }
    }
}

/// Where a product goes; vectors may also write the columns up to the next multiple of [`UNIT`].
#[derive(Debug)]
pub struct Target<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// All of a scratch matrix.
    pub fn new(matrix: &'a mut Padded) -> Self {
        let (rows, cols, stride) = (matrix.rows(), matrix.cols(), matrix.stride());
        Self { data: matrix.as_mut_slice().as_mut_ptr(), rows, cols, stride, borrow: PhantomData }
    }

    /// Rows of a slice that tasks share.
    ///
    /// # Safety
    /// For as long as the value lives, the rows must lie in the slice, and nobody else may touch them.
    pub unsafe fn shared(data: SharedMut, rows: Rows) -> Self {
        assert!(rows.in_place && rows.width.is_multiple_of(UNIT), "no vector reaches beyond its row");
        // SAFETY: promised by the caller.
        let data = unsafe { data.at(rows.first) };
        Self { data, rows: rows.count, cols: rows.width, stride: rows.stride, borrow: PhantomData }
    }
}

/// The terms that row `i` of a product needs; its other elements on the left are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// All.
    All,
    /// Those before `i + offset`.
    Before(isize),
    /// Those from `i + offset` on.
    From(isize),
}

impl Terms {
    /// What any of `rows` needs.
    fn of(self, rows: Range<usize>, terms: usize) -> Range<usize> {
        let at = |row: usize, offset: isize| row.saturating_add_signed(offset).min(terms);
        match self {
            Self::All => 0..terms,
            Self::Before(offset) => 0..at(rows.end - 1, offset),
            Self::From(offset) => at(rows.start, offset)..terms,
        }
    }
}

/// `out = a b` or `out += a b`, on the calling thread.
///
/// # Shapes
/// - `a: [m, k]`, `b: [at least k, n]`, `out: [at least m, n]`
pub fn product(a: Left<'_>, b: View<'_>, out: Target<'_>, terms: Terms, write: Write) {
    let (job, size) = checked(a, b, out, terms, write);
    // SAFETY: the job was checked, and `level` has found the features of the copy it names.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match level() {
            Level::Avx512 => return avx512(job, size),
            Level::Avx2 => return avx2(job, size),
            Level::Baseline => {}
        }
        product_on_16::<BASELINE_FMA>(job, size);
    }
}

/// A job whose operands hold all that its size asks for; `out` is borrowed for as long as the job lives.
fn checked<'a>(a: Left<'a>, b: View<'a>, out: Target<'a>, terms: Terms, write: Write) -> (Job<'a>, Size) {
    let cols = b.cols.next_multiple_of(UNIT);
    assert!(a.terms <= b.rows && a.rows <= out.rows && b.cols == out.cols, "shapes agree");
    assert!(
        a.reach() <= a.data.len() && reach(a.terms, cols, b.stride) <= b.data.len(),
        "operands are whole"
    );
    assert!(a.factors.is_none_or(|factors| factors.len() >= a.rows), "a factor for each row");
    let job = Job {
        a: a.data.as_ptr(),
        row_stride: a.row_stride,
        term_stride: a.term_stride,
        factors: a.factors,
        b: b.data.as_ptr(),
        b_stride: b.stride,
        out: out.data,
        out_stride: out.stride,
        add: write == Write::Add,
    };
    (job, Size { rows: a.rows, cols, count: a.terms, terms })
}

/// Addresses and strides of one block of a product.
#[derive(Clone, Copy)]
struct Job<'a> {
    a: *const f32,
    row_stride: usize,
    term_stride: usize,
    factors: Option<&'a [f32]>,
    b: *const f32,
    b_stride: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
}

impl Job<'_> {
    /// The block whose corner is at `(row, col)`, with its sums beginning at `term`.
    ///
    /// # Safety
    /// The corner and the term must lie in the operands.
    #[inline(always)]
    unsafe fn block(self, row: usize, col: usize, term: usize) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            Self {
                a: self.a.add(row * self.row_stride + term * self.term_stride),
                b: self.b.add(term * self.b_stride + col),
                out: self.out.add(row * self.out_stride + col),
                factors: self.factors.map(|factors| &factors[row..]),
                ..self
            }
        }
    }
}

/// The extent of a product; `cols` is a multiple of [`UNIT`].
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    count: usize,
    terms: Terms,
}

impl Size {
    /// Cuts the rows into blocks of nearly the same size, `most` at most: first row, rows, terms.
    #[inline(always)]
    fn row_blocks(self, most: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let blocks = self.rows.div_ceil(most);
        (0..blocks).map(move |n| {
            let [first, end] = [n, n + 1].map(|n| n * self.rows / blocks);
            (first, end - first, self.terms.of(first..end, self.count))
        })
    }
}

/// # Safety
/// As for [`product_on_32`]; the processor must have the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
unsafe fn avx512(job: Job<'_>, size: Size) {
    // SAFETY: promised by the caller.
    unsafe { product_on_32::<true>(job, size) }
}

/// # Safety
/// As for [`product_on_16`]; the processor must have the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: Job<'_>, size: Size) {
    // SAFETY: promised by the caller.
    unsafe { product_on_16::<true>(job, size) }
}

/// Blocks of up to 12 by 32: 24 sums of 16 lanes, for a processor with 32 registers of that width.
///
/// # Safety
/// `size` must lie in the operands of `job`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn product_on_32<const FMA: bool>(job: Job<'_>, size: Size) {
    for col in (0..size.cols).step_by(32) {
        for (row, rows, terms) in size.row_blocks(12) {
            // SAFETY: the block lies within `size`.
            unsafe {
                let block = job.block(row, col, terms.start);
                match size.cols - col {
                    8 => up_to_12_rows::<FMA, 1, 8>(block, rows, terms.len()),
                    16 => up_to_12_rows::<FMA, 1, 16>(block, rows, terms.len()),
                    24 => up_to_12_rows::<FMA, 3, 8>(block, rows, terms.len()),
                    _ => up_to_12_rows::<FMA, 2, 16>(block, rows, terms.len()),
                }
            }
        }
    }
}

/// Blocks of up to 6 by 16: 12 sums of 8 lanes, for a processor with 16 registers of that width.
///
/// # Safety
/// `size` must lie in the operands of `job`.
#[inline(always)]
unsafe fn product_on_16<const FMA: bool>(job: Job<'_>, size: Size) {
    for col in (0..size.cols).step_by(16) {
        for (row, rows, terms) in size.row_blocks(6) {
            // SAFETY: the block lies within `size`.
            unsafe {
                let block = job.block(row, col, terms.start);
                match size.cols - col {
                    8 => up_to_6_rows::<FMA, 1, 8>(block, rows, terms.len()),
                    _ => up_to_6_rows::<FMA, 2, 8>(block, rows, terms.len()),
                }
            }
        }
    }
}

/// # Safety
/// As for [`block`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn up_to_12_rows<const FMA: bool, const W: usize, const L: usize>(
    job: Job<'_>,
    rows: usize,
    terms: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match rows {
            12 => block::<FMA, 12, W, L>(job, terms),
            11 => block::<FMA, 11, W, L>(job, terms),
            10 => block::<FMA, 10, W, L>(job, terms),
            9 => block::<FMA, 9, W, L>(job, terms),
            8 => block::<FMA, 8, W, L>(job, terms),
            7 => block::<FMA, 7, W, L>(job, terms),
            _ => up_to_6_rows::<FMA, W, L>(job, rows, terms),
        }
    }
}

/// # Safety
/// As for [`block`].
#[inline(always)]
unsafe fn up_to_6_rows<const FMA: bool, const W: usize, const L: usize>(
    job: Job<'_>,
    rows: usize,
    terms: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match rows {
            6 => block::<FMA, 6, W, L>(job, terms),
            5 => block::<FMA, 5, W, L>(job, terms),
            4 => block::<FMA, 4, W, L>(job, terms),
            3 => block::<FMA, 3, W, L>(job, terms),
            2 => block::<FMA, 2, W, L>(job, terms),
            _ => block::<FMA, 1, W, L>(job, terms),
        }
    }
}

/// One block: `R` rows by `W` vectors of `L` lanes. The sizes are constants, so that the compiler unrolls
/// everything but the sum and keeps the sums in registers.
///
/// # Safety
/// `R` rows and `terms` terms on the left, `terms` rows and `W * L` columns on the right, and the block of the
/// output must lie in the memory that `job` names; nobody else may touch the latter.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "with iterators the compiler moves sums to memory")]
unsafe fn block<const FMA: bool, const R: usize, const W: usize, const L: usize>(job: Job<'_>, terms: usize) {
    let mut sums = [[[0.0; L]; W]; R];
    // SAFETY: promised by the caller. Arrays of `f32` need no more alignment than `f32`.
    unsafe {
        for l in 0..terms {
            let mut right = [[0.0; L]; W];
            for w in 0..W {
                right[w] = job.b.add(l * job.b_stride + w * L).cast::<[f32; L]>().read();
            }
            for r in 0..R {
                let left = job.a.add(r * job.row_stride + l * job.term_stride).read();
                for w in 0..W {
                    for i in 0..L {
                        sums[r][w][i] = fma::<FMA>(left, right[w][i], sums[r][w][i]);
                    }
                }
            }
        }
        if let Some(factors) = job.factors {
            for r in 0..R {
                for w in 0..W {
                    sums[r][w] = sums[r][w].map(|sum| factors[r] * sum);
                }
            }
        }
        let out = |r: usize, w: usize| job.out.add(r * job.out_stride + w * L).cast::<[f32; L]>();
        if job.add {
            for r in 0..R {
                for w in 0..W {
                    let old = out(r, w).read();
                    for i in 0..L {
                        sums[r][w][i] += old[i];
                    }
                }
            }
        }
        for r in 0..R {
            for w in 0..W {
                out(r, w).write(sums[r][w]);
            }
        }
    }
}

#[cfg(test)]
#[path = "product_tests.rs"]
mod tests;
