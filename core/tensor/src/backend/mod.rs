//! The operations that decide speed, and the devices that run them.

pub mod compose;
mod contract;
mod cpu;
mod cpu_f64;
mod host;

pub use contract::{AdamWStep, Backend, GatedMlpWeights, MlpWeights, QkNorm};
pub use cpu::Cpu;
pub use cpu_f64::CpuF64;
