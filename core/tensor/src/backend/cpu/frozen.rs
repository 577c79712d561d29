//! Frozen weights in bf16: packed when a sub-layer is first run, kept for the next batch.
//!
//! A parameter that changes is another tensor. So packed weights are found by the addresses of all tensors that they
//! came from, and hold on to these tensors, which keeps the addresses from being used again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Cpu,
    own_op::{Input, elements},
};
use crate::{
    error::TensorError,
    kernels::bf16::{Engine, LlamaAttention, LlamaMlp, PackedWeights, VitAttention, VitMlp},
    tape::Tape,
    tensor::Flat,
};

/// The packed weights of one sub-layer or linear layer.
pub(super) enum Layer {
    VitAttention(VitAttention),
    VitMlp(VitMlp),
    LlamaAttention(LlamaAttention),
    LlamaMlp(LlamaMlp),
    Linear(PackedWeights),
}

/// A sub-layer's weights before and after packing.
struct Kept {
    _tensors: Vec<Flat<Cpu>>,
    layer: Arc<Layer>,
}

/// The packed weights of a processor in bf16.
pub(super) struct Frozen {
    pub(super) engine: Engine,
    layers: Mutex<HashMap<Vec<usize>, Kept>>,
}

impl Frozen {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, layers: Mutex::default() }
    }

    /// The packed form of `weights`, made by `pack` the first time.
    ///
    /// # Errors
    /// [`TensorError::Config`] for an operation on a tape.
    pub(super) fn layer<'a>(
        &self,
        weights: impl IntoIterator<Item = &'a Input>,
        tape: &Tape<Cpu>,
        pack: impl FnOnce() -> Layer,
    ) -> Result<Arc<Layer>, TensorError> {
        if tape.is_on() {
            let reason = "on the processor, bf16 is for frozen towers: it has no gradients";
            return Err(TensorError::Config(reason.to_owned()));
        }
        let tensors: Vec<Flat<Cpu>> = weights.into_iter().map(|input| input.tensor().clone()).collect();
        let address = tensors.iter().map(|tensor| elements(tensor).as_ptr().addr()).collect();
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept =
            layers.entry(address).or_insert_with(|| Kept { _tensors: tensors, layer: Arc::new(pack()) });
        Ok(kept.layer.clone())
    }
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frozen").field("engine", &self.engine).finish_non_exhaustive()
    }
}
