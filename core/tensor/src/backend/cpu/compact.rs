//! Weights in single precision that do not change: a matrix that meets few rows at a time, as in a decoder's steps, is kept in the
//! fewest bytes that give it back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{by_weights::ByWeights, own_op::Input};
use crate::kernels::compact::Compact;

/// Rows of a product from which on reading weights no longer counts.
const MOST_ROWS: usize = 256;
/// What all matrices may take together that are kept although nothing smaller than `f32` gives them back.
const MOST_SINGLE: usize = 256 << 20;

/// The kept matrices of one set of weights.
#[derive(Default)]
pub(super) struct CompactWeights {
    matrices: ByWeights<Option<Arc<Compact>>>,
    single: AtomicUsize,
}

impl CompactWeights {
    /// The kept form of a matrix `[N, K]`, for a product with so many rows.
    pub(super) fn of(&self, w: &Input, inputs: usize, rows: usize) -> Option<Arc<Compact>> {
        let few = (1..=MOST_ROWS).contains(&rows) && inputs > 0;
        few.then(|| self.matrices.get([w], || self.make(w.data(), inputs)))?
    }

    fn make(&self, w: &[f32], inputs: usize) -> Option<Arc<Compact>> {
        let compact = Compact::new(w, inputs);
        let smaller = compact.bytes() < size_of_val(w);
        let before = if smaller { 0 } else { self.single.fetch_add(compact.bytes(), Ordering::Relaxed) };
        (smaller || before + compact.bytes() <= MOST_SINGLE).then(|| Arc::new(compact))
    }
}

impl std::fmt::Debug for CompactWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactWeights").finish_non_exhaustive()
    }
}
