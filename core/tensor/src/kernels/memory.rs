//! Large scratch buffers that are used again.
//!
//! A training step asks for the same sizes over and over. Fresh memory would be mapped, zeroed and unmapped each
//! time, which costs more than some of the arithmetic; a [`Lease`] comes from a shelf and goes back to it.
//!
//! Must not know: what the buffers hold.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// A buffer with **arbitrary numbers** in it, returned to the shelf when dropped.
#[derive(Debug)]
pub struct Lease {
    data: Vec<f32>,
    len: usize,
}

/// Idle buffers, and how many elements are lent now and were lent at most.
struct Shelf {
    idle: Vec<Vec<f32>>,
    idle_elements: usize,
    lent: usize,
    most_lent: usize,
}

impl Shelf {
    /// Frees what has lain idle longest until idle and lent together are no more than was lent at most.
    fn trim(&mut self) {
        while self.idle_elements + self.lent > self.most_lent && !self.idle.is_empty() {
            self.idle_elements -= self.idle.remove(0).len();
        }
    }
}

static SHELF: Mutex<Shelf> = Mutex::new(Shelf { idle: Vec::new(), idle_elements: 0, lent: 0, most_lent: 0 });

/// A buffer of `len` arbitrary numbers.
pub fn lease(len: usize) -> Lease {
    let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
    // The tightest fit, if it wastes no more than half of itself.
    let fits = |data: &Vec<f32>| data.len() >= len && data.len() / 2 <= len;
    let best = (0..shelf.idle.len()).filter(|&i| fits(&shelf.idle[i])).min_by_key(|&i| shelf.idle[i].len());
    let found = best.map(|i| shelf.idle.remove(i));
    shelf.idle_elements -= found.as_ref().map_or(0, Vec::len);
    shelf.lent += found.as_ref().map_or(len, Vec::len);
    shelf.most_lent = shelf.most_lent.max(shelf.lent);
    shelf.trim();
    drop(shelf);
    Lease { data: found.unwrap_or_else(|| vec![0.0; len]), len }
}

/// A buffer of `len` zeros.
pub fn zeros(len: usize) -> Lease {
    let mut lease = lease(len);
    lease.fill(0.0);
    lease
}

impl Drop for Lease {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.lent -= data.len();
        shelf.idle_elements += data.len();
        shelf.idle.push(data);
        shelf.trim();
    }
}

impl Deref for Lease {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_the_length_asked_for_and_zeros_are_zero() {
        for len in [0, 1, 100, 70, 100_000, 99_000] {
            let mut buffer = lease(len);
            assert_eq!(buffer.len(), len);
            buffer.fill(f32::NAN);
            drop(buffer);
            assert!(zeros(len).iter().all(|&x| x == 0.0));
        }
    }
}
