//! Scratch matrices whose rows start on cache lines: what the tasks of attention compute on.
//!
//! In: strided rows of the caller's slices. Out: [`View`]s of them, or of copies, plain or transposed. What lies
//! in a copied row beyond its columns is void: products may read and write it, nobody asks for it.
//!
//! Must not know: masks, probabilities, which matrix is which.

use bytemuck::{Pod, Zeroable};

use super::{
    super::{matmul::reach, simd::multiversion, split::SharedMut},
    product::Write,
};

/// Products and softmax work on whole multiples of so many columns.
pub const UNIT: usize = 8;

/// Elements of a [`Line`].
const LINE: usize = 16;

/// One cache line, the unit of allocation.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Where the rows of one head lie in a slice of the caller: row `i` begins at `first + i * stride`.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Offset of row 0.
    pub first: usize,
    /// From one row to the next.
    pub stride: usize,
    /// How many.
    pub count: usize,
    /// Elements of a row.
    pub width: usize,
    /// Whether products use the rows where they lie, instead of a copy. The width is a multiple of [`UNIT`]
    /// then, so that no vector reaches beyond its row.
    pub in_place: bool,
}

impl Rows {
    /// `count` rows of these, from row `first` on.
    pub fn range(self, first: usize, count: usize) -> Self {
        Self { first: self.first + first * self.stride, count, ..self }
    }

    /// These rows of `data`: in place, or copied to `scratch`.
    pub fn view<'a>(self, data: &'a [f32], scratch: &'a mut Padded) -> View<'a> {
        if self.in_place {
            return View { data: self.of(data), rows: self.count, cols: self.width, stride: self.stride };
        }
        scratch.pack(data, self);
        scratch.view()
    }

    /// The part of `data` from the first row to the last.
    fn of(self, data: &[f32]) -> &[f32] {
        match reach(self.count, self.width, self.stride) {
            0 => &[],
            len => &data[self.first..][..len],
        }
    }
}

/// A matrix to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// From the first row on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// From one row to the next.
    pub stride: usize,
}

impl View<'_> {
    /// Only the first `rows` rows.
    pub fn first_rows(self, rows: usize) -> Self {
        assert!(rows <= self.rows, "rows lie in the matrix");
        Self { rows, ..self }
    }
}

/// A matrix of `f32`, whose memory serves one shape after the other.
#[derive(Default)]
pub struct Padded {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Padded {
    /// Becomes `[rows, cols]`. The contents are void.
    pub fn reshape(&mut self, rows: usize, cols: usize) {
        // An odd number of lines spreads the rows over all sets of a cache, whatever the number of columns.
        let lines = cols.div_ceil(LINE) | 1;
        (self.rows, self.cols, self.stride) = (rows, cols, lines * LINE);
        if self.lines.len() < rows * lines {
            self.lines.resize(rows * lines, Line::zeroed());
        }
    }

    /// Becomes `[rows, cols]` of zeros.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        self.reshape(rows, cols);
        self.as_mut_slice().fill(0.0);
    }

    /// Becomes a copy of `rows` of `data`.
    pub fn pack(&mut self, data: &[f32], rows: Rows) {
        self.reshape(rows.count, rows.width);
        let stride = self.stride;
        copy_rows(rows.of(data), rows, self.as_mut_slice(), stride);
    }

    /// Becomes the transpose of `rows` of `data`, times `factor`: `[width, count]`. Copies of the last row fill
    /// up a multiple of [`UNIT`] columns.
    pub fn pack_transposed(&mut self, data: &[f32], rows: Rows, factor: f32) {
        self.reshape(rows.width, rows.count);
        let stride = self.stride;
        transpose_rows(rows.of(data), rows, factor, self.as_mut_slice(), stride);
    }

    /// The matrix, to be read.
    pub fn view(&self) -> View<'_> {
        View { data: self.as_slice(), rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Writes the first `rows.count` rows to `rows` of `out`, or adds them.
    ///
    /// # Safety
    /// The rows must lie in the slice, and nobody else may touch them meanwhile.
    pub unsafe fn put(&self, out: SharedMut, rows: Rows, write: Write) {
        for (i, from) in (0..rows.count).zip(self.as_slice().chunks_exact(self.stride)) {
            // SAFETY: promised by the caller.
            let to =
                unsafe { std::slice::from_raw_parts_mut(out.at(rows.first + i * rows.stride), rows.width) };
            match write {
                Write::Overwrite => to.copy_from_slice(&from[..rows.width]),
                Write::Add => add_row(from, to),
            }
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, `stride` apart, with their padding.
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.rows * self.stride]
    }

    /// All rows, `stride` apart, with their padding.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.rows * self.stride]
    }
}

/// `to <- write(to, from)`, for as many elements as `to` has.
///
/// The vectors are as short as [`UNIT`], because rows are short: left to itself, the compiler takes such long
/// strides that most of a row falls to its loop for the rest.
#[inline(always)]
fn each(from: &[f32], to: &mut [f32], write: impl Fn(f32, f32) -> f32) {
    let (from_units, from_rest) = from[..to.len()].as_chunks::<UNIT>();
    let (to_units, to_rest) = to.as_chunks_mut::<UNIT>();
    for (to, from) in to_units.iter_mut().zip(from_units) {
        for l in 0..UNIT {
            to[l] = write(to[l], from[l]);
        }
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = write(*to, *from);
    }
}

multiversion! {
    /// Copies `rows`, of which the first begins at `from[0]`, to rows `stride` apart.
    fn copy_rows(from: &[f32], rows: Rows, to: &mut [f32], stride: usize) {
        for (i, to) in to.chunks_exact_mut(stride).enumerate() {
            each(&from[i * rows.stride..], &mut to[..rows.width], |_, x| x);
        }
    }

    /// `to += from`, for as many elements as `to` has.
    fn add_row(from: &[f32], to: &mut [f32]) {
        each(from, to, |sum, x| sum + x);
    }
}

/// Side of the blocks that [`transpose_rows`] turns.
const BLOCK: usize = 4;

/// Copies `rows`, of which the first begins at `from[0]`, to columns; `stride` leads to the next feature.
fn transpose_rows(from: &[f32], rows: Rows, factor: f32, to: &mut [f32], stride: usize) {
    for first in (0..rows.count.next_multiple_of(UNIT)).step_by(BLOCK) {
        let line = |i: usize| &from[(first + i).min(rows.count - 1) * rows.stride..][..rows.width];
        let lines = [line(0), line(1), line(2), line(3)];
        let whole = rows.width / BLOCK * BLOCK;
        for c in (0..whole).step_by(BLOCK) {
            let mut block = [[0.0; BLOCK]; BLOCK];
            for (block, line) in block.iter_mut().zip(lines) {
                block.copy_from_slice(&line[c..c + BLOCK]);
            }
            for (j, column) in transposed(block).iter().enumerate() {
                let to = &mut to[(c + j) * stride + first..][..BLOCK];
                for (to, x) in to.iter_mut().zip(column) {
                    *to = factor * x;
                }
            }
        }
        for c in whole..rows.width {
            for (to, line) in to[c * stride + first..].iter_mut().zip(lines) {
                *to = factor * line[c];
            }
        }
    }
}

/// The transpose of a block, by shuffles that every x86-64 has: the compiler would go element by element.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transposed(block: [[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    use std::arch::x86_64::{_mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};

    let [a, b, c, d] = bytemuck::cast(block);
    // SAFETY: these are instructions of SSE, which every x86-64 has.
    bytemuck::cast(unsafe {
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        [
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(ab_high, cd_high),
            _mm_movehl_ps(cd_high, ab_high),
        ]
    })
}

/// The transpose of a block.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transposed(block: [[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    [0, 1, 2, 3].map(|j| block.map(|row| row[j]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::random;

    #[test]
    fn columns_hold_what_rows_held_and_copies_of_the_last() {
        for (count, width) in [(1, 1), (3, 4), (4, 3), (8, 8), (17, 24), (31, 13)] {
            let (first, stride) = (5, width + 7);
            let data = random(first + count * stride, 1);
            let rows = Rows { first, stride, count, width, in_place: false };
            let at = |i: usize, c: usize| data[first + i.min(count - 1) * stride + c];
            let (mut copy, mut columns) = (Padded::default(), Padded::default());
            copy.pack(&data, rows);
            columns.pack_transposed(&data, rows, 0.5);
            for (i, c) in (0..count.next_multiple_of(UNIT)).flat_map(|i| (0..width).map(move |c| (i, c))) {
                assert_eq!(columns.as_slice()[c * columns.stride() + i], 0.5 * at(i, c));
                if i < count {
                    assert_eq!(copy.as_slice()[i * copy.stride() + c], at(i, c));
                }
            }
        }
    }
}
