//! Device memory outside the reach of tapes, and the optimiser's arithmetic on it.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, DeviceSlice};
use dfdx::{
    prelude::{HasShape, ReshapeTo, Shape, Storage, ZerosTensor},
    tensor::Cuda as Device,
};

use super::{
    Cuda,
    address::{Output, place},
    array::{Array, Kind},
    driver::{self, Argument, Grid, address_of, address_of_mut},
};
use crate::{
    backend::AdamWStep,
    error::{OnDevice, TensorError, expect_size},
    tensor::{Flat, Plain},
};

/// Owned numbers in device memory: a gradient, a moment, an average. Clones share the memory until one is
/// changed.
#[derive(Clone)]
pub struct CudaBuffer {
    memory: Arc<CudaSlice<f32>>,
}

impl std::fmt::Debug for CudaBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl CudaBuffer {
    pub(super) fn new(memory: CudaSlice<f32>) -> Self {
        Self { memory: Arc::new(memory) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory, for writing: copied first if a clone shares it.
    fn unshare(&mut self) -> Result<&mut CudaSlice<f32>, TensorError> {
        if Arc::get_mut(&mut self.memory).is_none() {
            self.memory = Arc::new(self.memory.try_clone().on_device()?);
        }
        Ok(Arc::get_mut(&mut self.memory).expect("a fresh copy has one owner"))
    }
}

/// `struct Update` of `kernels/vector.cu`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Update {
    lr: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    bias1: f32,
    bias2: f32,
}

impl Argument for Update {}

/// See [`crate::Backend::adamw`].
pub(super) fn adamw(
    cuda: &Cuda,
    param: &mut Flat<Cuda>,
    grad: &CudaBuffer,
    [m, v]: [&mut CudaBuffer; 2],
    step: &AdamWStep,
) -> Result<(), TensorError> {
    let (&(len,), old) = (param.shape(), place(param)?);
    for (what, found) in [("gradient", grad.len()), ("first moment", m.len()), ("second moment", v.len())] {
        expect_size(&format!("elements of the {what}"), len, found)?;
    }
    let update = Update {
        lr: step.lr as f32,
        beta1: step.betas[0] as f32,
        beta2: step.betas[1] as f32,
        eps: step.eps as f32,
        weight_decay: step.weight_decay as f32,
        bias1: step.bias_corrections[0] as f32,
        bias2: step.bias_corrections[1] as f32,
    };
    // A new tensor, because a tape or a clone of the parameters may still hold the old one.
    let new = Output::new(cuda, (len,))?;
    let (first, second) = (address_of_mut(m.unshare()?), address_of_mut(v.unshare()?));
    let arguments: [&dyn Argument; 7] =
        [&old.address, &address_of(&grad.memory), &first, &second, &new.address, &update, &len];
    cuda.launch("adamw", Grid::flat(len), &arguments)?;
    cuda.copies().remove(old.id);
    *param = new.tensor;
    Ok(())
}

impl Cuda {
    /// A copy of a tensor.
    pub(super) fn buffer_of(&self, tensor: &Flat<Cuda>) -> Result<CudaBuffer, TensorError> {
        let &(len,) = tensor.shape();
        let mut memory = self.driver().allocate(len)?;
        self.driver().copy(place(tensor)?.address, address_of_mut(&mut memory), 4 * len)?;
        Ok(CudaBuffer::new(memory))
    }

    /// A tensor with the numbers of a buffer.
    pub(super) fn tensor_of(&self, buffer: &CudaBuffer) -> Result<Flat<Cuda>, TensorError> {
        let out = Output::new(self, (buffer.len(),))?;
        self.driver().copy(address_of(&buffer.memory), out.address, 4 * buffer.len())?;
        Ok(out.tensor)
    }

    /// The numbers of a buffer.
    pub(super) fn download(&self, buffer: &CudaBuffer) -> Result<Vec<f32>, TensorError> {
        let mut data = vec![0.0; buffer.len()];
        if !data.is_empty() {
            self.driver().device().dtoh_sync_copy_into(&*buffer.memory, &mut data).on_device()?;
        }
        Ok(data)
    }

    /// `y += a x`
    pub(super) fn add_scaled(&self, a: f64, x: &CudaBuffer, y: &mut CudaBuffer) -> Result<(), TensorError> {
        let len = x.len();
        expect_size("elements", y.len(), len)?;
        let to = address_of_mut(y.unshare()?);
        self.launch("axpy", Grid::flat(len), &[&(a as f32), &address_of(&x.memory), &to, &len])
    }

    /// `x *= a`
    pub(super) fn scale_buffer(&self, a: f64, x: &mut CudaBuffer) -> Result<(), TensorError> {
        let (len, at) = (x.len(), address_of_mut(x.unshare()?));
        self.launch("scale_all", Grid::flat(len), &[&(a as f32), &at, &len])
    }

    /// Sums of squares in double precision, with one wait for all of them.
    pub(super) fn squares(&self, buffers: &[&CudaBuffer]) -> Result<Vec<f64>, TensorError> {
        if buffers.is_empty() {
            return Ok(Vec::new());
        }
        // Room for doubles, as twice as many single-precision numbers.
        let partial = Array::new(self.driver(), Kind::F32, 2 * Grid::MOST_BLOCKS)?;
        let mut sums = self.driver().allocate::<f64>(buffers.len())?;
        let first = address_of_mut(&mut sums);
        for (index, buffer) in buffers.iter().enumerate() {
            let (grid, len) = (Grid::flat(buffer.len()), buffer.len());
            self.launch("square_partials", grid, &[&address_of(&buffer.memory), &len, &partial.address()])?;
            let sum = first.plus(size_of::<f64>() * index);
            self.launch("sum_doubles", Grid::one_block(256), &[&partial.address(), &grid.blocks[0], &sum])?;
        }
        self.driver().device().dtoh_sync_copy(&sums).on_device()
    }
}

/// See [`crate::Backend::fresh_copy`]. Needs nothing but dfdx's device, which every tensor carries.
pub(super) fn fresh_copy<S: Shape>(x: Plain<S, Cuda>) -> Result<Plain<S, Cuda>, TensorError> {
    let x = x.try_contiguous().on_device()?;
    let device: &Device = x.device();
    let copy: Plain<S, Cuda> = device.try_zeros_like(x.shape()).on_device()?;
    let (from, to) = (place(&x)?.address, place(&copy)?.address);
    let memory = Storage::<f32>::try_alloc_len(device, 1).on_device()?;
    driver::copy(&memory.device(), from, to, 4 * x.shape().num_elements())?;
    Ok(copy)
}
