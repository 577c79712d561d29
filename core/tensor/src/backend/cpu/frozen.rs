//! Frozen weights in bf16: packed when a sub-layer is first run, kept for the next batch.

use std::sync::Arc;

use super::{Cpu, by_weights::ByWeights, own_op::Input};
use crate::{
    error::TensorError,
    kernels::bf16::{Engine, LlamaAttention, LlamaMlp, PackedWeights, VitAttention, VitMlp},
    tape::Tape,
};

/// The packed weights of one sub-layer or linear layer.
pub(super) enum Layer {
    VitAttention(VitAttention),
    VitMlp(VitMlp),
    LlamaAttention(LlamaAttention),
    LlamaMlp(LlamaMlp),
    Linear(PackedWeights),
}

/// The packed weights of a processor in bf16.
pub(super) struct Frozen {
    pub(super) engine: Engine,
    layers: ByWeights<Arc<Layer>>,
}

impl Frozen {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, layers: ByWeights::default() }
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
        Ok(self.layers.get(weights, || Arc::new(pack())))
    }
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frozen").field("engine", &self.engine).finish_non_exhaustive()
    }
}
