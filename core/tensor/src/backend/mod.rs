//! The operations that decide speed, and the devices that run them.

pub mod compose;
mod contract;
mod cpu;
mod cpu_f64;
#[cfg(feature = "cuda")]
mod cuda;
mod host;
pub mod weights;

pub use contract::{AdamWStep, Backend};
pub use cpu::Cpu;
pub use cpu_f64::CpuF64;
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, CudaBuffer};
pub use weights::{CrossAttention, LlamaAttention, LlamaMlp, QkNorm, RmsNorm, VitAttention, VitMlp, Weights};
