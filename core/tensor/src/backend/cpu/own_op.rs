//! The frame of a fused operation: read inputs, compute, record one backward step.
//!
//! An input is read where it lies ([`Input::data`]); the tensor itself is what the backward step keeps. Gradients are
//! moved out of dfdx's table while a kernel adds to them and moved back afterwards, without copies. The gradient of an
//! operation's output is dropped as soon as it has been used.

use dfdx::prelude::{Cpu as Device, HasShape, Merge, PutTape, ReshapeTo, Shape, SplitTape, ZerosTensor};

use super::Cpu;
use crate::{
    error::{OnDevice, TensorError},
    tape::{Grads, Tape},
    tensor::{Flat, Tensor, plain},
};

/// An input, row-major.
pub(super) struct Input {
    tensor: Flat<Cpu>,
    /// Where its gradient is collected; `None` for a constant.
    slot: Option<Slot>,
    tape: Tape<Cpu>,
}

impl Input {
    /// The elements.
    pub(super) fn data(&self) -> &[f32] {
        elements(&self.tensor)
    }

    /// Where its gradient is collected, without the elements: all that some backward steps have to keep.
    pub(super) fn place(self) -> Self {
        let nothing = Device::default().zeros_like(&(1,));
        Self { tensor: nothing, ..self }
    }

    /// The tensor behind it.
    pub(super) fn tensor(&self) -> &Flat<Cpu> {
        &self.tensor
    }
}

/// The elements of a flat tensor.
///
/// dfdx lends single elements only. [`read`] makes its tensor contiguous and one-dimensional, so that all elements lie
/// behind the first one, in a vector that the tensor keeps alive and, being shared or borrowed, unchanged.
pub(super) fn elements(tensor: &Flat<Cpu>) -> &[f32] {
    let &(len,) = tensor.shape();
    if len == 0 {
        return &[];
    }
    let first: *const f32 = &tensor[[0]];
    // SAFETY: `len` elements follow `first` in one allocation, as said above. dfdx writes to a tensor's memory only
    // through `Arc::make_mut` on a tensor that it owns or borrows mutably, which this borrow rules out. `first` comes
    // from a reference to one element: rustc and LLVM, and the aliasing model Tree Borrows, let it reach the whole
    // allocation; the stricter Stacked Borrows would not. Rust has not settled on either.
    unsafe { std::slice::from_raw_parts(first, len) }
}

/// Where the gradient of one tensor is collected.
struct Slot {
    find: Box<Find>,
    len: usize,
}

type Find = dyn for<'g> Fn(&'g mut Grads<Cpu>) -> Result<&'g mut Vec<f32>, TensorError>;

impl Slot {
    fn new(tensor: &Flat<Cpu>) -> Self {
        fn boxed<F>(find: F) -> Box<Find>
        where
            F: for<'g> Fn(&'g mut Grads<Cpu>) -> Result<&'g mut Vec<f32>, TensorError> + 'static,
        {
            Box::new(find)
        }
        // A ghost has the tensor's identity without its memory; dfdx does not let its type be named.
        let (ghost, len) = (tensor.ghost(), tensor.shape().0);
        let find =
            boxed(move |grads| grads.get_or_alloc_mut(&ghost).on_device().map(|gradient| &mut **gradient));
        Self { find, len }
    }

    /// Moves out what has been collected so far.
    fn take(&self, grads: &mut Grads<Cpu>) -> Result<Vec<f32>, TensorError> {
        let mut gradient = std::mem::take((self.find)(grads)?);
        // Empty where it was moved out before: zeros again.
        gradient.resize(self.len, 0.0);
        Ok(gradient)
    }

    /// Moves back what [`Slot::take`] gave. The slot is empty, unless the same tensor was taken twice, as two
    /// inputs of one operation: then the parts are added.
    fn put(&self, grads: &mut Grads<Cpu>, gradient: Vec<f32>) -> Result<(), TensorError> {
        let slot = (self.find)(grads)?;
        if slot.is_empty() {
            *slot = gradient;
        } else {
            slot.iter_mut().zip(gradient).for_each(|(sum, part)| *sum += part);
        }
        Ok(())
    }
}

/// Takes an input, laid out row-major.
pub(super) fn read<S: Shape>(tensor: Tensor<S, Cpu>) -> Result<Input, TensorError> {
    let len = tensor.shape().num_elements();
    let (tensor, tape) = tensor.try_contiguous().on_device()?.split_tape();
    let tensor: Flat<Cpu> = tensor.try_reshape_like(&(len,)).on_device()?;
    let slot = tape.is_on().then(|| Slot::new(&tensor));
    Ok(Input { tensor, slot, tape })
}

/// Lets `add` add to the gradients of `inputs`, `None` standing for a constant's and for an input that is absent.
pub(super) fn with_gradients<'a, const N: usize>(
    grads: &mut Grads<Cpu>,
    inputs: [impl Into<Option<&'a Input>>; N],
    add: impl FnOnce([Option<&mut [f32]>; N]),
) -> Result<(), TensorError> {
    let slots = inputs.map(|input| input.into().and_then(|input| input.slot.as_ref()));
    let mut taken = [const { None }; N];
    for (taken, slot) in taken.iter_mut().zip(slots) {
        *taken = slot.map(|slot| slot.take(grads)).transpose()?;
    }
    add(taken.each_mut().map(|gradient| gradient.as_deref_mut()));
    for (gradient, slot) in taken.into_iter().zip(slots) {
        if let (Some(gradient), Some(slot)) = (gradient, slot) {
            slot.put(grads, gradient)?;
        }
    }
    Ok(())
}

/// Makes the output, and records `backward`, which gets the output's gradient, if any input is on a tape.
pub(super) fn finish<S: Shape, const N: usize>(
    backend: &Cpu,
    out: Vec<f32>,
    shape: S,
    inputs: [Input; N],
    backward: impl FnOnce(&mut Grads<Cpu>, &[f32], &[Input; N]) -> Result<(), TensorError> + 'static,
) -> Result<Tensor<S, Cpu>, TensorError> {
    let tape = merged(&inputs);
    finish_on(backend, out, shape, tape, move |grads, gradient| backward(grads, gradient, &inputs))
}

/// The tape of an operation on `inputs`.
pub(super) fn merged<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Tape<Cpu> {
    inputs.into_iter().fold(Tape::off(), |tape, input| tape.merge(input.tape.clone()))
}

/// As [`finish`], for a `backward` that holds its inputs itself.
pub(super) fn finish_on<S: Shape>(
    backend: &Cpu,
    out: Vec<f32>,
    shape: S,
    mut tape: Tape<Cpu>,
    backward: impl FnOnce(&mut Grads<Cpu>, &[f32]) -> Result<(), TensorError> + 'static,
) -> Result<Tensor<S, Cpu>, TensorError> {
    let len = out.len();
    let out: Flat<Cpu> = plain(backend, out, (len,))?;
    if tape.is_on() {
        let slot = Slot::new(&out);
        tape.push(move |grads| {
            let gradient = slot.take(grads)?;
            backward(grads, &gradient)
        });
    }
    Ok(out.try_reshape_like(&shape).on_device()?.put_tape(tape))
}
