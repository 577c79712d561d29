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

/// A task for every `width` columns of `out: [R, columns]`, so that all threads have some of them even for one row. `work` gets
/// its scratch, the number of the task and what is in these columns, `[R, at most width]`, and changes that.
pub fn for_each_panel<S>(
    out: &mut [f32],
    [columns, width]: [usize; 2],
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) {
    let (rows, target) = (out.len() / columns.max(1), SharedMut::new(out));
    let begin = || (Vec::new(), scratch());
    (0..columns.div_ceil(width)).into_par_iter().for_each_init(begin, |(part, scratch), task| {
        let first = task * width;
        let count = width.min(columns - first);
        // SAFETY: row and columns lie in `out`, which is borrowed until all tasks are done, and these columns belong to one.
        let row = |r: usize| unsafe {
            assert!(r < rows, "rows lie in the matrix");
            std::slice::from_raw_parts_mut(target.at(r * columns + first), count)
        };
        part.resize(rows * count, 0.0);
        part.chunks_exact_mut(count).enumerate().for_each(|(r, part)| part.copy_from_slice(row(r)));
        work(scratch, task, part);
        part.chunks_exact(count).enumerate().for_each(|(r, part)| row(r).copy_from_slice(part));
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
