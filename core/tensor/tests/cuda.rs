//! The CUDA backend against the CPU's: on a GPU, or on a stand-in for the driver that runs the kernels on the
//! host.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed test is a panic"))]

/// Where does the device fail, and how does it say so?
#[path = "cuda/device.rs"]
mod device;
/// Are operations the same as on the CPU, in every precision?
#[path = "cuda/operations.rs"]
mod operations;
/// How fast is it? Measurements, ignored unless asked for.
#[path = "cuda/speed.rs"]
mod speed;
/// What the tests share with those of the CPU.
#[allow(dead_code, reason = "the CPU's tests use the rest")]
mod support;
/// Do modules and training steps give what they give on the CPU, and the same bits each time?
#[path = "cuda/training.rs"]
mod training;

use heddle_tensor::{Cuda, Precision};

fn cuda(precision: Precision) -> Cuda {
    Cuda::new(0, precision).unwrap()
}
