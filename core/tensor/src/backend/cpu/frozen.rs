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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DynModule as _, Parameters, Tokens, Value,
        backend::Backend as _,
        module::{Forward, Mode},
        modules::{Decoder, Llama},
    };

    /// Heads that share keys and values included: a second pass finds what the first has packed.
    #[test]
    fn passes_do_not_pile_up_weights() {
        for kv_heads in [None, Some(2)] {
            let decoder = Decoder {
                vocab: 20,
                width: 16,
                depth: 2,
                heads: 4,
                kv_heads,
                mlp_width: 24,
                ..Decoder::default()
            };
            let module = Llama { decoder, projection: Some(7), ..Llama::default() };
            let backend = Cpu::bf16_portable();
            let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
            let parameters = Parameters::init(specs, 0, &backend).unwrap();
            let counts = [0, 1].map(|_| {
                let text = Tokens::new((1..7).collect(), 2, 3).unwrap();
                let mut cx = Forward::new(&backend, parameters.scope(""), Mode::Eval, 0);
                cx = cx.input("text", Value::Text(text)).want("eos");
                backend.run(&module, &mut cx).unwrap();
                backend.frozen.as_ref().unwrap().layers.len()
            });
            assert!(counts[0] > 0 && counts[0] == counts[1], "{counts:?}");
        }
    }
}
