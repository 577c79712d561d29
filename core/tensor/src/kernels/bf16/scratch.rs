//! Buffers that a thread uses again.
//!
//! A sub-layer needs some hundred kilobytes between its products, for a millisecond. Fresh memory would cost a
//! page fault for every four of them. Each thread keeps what it gave back; a task takes buffers *out* of that
//! store, so that another task, which the same thread runs while the first one waits, has its own.
//!
//! Must not know: what is in the buffers.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::element::Line;

/// Buffers that one thread keeps at most.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `T`, aligned to cache lines; it goes back to its thread when dropped.
#[derive(Debug)]
pub struct Scratch<T: Pod> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    /// At least `len` elements of whatever was last written there.
    pub fn take(len: usize) -> Self {
        let needed = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut lines = FREE.with_borrow_mut(|free| {
            // The smallest that suffices, so that a small request does not grow into a large buffer.
            let fitting = (0..free.len()).filter(|i| free[*i].len() >= needed);
            fitting.min_by_key(|i| free[*i].len()).map(|i| free.swap_remove(i)).unwrap_or_default()
        });
        if lines.len() < needed {
            lines = vec![Line::ZERO; needed];
        }
        Self { lines, len, element: PhantomData }
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Pod> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is about to end has no store any more; the buffer is then freed here.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            free.push(lines);
            if free.len() > KEPT
                && let Some(smallest) = (0..free.len()).min_by_key(|i| free[*i].len())
            {
                free.swap_remove(smallest);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_two_are_never_the_same() {
        let mut first = Scratch::<f32>::take(1000);
        first.fill(1.0);
        let at = first.as_ptr();
        let mut second = Scratch::<f32>::take(1000);
        second.fill(2.0);
        assert!(first.iter().all(|v| *v == 1.0));
        drop(second);
        drop(first);
        let taken = [Scratch::<f32>::take(1000), Scratch::<f32>::take(1000)];
        assert!(taken.iter().any(|buffer| buffer.as_ptr() == at));
        assert!(taken.iter().all(|buffer| buffer.len() == 1000 && buffer.as_ptr().addr().is_multiple_of(64)));
    }
}
