//! What is made of weights once and found again by where they lie.
//!
//! A parameter that changes is another tensor. So what was made of weights is found by the addresses of all tensors that it
//! came from, and holds on to these tensors, which keeps the addresses from being used again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Cpu,
    own_op::{Input, elements},
};
use crate::tensor::Flat;

/// By weights, what was made of them.
pub(super) struct ByWeights<T> {
    known: Mutex<HashMap<Vec<usize>, Kept<T>>>,
}

struct Kept<T> {
    _tensors: Vec<Flat<Cpu>>,
    made: T,
}

impl<T> Default for ByWeights<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T: Clone> ByWeights<T> {
    /// What `make` makes of `weights` the first time.
    pub(super) fn get<'a>(
        &self,
        weights: impl IntoIterator<Item = &'a Input>,
        make: impl FnOnce() -> T,
    ) -> T {
        let tensors: Vec<Flat<Cpu>> = weights.into_iter().map(|input| input.tensor().clone()).collect();
        let address: Vec<usize> = tensors.iter().map(|tensor| elements(tensor).as_ptr().addr()).collect();
        if let Some(kept) = self.known().get(&address) {
            return kept.made.clone();
        }
        // Not under the lock: `make` runs on the pool, whose threads may meanwhile turn to work that asks here.
        let made = make();
        self.known().entry(address).or_insert(Kept { _tensors: tensors, made }).made.clone()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known().len()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Vec<usize>, Kept<T>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
