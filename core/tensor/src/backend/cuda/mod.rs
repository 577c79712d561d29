//! NVIDIA GPUs, from compute capability 8.0 on: own kernels and cublasLt behind the [`Backend`](super::Backend)
//! operations.
//!
//! Tensors, parameters, gradients, moments and averages are in single precision. [`Precision`] is that of the
//! operands of matrix products and of attention inside the operations; sums of products, statistics, softmax,
//! losses and the residual stream stay in single precision. Between the kernels of a forward pass, activations
//! have the kind of the operands; gradients are rounded where they become operands.
//!
//! ```text
//! operations   the Backend's operations, by name
//! sub-layers   vit, llama: one step on the tape each
//! smaller      dense, norm, heads, sequence, loss, scalar, buffer
//! parts        attention, columns, operand (precision, kept 16-bit weights: copies), tables (masks, angles)
//! frame        own_op (inputs, gradients, tape), address (tensors <-> device addresses)
//! device       driver (memory, launches), product (cublasLt), sources and compile (kernels/*.cu, NVRTC)
//! ```
//!
//! None of dfdx's own kernels ever runs: dfdx allocates, copies and clears, and keeps the gradients' table. All
//! work is on one stream, so that nothing waits for the device but reading results. Sums run in fixed orders,
//! without atomics: equal calls give equal bits on one kind of device.
//!
//! Launches of one InternViT block without biases on queries, keys and values, forward: 7 kernels of our own,
//! 4 products and 2 memsets.

mod address;
mod array;
mod attention;
mod buffer;
mod columns;
mod compile;
mod copies;
mod dense;
mod driver;
mod heads;
mod llama;
mod loss;
mod norm;
mod operand;
mod operations;
mod own_op;
mod product;
mod scalar;
mod sequence;
mod sources;
mod tables;
mod vit;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dfdx::{prelude::Storage, tensor::Cuda as Device};

pub use self::buffer::CudaBuffer;
use self::{
    array::{Array, Kind},
    copies::Copies,
    driver::Driver,
    product::{Product, Products},
    tables::Tables,
};
use crate::{
    error::{OnDevice, TensorError},
    precision::Precision,
};

/// A GPU. Clones share the device, its compiled kernels and its copies of weights.
#[derive(Clone)]
pub struct Cuda {
    shared: Arc<Shared>,
}

struct Shared {
    precision: Precision,
    products: Products,
    copies: Mutex<Copies<Array>>,
    tables: Mutex<Tables>,
    driver: Driver,
    dfdx: Device,
}

// SAFETY: what keeps `Device` from being `Send` is dfdx's handle of a second stream, a raw pointer. It
// belongs to the device's context, not to a thread, the driver API may be called from any thread, and the
// handle is never written to. The context is made current before every call.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ordinal = self.driver().device().ordinal();
        f.debug_struct("Cuda").field("ordinal", &ordinal).field("precision", &self.precision()).finish()
    }
}

impl Cuda {
    /// Opens device `ordinal`.
    ///
    /// # Errors
    /// [`TensorError::Device`] without a driver, without that device, for a device below compute capability
    /// 8.0, and when memory runs out.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self, TensorError> {
        Driver::probe(ordinal)?;
        let dfdx = Device::try_build(ordinal, 0).on_device()?;
        // dfdx lends its handle of the device through memory only.
        let memory = Storage::<f32>::try_alloc_len(&dfdx, 1).on_device()?;
        let driver = Driver::new(memory.device())?;
        let products = Products::new(&driver, precision == Precision::Tf32)?;
        let (copies, tables) = Default::default();
        Ok(Self { shared: Arc::new(Shared { precision, products, copies, tables, driver, dfdx }) })
    }

    /// The precision of operands.
    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// Waits until all work is done; only measurements need it.
    ///
    /// # Errors
    /// [`TensorError::Device`], also for an error of a kernel that ran before.
    pub fn synchronize(&self) -> Result<(), TensorError> {
        self.driver().device().synchronize().on_device()
    }

    fn dfdx(&self) -> &Device {
        &self.shared.dfdx
    }

    fn driver(&self) -> &Driver {
        &self.shared.driver
    }

    /// How operands are stored.
    fn kind(&self) -> Kind {
        match self.precision() {
            Precision::F32 | Precision::Tf32 => Kind::F32,
            Precision::Bf16 => Kind::Bf16,
            Precision::F16 => Kind::F16,
        }
    }

    fn copies(&self) -> MutexGuard<'_, Copies<Array>> {
        self.shared.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn multiply(&self, product: &Product) -> Result<(), TensorError> {
        self.shared.products.run(self.driver(), product)
    }
}
