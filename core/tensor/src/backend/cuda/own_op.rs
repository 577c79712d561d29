//! The frame of an operation: read inputs, launch kernels, record one backward step.
//!
//! An input stays where it is; the backward step keeps its tensor alive. Gradients lie in dfdx's table, and
//! kernels add to them in place. The gradient of an operation's output is moved out of the table when it is
//! due and freed after its last use, so that the gradients of activations do not pile up; what is left in its
//! slot is a gradient of another length, which stands for zeros.

use cudarc::driver::{CudaSlice, DeviceSlice};
use dfdx::prelude::{HasShape, Merge, PutTape, ReshapeTo, Shape, SplitTape};

use super::{
    Cuda,
    address::{Address, Output, Place, place},
    driver::{Driver, address_of, address_of_mut},
};
use crate::{
    error::{OnDevice, TensorError},
    tape::{Grads, Tape},
    tensor::{Flat, Plain, Tensor},
};

type DeviceError = dfdx::tensor::CudaError;
type Find = dyn for<'g> Fn(&'g mut Grads<Cuda>) -> Result<&'g mut CudaSlice<f32>, DeviceError>;

/// An input on the device.
pub(super) struct Input {
    tensor: Flat<Cuda>,
    tape: Tape<Cuda>,
    place: Place,
}

impl Input {
    /// Takes a tensor, laid out row-major.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn read<S: Shape>(tensor: Tensor<S, Cuda>) -> Result<Self, TensorError> {
        let (tensor, tape) = tensor.try_contiguous().on_device()?.split_tape();
        let len = tensor.shape().num_elements();
        // Free of cost: a contiguous tensor keeps its memory and its identity.
        let tensor: Flat<Cuda> = tensor.try_reshape_like(&(len,)).on_device()?;
        let place = place(&tensor)?;
        Ok(Self { tensor, tape, place })
    }

    /// Where its elements lie.
    pub(super) fn address(&self) -> Address {
        self.place.address
    }

    /// The tensor's identity.
    pub(super) fn id(&self) -> u64 {
        self.place.id
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.tensor.shape().0
    }

    /// Whether a gradient is wanted.
    pub(super) fn is_on(&self) -> bool {
        self.tape.is_on()
    }

    /// Where to add to its gradient; `None` for a constant.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn gradient(
        &self,
        cuda: &Cuda,
        grads: &mut Grads<Cuda>,
    ) -> Result<Option<Address>, TensorError> {
        if !self.is_on() {
            return Ok(None);
        }
        let slot = &mut **grads.get_or_alloc_mut(&self.tensor).on_device()?;
        if slot.len() != self.len() {
            *slot = cuda.driver().device().alloc_zeros(self.len()).on_device()?;
        }
        Ok(Some(address_of_mut(slot)))
    }
}

/// The tape that all inputs share.
pub(super) fn tape<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Tape<Cuda> {
    inputs.into_iter().fold(Tape::off(), |tape, input| tape.merge(input.tape.clone()))
}

/// Moves a gradient of `len` elements out of its slot; zeros where it was moved out before.
pub(super) fn take_slot(
    driver: &Driver,
    slot: &mut CudaSlice<f32>,
    len: usize,
) -> Result<CudaSlice<f32>, TensorError> {
    if slot.len() != len {
        return driver.device().alloc_zeros(len).on_device();
    }
    // What stays behind is never read; it only has to have another length.
    let rest = driver.allocate(if len == 1 { 2 } else { 1 })?;
    Ok(std::mem::replace(slot, rest))
}

/// Finds the gradient of `tensor` without keeping its memory alive.
fn finder<S: Shape>(tensor: &Plain<S, Cuda>) -> Box<Find> {
    fn boxed<F>(find: F) -> Box<Find>
    where
        F: for<'g> Fn(&'g mut Grads<Cuda>) -> Result<&'g mut CudaSlice<f32>, DeviceError> + 'static,
    {
        Box::new(find)
    }
    let ghost = tensor.ghost();
    boxed(move |grads| grads.get_or_alloc_mut(&ghost).map(|gradient| &mut **gradient))
}

/// Makes the output's tensor, and records `backward`, which gets the address of the output's gradient, if the
/// tape is on.
pub(super) fn finish<S: Shape>(
    cuda: &Cuda,
    out: Output<S>,
    mut tape: Tape<Cuda>,
    backward: impl FnOnce(&Cuda, &mut Grads<Cuda>, Address) -> Result<(), TensorError> + 'static,
) -> Tensor<S, Cuda> {
    if tape.is_on() {
        let (find, len, cuda) = (finder(&out.tensor), out.len(), cuda.clone());
        tape.push(move |grads| {
            let gradient = take_slot(cuda.driver(), find(grads).on_device()?, len)?;
            backward(&cuda, grads, address_of(&gradient))
        });
    }
    out.tensor.put_tape(tape)
}
