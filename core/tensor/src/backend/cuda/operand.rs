//! Operands of matrix products and of attention, in the precision that these run in.
//!
//! Weights are converted once ([`super::copies`]), activations each time. Gradients in half precision are
//! multiplied by a power of two that brings the largest of them into `[1, 2)`: gradients of deep networks lie
//! below half precision's smallest number otherwise (Micikevicius et al., 2018). A power of two costs no
//! digit, it is taken from the gradient itself, on the device, and whatever the product gives is multiplied
//! by its inverse.

use super::{
    Cuda,
    address::Address,
    array::{Array, Kind, View},
    driver::{Argument, Grid},
    own_op::Input,
    product::{Layout, Product},
    sources::Program,
};
use crate::error::TensorError;

/// Numbers ready to be multiplied, and what keeps them alive.
pub(super) struct Operand {
    view: View,
    memory: Option<Array>,
    unscale: Option<Array>,
}

impl Operand {
    /// Numbers that somebody else keeps alive and that need no conversion.
    pub(super) fn borrowed(view: View) -> Self {
        Self { view, memory: None, unscale: None }
    }

    /// Numbers of the right kind.
    pub(super) fn owned(array: Array) -> Self {
        Self { view: array.view(), memory: Some(array), unscale: None }
    }

    /// Where the numbers lie, and their kind.
    pub(super) fn view(&self) -> View {
        self.view
    }

    /// The factor that a product with these numbers has to be multiplied by; `None` for one.
    pub(super) fn unscale(&self) -> Option<Address> {
        // The second of scale and inverse.
        self.unscale.as_ref().map(|scales| scales.address().plus(size_of::<f32>()))
    }
}

impl Cuda {
    /// An activation: `len` numbers in single precision.
    ///
    /// # Errors
    /// [`TensorError::Device`], here and below.
    pub(super) fn operand(&self, from: Address, len: usize) -> Result<Operand, TensorError> {
        let kernel = match self.kind() {
            Kind::F32 => return Ok(Operand::borrowed(View::f32(from))),
            Kind::Bf16 => "to_bf16",
            Kind::F16 => "to_f16",
        };
        let array = self.array(self.kind(), len)?;
        self.launch(kernel, Grid::flat(len), &[&from, &array.address(), &len])?;
        Ok(Operand::owned(array))
    }

    /// A weight.
    pub(super) fn weight(&self, weight: &Input) -> Result<Operand, TensorError> {
        if self.kind() == Kind::F32 {
            return Ok(Operand::borrowed(View::f32(weight.address())));
        }
        if let Some(copy) = self.copies().get(weight.id()) {
            return Ok(Operand::owned(copy));
        }
        let operand = self.operand(weight.address(), weight.len())?;
        if let Some(array) = &operand.memory {
            self.copies().insert(weight.id(), array.clone());
        }
        Ok(operand)
    }

    /// A gradient: `len` numbers in single precision.
    pub(super) fn gradient_operand(&self, from: Address, len: usize) -> Result<Operand, TensorError> {
        if self.kind() != Kind::F16 {
            return self.operand(from, len);
        }
        let grid = Grid::flat(len);
        let partial = self.array(Kind::F32, grid.blocks[0])?;
        let scales = self.array(Kind::F32, 2)?;
        let array = self.array(Kind::F16, len)?;
        self.launch("largest_magnitudes", grid, &[&from, &len, &partial.address()])?;
        let arguments: [&dyn Argument; 3] = [&partial.address(), &grid.blocks[0], &scales.address()];
        self.launch("power_of_two_scale", Grid::one_block(256), &arguments)?;
        self.launch("to_f16_scaled", grid, &[&from, &scales.address(), &array.address(), &len])?;
        Ok(Operand { view: array.view(), memory: Some(array), unscale: Some(scales) })
    }

    /// Uninitialised memory for `len` numbers.
    pub(super) fn array(&self, kind: Kind, len: usize) -> Result<Array, TensorError> {
        Array::new(self.driver(), kind, len)
    }

    /// Starts a kernel that is not attention's.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<(), TensorError> {
        self.driver().launch(Program::Base, kernel, grid, arguments)
    }

    /// `out (+)= x w^T`: `[rows, inputs]` and `[outputs, inputs]`.
    pub(super) fn project(
        &self,
        x: &Operand,
        w: &Operand,
        [rows, inputs, outputs]: [usize; 3],
        out: View,
    ) -> Result<(), TensorError> {
        self.multiply(&Product {
            m: rows,
            n: outputs,
            k: inputs,
            a: (x.view(), Layout::Plain),
            b: (w.view(), Layout::Transposed),
            out,
            add: false,
            scale: None,
        })
    }

    /// The gradient of what [`Cuda::project`] took as `x`: `out (+)= dy w`.
    pub(super) fn project_back(
        &self,
        dy: &Operand,
        w: &Operand,
        [rows, inputs, outputs]: [usize; 3],
        out: Address,
        add: bool,
    ) -> Result<(), TensorError> {
        self.multiply(&Product {
            m: rows,
            n: inputs,
            k: outputs,
            a: (dy.view(), Layout::Plain),
            b: (w.view(), Layout::Plain),
            out: View::f32(out),
            add,
            scale: dy.unscale(),
        })
    }

    /// The gradient of its weight: `dw += dy^T x`.
    pub(super) fn project_weight(
        &self,
        dy: &Operand,
        x: &Operand,
        [rows, inputs, outputs]: [usize; 3],
        dw: Address,
    ) -> Result<(), TensorError> {
        self.multiply(&Product {
            m: outputs,
            n: inputs,
            k: rows,
            a: (dy.view(), Layout::Transposed),
            b: (x.view(), Layout::Plain),
            out: View::f32(dw),
            add: true,
            scale: dy.unscale(),
        })
    }
}
