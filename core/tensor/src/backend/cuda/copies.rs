//! 16-bit copies of weights, made once and kept while the weight is the same tensor.
//!
//! A tensor's identity is never used twice, so a copy cannot be taken for the wrong weight: a training step
//! replaces a parameter by a new tensor. What can happen is that the copy of a tensor that is gone stays
//! behind. The optimiser therefore drops copies of what it replaces; what other ways of replacing parameters
//! leave behind, a whole model that was dropped say, goes when other copies were asked for often enough.
//!
//! Must not know: what the weights are for.

use std::collections::HashMap;

/// A copy goes once this many requests have passed it by, when the next copy is made. A training step of the
/// largest models makes some 2,000.
const PATIENCE: u64 = 20_000;

/// Copies of type `T` by the identity of what they are copies of.
pub(super) struct Copies<T> {
    by_id: HashMap<u64, Kept<T>>,
    requests: u64,
}

struct Kept<T> {
    copy: T,
    last_request: u64,
}

impl<T> Default for Copies<T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), requests: 0 }
    }
}

impl<T: Clone> Copies<T> {
    /// The copy of a tensor, if there is one.
    pub(super) fn get(&mut self, id: u64) -> Option<T> {
        self.requests += 1;
        let kept = self.by_id.get_mut(&id)?;
        kept.last_request = self.requests;
        Some(kept.copy.clone())
    }

    /// Keeps a new copy, and drops those that nobody asks for any more.
    pub(super) fn insert(&mut self, id: u64, copy: T) {
        let now = self.requests;
        self.by_id.retain(|_, kept| now - kept.last_request <= PATIENCE);
        self.by_id.insert(id, Kept { copy, last_request: now });
    }

    /// Drops the copy of a tensor that is about to be replaced.
    pub(super) fn remove(&mut self, id: u64) {
        self.by_id.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_while_it_is_asked_for() {
        let mut copies = Copies::default();
        copies.insert(1, "one");
        copies.insert(2, "another");
        for _ in 0..=PATIENCE {
            assert_eq!(copies.get(1), Some("one"));
        }
        copies.insert(3, "a third");
        assert_eq!([1, 2, 3].map(|id| copies.get(id)), [Some("one"), None, Some("a third")]);
    }

    #[test]
    fn a_replaced_tensor_has_no_copy() {
        let mut copies = Copies::default();
        copies.insert(1, "one");
        copies.remove(1);
        assert_eq!(copies.get(1), None);
    }
}
