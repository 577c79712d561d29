//! Weights in single precision that do not change: a matrix that meets few rows at a time, as in a decoder's steps, is kept in the
//! fewest bytes that give it back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{by_weights::ByWeights, own_op::Input};
use crate::kernels::{compact::Compact, linear::Dims};

/// The most rows of a product in which reading weights counts.
const MOST_ROWS: usize = 256;
/// What all matrices may take together that are kept although nothing smaller than `f32` gives them back.
const MOST_SINGLE: usize = 256 << 20;

/// The kept matrices of one set of weights.
pub(super) struct CompactWeights {
    matrices: ByWeights<Option<Arc<Compact>>>,
    /// Bytes that are left for matrices in single precision.
    single: AtomicUsize,
}

impl Default for CompactWeights {
    fn default() -> Self {
        Self { matrices: ByWeights::default(), single: AtomicUsize::new(MOST_SINGLE) }
    }
}

impl CompactWeights {
    /// The kept form of a matrix `[N, K]`, for a product with few rows.
    pub(super) fn of(&self, w: &Input, dims: Dims) -> Option<Arc<Compact>> {
        let few = (1..=MOST_ROWS).contains(&dims.rows) && dims.inputs > 0 && dims.outputs > 0;
        few.then(|| self.matrices.get([w], || self.make(w.data(), dims.inputs)))?
    }

    fn make(&self, w: &[f32], inputs: usize) -> Option<Arc<Compact>> {
        let left = |bytes: usize| move |left: usize| left.checked_sub(bytes);
        let room =
            |bytes| self.single.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left(bytes)).is_ok();
        Compact::new(w, inputs, room).map(Arc::new)
    }
}

impl std::fmt::Debug for CompactWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactWeights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Cpu, own_op::read},
        *,
    };
    use crate::{
        DynModule as _, Parameters, Tokens, Value,
        backend::Backend as _,
        generate::{Decoding, NextToken as _},
        module::{Forward, Mode},
        modules::{Decoder, Llama},
        tensor::constant,
    };

    /// What only `f32` gives back is kept as long as there is room for it, and what is smaller always.
    #[test]
    fn room_for_single_precision_ends() {
        let dims = Dims { rows: 1, inputs: 64, outputs: 64 };
        let input = |of: fn(usize) -> f32| {
            let values: Vec<f32> = (0..64 * 64).map(of).collect();
            read(constant::<_, Cpu>(&Cpu::default(), values, (64, 64)).unwrap()).unwrap()
        };
        let single = [(); 3].map(|()| input(|i| (i as f32).sqrt()));
        let half = input(|i| (i % 200) as f32);
        let room = CompactWeights { single: AtomicUsize::new(2 * 4 * 64 * 64 + 100), ..Default::default() };
        let kept = single.each_ref().map(|w| room.of(w, dims).is_some());
        assert_eq!(kept, [true, true, false]);
        assert!(room.of(&single[0], dims).is_some() && room.of(&single[2], dims).is_none());
        assert_eq!(room.single.load(Ordering::Relaxed), 100);
        assert!(room.of(&half, dims).is_some());
        assert!(room.of(&half, Dims { rows: MOST_ROWS + 1, ..dims }).is_none());
    }

    /// Prompts and steps, whole passes and texts: every matrix once, whatever follows.
    #[test]
    fn passes_do_not_pile_up_weights() {
        for kv_heads in [None, Some(2)] {
            let sizes = Decoder {
                vocab: 20,
                width: 16,
                depth: 2,
                heads: 4,
                kv_heads,
                mlp_width: 24,
                ..Decoder::default()
            };
            let module = Llama { decoder: sizes, projection: Some(7), head: true, ..Llama::default() };
            let backend = Cpu::inference();
            let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
            let parameters = Parameters::init(specs, 0, &backend).unwrap();
            let text = || ("text".to_owned(), Value::Text(Tokens::new((1..7).collect(), 2, 3).unwrap()));
            let counts = [(); 2].map(|()| {
                let (port, value) = text();
                let mut cx = Forward::new(&backend, parameters.scope(""), Mode::Eval, 0)
                    .input(port, value)
                    .want("eos");
                backend.run(&module, &mut cx).unwrap();
                let (mut decoding, _) = Decoding::start(&module, &parameters, "", vec![text()]).unwrap();
                decoding.next(&[0, 1], &[3, 4]).unwrap();
                backend.compact.as_ref().unwrap().matrices.len()
            });
            // Four matrices of attention, three of the perceptron in each layer, and the head.
            assert_eq!(counts, [2 * 7 + 1; 2]);
        }
    }
}
