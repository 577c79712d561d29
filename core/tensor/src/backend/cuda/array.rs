//! Device memory of a kind known at run time: what lies between the kernels of an operation.
//!
//! Must not know: tensors, tapes.

use std::sync::Arc;

use cudarc::driver::CudaSlice;

use super::{
    address::Address,
    driver::{Driver, address_of},
};
use crate::error::TensorError;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Single precision.
    F32,
    /// The upper half of single precision: 8 bits of exponent, 7 of fraction.
    Bf16,
    /// IEEE 754 half precision: 5 bits of exponent, 10 of fraction.
    F16,
}

impl Kind {
    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The one of three kernels' names that works on this kind.
    pub(super) fn pick(self, [f32, bf16, f16]: [&'static str; 3]) -> &'static str {
        match self {
            Self::F32 => f32,
            Self::Bf16 => bf16,
            Self::F16 => f16,
        }
    }
}

/// The names of a kernel that exists for every kind.
macro_rules! for_kind {
    ($kind:expr, $name:literal) => {
        $kind.pick([concat!($name, "_f32"), concat!($name, "_bf16"), concat!($name, "_f16")])
    };
}
pub(super) use for_kind;

/// Numbers in device memory that somebody else keeps alive.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Where they start.
    pub(super) address: Address,
    /// How they are stored.
    pub(super) kind: Kind,
}

impl View {
    /// Single-precision numbers at an address.
    pub(super) fn f32(address: Address) -> Self {
        Self { address, kind: Kind::F32 }
    }

    /// From the element so many further on.
    pub(super) fn from(self, elements: usize) -> Self {
        Self { address: self.address.plus(elements * self.kind.bytes()), kind: self.kind }
    }
}

/// Numbers in device memory, owned; clones share them.
#[derive(Clone)]
pub(super) struct Array {
    memory: Arc<CudaSlice<u8>>,
    kind: Kind,
}

impl Array {
    /// Uninitialised numbers.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn new(driver: &Driver, kind: Kind, len: usize) -> Result<Self, TensorError> {
        Ok(Self { memory: Arc::new(driver.allocate(len * kind.bytes())?), kind })
    }

    /// Numbers from the host.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn upload<T: bytemuck::NoUninit>(driver: &Driver, data: &[T]) -> Result<Self, TensorError> {
        Ok(Self { memory: Arc::new(driver.upload(bytemuck::cast_slice::<T, u8>(data))?), kind: Kind::F32 })
    }

    /// Where they start.
    pub(super) fn address(&self) -> Address {
        address_of(&self.memory)
    }

    /// Address and kind.
    pub(super) fn view(&self) -> View {
        View { address: self.address(), kind: self.kind }
    }
}
