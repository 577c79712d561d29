//! Where tensors lie in device memory, and tensors made of memory that kernels write.
//!
//! dfdx 0.13 lends a tensor's storage to nobody outside: the field is private, and so is the trait that
//! borrows it. What it does print is the storage's `Debug` form, which starts with the tensor's identity and
//! the device address. A writer that refuses everything after those digits reads both in under a microsecond,
//! without touching the device. The form is derived, so it can only change with the versions of dfdx and
//! cudarc, which are pinned; a tensor whose form does not fit is an error, and the tests would show it at
//! once.
//!
//! dfdx also makes no tensor of foreign memory. The cheapest sound way to one is `zeros_like`: an allocation
//! and a memset, and nobody else can hold the new tensor's storage while a kernel writes to its address.
//!
//! Must not know: what the numbers mean.

use std::fmt::{Debug, Write};

use dfdx::prelude::{HasShape, Shape, ZerosTensor};

use super::Cuda;
use crate::{
    error::{OnDevice, TensorError},
    tensor::Plain,
};

/// An address in device memory, 0 for none. As an argument of a kernel it is a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Address(pub(super) u64);

impl Address {
    /// A null pointer, for a parameter that is absent.
    pub(super) const NONE: Self = Self(0);

    /// The address so many bytes further on.
    pub(super) fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }

    /// The largest power of two up to 256 that divides the address.
    pub(super) fn alignment(self) -> u32 {
        1 << self.0.trailing_zeros().min(8)
    }
}

impl From<Option<Self>> for Address {
    fn from(address: Option<Self>) -> Self {
        address.unwrap_or(Self::NONE)
    }
}

/// What a tensor's storage is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// dfdx's number of the tensor: the same for clones and reshaped views, never used twice.
    pub(super) id: u64,
    /// Where its first element lies.
    pub(super) address: Address,
}

/// The place of a contiguous tensor.
///
/// # Errors
/// [`TensorError::Device`] if the tensor prints itself in an unknown way.
pub(super) fn place<S: Shape>(tensor: &Plain<S, Cuda>) -> Result<Place, TensorError> {
    read(tensor).ok_or_else(|| TensorError::Device("a tensor's address cannot be read".to_owned()))
}

fn read(tensor: &impl Debug) -> Option<Place> {
    let mut digits = Digits::default();
    // The writer stops with an error as soon as it has both numbers.
    let _stopped = write!(digits, "{tensor:?}");
    match (digits.number_after(ID), digits.number_after(ADDRESS)) {
        (Some(id), Some(address)) => Some(Place { id, address: Address(address) }),
        _ => None,
    }
}

const ID: &str = "id: UniqueId(";
const ADDRESS: &str = "cu_device_ptr: ";

/// Keeps the start of what is written: up to the first character after the address.
#[derive(Default)]
struct Digits {
    text: String,
}

impl Digits {
    /// More than the form has before the address.
    const LONGEST: usize = 256;

    fn number_after(&self, label: &str) -> Option<u64> {
        let digits = self.text.split_once(label)?.1;
        let end = digits.find(|c: char| !c.is_ascii_digit())?;
        digits[..end].parse().ok()
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.text.push_str(text);
        if self.number_after(ADDRESS).is_some() || self.text.len() > Self::LONGEST {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// A new tensor that a kernel is about to fill.
pub(super) struct Output<S: Shape> {
    /// The tensor, all zeros so far.
    pub(super) tensor: Plain<S, Cuda>,
    /// Where to write.
    pub(super) address: Address,
}

impl<S: Shape> Output<S> {
    /// Allocates a tensor.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn new(cuda: &Cuda, shape: S) -> Result<Self, TensorError> {
        let tensor: Plain<S, Cuda> = cuda.dfdx().try_zeros_like(&shape).on_device()?;
        let address = place(&tensor)?.address;
        Ok(Self { tensor, address })
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.tensor.shape().num_elements()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in with the same derived form; the address of a real tensor is tested on a device.
    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Tensor {
        id: UniqueId,
        data: Slice,
        rest: Panics,
    }
    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct UniqueId(usize);
    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Slice {
        cu_device_ptr: u64,
        len: usize,
    }
    struct Panics;
    impl Debug for Panics {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("printing went on after the address")
        }
    }

    #[test]
    fn identity_and_address_are_read_and_no_more() {
        let tensor = Tensor {
            id: UniqueId(17),
            data: Slice { cu_device_ptr: 139_637_976_727_552, len: 3 },
            rest: Panics,
        };
        let place = read(&tensor).expect("both numbers are there");
        assert_eq!(place, Place { id: 17, address: Address(139_637_976_727_552) });
        assert_eq!(read(&"another form"), None);
    }

    #[test]
    fn alignment_is_a_power_of_two() {
        assert_eq!([0x1000, 0x1010, 0x1006, 0x1001].map(|at| Address(at).alignment()), [256, 16, 2, 1]);
    }
}
