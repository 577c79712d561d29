//! The CPU in double precision: composed operations only.
//!
//! It is the reference: gradient checks by finite differences need its digits, and the `f32` kernels are
//! held against it. No experiment runs on it.

use dfdx::prelude::{Cpu as Device, HasShape};

use super::{AdamWStep, Backend, host};
use crate::{
    error::{OnDevice, TensorError, expect_size},
    module::{DynModule, Forward},
    tape::Grads,
    tensor::{Flat, plain, plain_to_vec},
};

/// Double precision on the CPU.
#[derive(Debug, Clone, Default)]
pub struct CpuF64 {
    device: Device,
}

impl Backend for CpuF64 {
    type Elem = f64;
    type Device = Device;
    type Buffer = Vec<f64>;

    fn device(&self) -> &Device {
        &self.device
    }

    fn run(&self, module: &dyn DynModule, cx: &mut Forward<'_, Self>) -> Result<(), TensorError> {
        module.forward_cpu_f64(cx)
    }

    fn buffer(&self, data: Vec<f64>) -> Result<Vec<f64>, TensorError> {
        Ok(data)
    }

    fn buffer_to_vec(&self, buffer: &Vec<f64>) -> Result<Vec<f64>, TensorError> {
        Ok(buffer.clone())
    }

    fn read(&self, tensor: &Flat<Self>) -> Result<Vec<f64>, TensorError> {
        plain_to_vec::<_, Self>(tensor)
    }

    fn tensor(&self, buffer: Vec<f64>) -> Result<Flat<Self>, TensorError> {
        let len = buffer.len();
        plain(self, buffer, (len,))
    }

    fn take_gradient(&self, grads: &mut Grads<Self>, of: &Flat<Self>) -> Result<Vec<f64>, TensorError> {
        let slot = grads.get_or_alloc_mut(of).on_device()?;
        Ok(host::take_slot(slot, of.shape().0))
    }

    fn sum_of_squares(&self, x: &Vec<f64>) -> Result<f64, TensorError> {
        Ok(x.iter().map(|x| x * x).sum())
    }

    fn axpy(&self, a: f64, x: &Vec<f64>, y: &mut Vec<f64>) -> Result<(), TensorError> {
        expect_size("elements", y.len(), x.len())?;
        y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
        Ok(())
    }

    fn scale(&self, a: f64, x: &mut Vec<f64>) -> Result<(), TensorError> {
        x.iter_mut().for_each(|x| *x *= a);
        Ok(())
    }

    fn adamw(
        &self,
        param: &mut Flat<Self>,
        grad: &Vec<f64>,
        moments: [&mut Vec<f64>; 2],
        step: &AdamWStep,
    ) -> Result<(), TensorError> {
        host::adamw(self, param, grad, moments, step)
    }
}
