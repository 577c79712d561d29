//! The frame of a fused operation: read inputs, compute, record one backward step.
//!
//! An input is copied out of its tensor once (dfdx offers no way to borrow it), and that copy is what the
//! backward step keeps. Gradients are moved out of dfdx's table while a kernel adds to them and moved back
//! afterwards, without copies. The gradient of an operation's output is dropped as soon as it has been used.

use dfdx::prelude::{HasShape, Merge, PutTape, ReshapeTo, Shape, SplitTape, Tape as _};

use super::Cpu;
use crate::{
    error::{OnDevice, TensorError},
    tape::{Grads, Tape},
    tensor::{Tensor, plain},
};

type DeviceError = dfdx::tensor::CpuError;
type Find = dyn for<'g> Fn(&'g mut Grads<Cpu>) -> Result<&'g mut Vec<f32>, DeviceError>;

/// An input on the host.
pub(super) struct Input {
    /// Its elements, row-major.
    pub(super) data: Vec<f32>,
    /// Where its gradient is collected; `None` for a constant.
    pub(super) slot: Option<Slot>,
    tape: Tape<Cpu>,
}

/// Where the gradient of one tensor is collected.
pub(super) struct Slot {
    find: Box<Find>,
    len: usize,
}

impl Slot {
    fn new<S: Shape>(tensor: &crate::tensor::Plain<S, Cpu>) -> Self {
        fn boxed<F>(find: F) -> Box<Find>
        where
            F: for<'g> Fn(&'g mut Grads<Cpu>) -> Result<&'g mut Vec<f32>, DeviceError> + 'static,
        {
            Box::new(find)
        }
        let (ghost, len) = (tensor.ghost(), tensor.shape().num_elements());
        let find = boxed(move |grads| grads.get_or_alloc_mut(&ghost).map(|gradient| &mut **gradient));
        Self { find, len }
    }

    /// Moves out what has been collected so far.
    fn take(&self, grads: &mut Grads<Cpu>) -> Result<Vec<f32>, DeviceError> {
        let mut gradient = std::mem::take((self.find)(grads)?);
        // Empty where it was moved out before: zeros again.
        gradient.resize(self.len, 0.0);
        Ok(gradient)
    }

    /// Moves back what [`Slot::take`] gave. The slot is empty, unless the same tensor was taken twice, as two
    /// inputs of one operation: then the parts are added.
    fn put(&self, grads: &mut Grads<Cpu>, gradient: Vec<f32>) -> Result<(), DeviceError> {
        let slot = (self.find)(grads)?;
        if slot.is_empty() {
            *slot = gradient;
        } else {
            slot.iter_mut().zip(gradient).for_each(|(sum, part)| *sum += part);
        }
        Ok(())
    }
}

/// Copies an input to the host, laid out row-major.
pub(super) fn read<S: Shape>(tensor: Tensor<S, Cpu>) -> Result<Input, TensorError> {
    let (tensor, tape) = tensor.try_contiguous().on_device()?.split_tape();
    let mut data = vec![0.0; tensor.shape().num_elements()];
    tensor.copy_into(&mut data);
    let slot = tape.is_on().then(|| Slot::new(&tensor));
    Ok(Input { data, slot, tape })
}

/// Lets `add` add to the gradients of `inputs`, `None` standing for a constant's.
pub(super) fn with_gradients<const N: usize>(
    grads: &mut Grads<Cpu>,
    inputs: [&Input; N],
    add: impl FnOnce([Option<&mut [f32]>; N]),
) -> Result<(), DeviceError> {
    let mut taken = [const { None }; N];
    for (taken, input) in taken.iter_mut().zip(inputs) {
        *taken = input.slot.as_ref().map(|slot| slot.take(grads)).transpose()?;
    }
    add(taken.each_mut().map(|gradient| gradient.as_deref_mut()));
    for (gradient, input) in taken.into_iter().zip(inputs) {
        if let (Some(gradient), Some(slot)) = (gradient, &input.slot) {
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
    backward: impl FnOnce(&mut Grads<Cpu>, &[f32], &[Input; N]) -> Result<(), DeviceError> + 'static,
) -> Result<Tensor<S, Cpu>, TensorError> {
    let out = plain(backend, out, shape)?;
    let mut tape = inputs.iter().fold(Tape::off(), |tape, input| tape.merge(input.tape.clone()));
    if tape.is_on() {
        let slot = Slot::new(&out);
        tape.add_backward_op(move |grads| {
            let gradient = slot.take(grads)?;
            backward(grads, &gradient, &inputs)
        });
    }
    Ok(out.put_tape(tape))
}
