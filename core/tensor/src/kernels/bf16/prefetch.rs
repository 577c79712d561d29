//! Asking for memory before it is needed.
//!
//! A tile of sums leaves to a dozen rows that lie kilobytes apart, which no processor foresees. Asked for while the
//! tile is being multiplied, they are there when it is stored.
//!
//! Must not know: what the rows hold.

/// Numbers of bytes that arrive together.
const LINE_BYTES: usize = 64;

/// Asks for the first `columns` elements of `rows` rows that start every `stride`. Changes nothing but time.
#[inline]
pub fn rows<T>(data: &[T], stride: usize, rows: usize, columns: usize) {
    for row in data.chunks(stride).take(rows) {
        let row = &row[..columns];
        row.iter().step_by(LINE_BYTES / size_of::<T>()).for_each(line);
        // Where rows do not start with a line, they end in one more.
        row.last().into_iter().for_each(line);
    }
}

#[inline(always)]
fn line<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, allowed for any address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
