//! Activation checkpointing (Chen et al., 2016): keep a block's input, run the block again when its gradient is due.
//!
//! The second run repeats the first one's arithmetic on the same numbers, and its backward steps run where the
//! block's own would have, so gradients have the same bits as without.

use dfdx::prelude::{Merge, PutTape, SplitTape};

use crate::{
    backend::{Backend, Weights},
    error::{OnDevice, TensorError},
    tape::{Grads, Tape},
    tensor::Seq,
};

/// `block(backend, x, weights)`, of which only `x` stays in memory for the backward pass. Where neither `x` nor a
/// weight is on a tape, nothing is recorded.
///
/// # Errors
/// What `block` returns, now or in the backward pass.
pub fn checkpoint<B: Backend, W: Weights<B> + 'static>(
    backend: &B,
    x: Seq<B>,
    weights: W,
    block: impl Fn(&B, Seq<B>, W) -> Result<Seq<B>, TensorError> + 'static,
) -> Result<Seq<B>, TensorError> {
    let off = Tape::off();
    let (out, _) = block(backend, x.with_tape(&off), weights.with_tape(&off))?.split_tape();
    let mut tape = x.tape().merge(weights.tape());
    if tape.is_on() {
        let (backend, of_out) = (backend.clone(), out.clone());
        tape.push(move |grads| {
            let tape = Tape::new();
            let (again, _) = block(&backend, x.with_tape(&tape), weights.with_tape(&tape))?.split_tape();
            move_gradient::<B>(grads, &of_out, &again)?;
            tape.take().map_or(Ok(()), |record| record.run_backward(grads))
        });
    }
    Ok(out.put_tape(tape))
}

/// Moves the gradient of one tensor to another of the same shape.
fn move_gradient<B: Backend>(
    grads: &mut Grads<B>,
    from: &crate::tensor::Plain<(usize, usize, usize), B>,
    to: &crate::tensor::Plain<(usize, usize, usize), B>,
) -> Result<(), TensorError> {
    use dfdx::tensor::Storage;
    // One element, because an empty allocation fails on some GPUs.
    let device: &B::Device = from.device();
    let mut moved = Storage::<B::Elem>::try_alloc_len(device, 1).on_device()?;
    std::mem::swap(grads.get_or_alloc_mut(from).on_device()?, &mut moved);
    std::mem::swap(grads.get_or_alloc_mut(to).on_device()?, &mut moved);
    Ok(())
}
