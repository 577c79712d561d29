//! The operations that decide speed, and the devices that run them.

pub mod compose;
mod contract;
mod cpu;
mod cpu_f64;
mod host;
pub mod weights;

pub use contract::{AdamWStep, Backend};
pub use cpu::Cpu;
pub use cpu_f64::CpuF64;
pub use weights::{LlamaAttention, LlamaMlp, QkNorm, RmsNorm, VitAttention, VitMlp, Weights};
