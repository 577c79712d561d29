//! Where work is cut into tasks: at places that the shape fixes and the number of threads does not.
//!
//! Must not know: what a task computes.

use std::ops::Range;

use rayon::prelude::*;

/// Elements of one task of an element-wise loop: some microseconds of work, far more than a task costs.
pub const CHUNK: usize = 16 * 1024;

/// Whole rows of one task, at least one.
pub fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Columns of one task in [`add_column_sums`].
const COLUMNS: usize = 64;
/// Rows that are summed on their own before they join the total, which keeps the rounding error small.
const BLOCK: usize = 128;

/// `out[c] += sum over rows of term(row, c)`, parallel over columns, with one order of addition.
///
/// `add(rows, first_column, acc)` adds its terms of `rows` to `acc`, whose first element belongs to
/// `first_column`.
pub fn add_column_sums(out: &mut [f32], rows: usize, add: impl Fn(Range<usize>, usize, &mut [f32]) + Sync) {
    out.par_chunks_mut(COLUMNS).enumerate().for_each(|(block, out)| {
        let mut acc = [0.0; COLUMNS];
        let acc = &mut acc[..out.len()];
        for first in (0..rows).step_by(BLOCK) {
            acc.fill(0.0);
            add(first..rows.min(first + BLOCK), block * COLUMNS, acc);
            for (o, a) in out.iter_mut().zip(acc.iter()) {
                *o += a;
            }
        }
    });
}

/// A pointer that tasks share, each of which writes to elements of its own.
///
/// Attention's heads lie side by side in a row, so that no splitting of slices can hand them out.
#[derive(Clone, Copy)]
pub struct SharedMut(*mut f32);

// SAFETY: dereferencing is `unsafe` and asks for disjoint elements; the address itself may travel.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Shares `slice`, which must stay borrowed while any copy is in use.
    pub fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The address of element `offset`.
    ///
    /// # Safety
    /// `offset` must lie in the shared slice, or at its end.
    pub unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(offset) }
    }

    /// The same slice from element `offset` on.
    ///
    /// # Safety
    /// As for [`SharedMut::at`].
    pub unsafe fn shifted(self, offset: usize) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { self.at(offset) })
    }
}
