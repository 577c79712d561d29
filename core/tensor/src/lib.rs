//! InternVL's layers on dfdx tensors with run-time shapes.
//!
//! ```text
//! ParameterSpec ── init / load ──> Parameters ── scope ──┐
//!                                                        v
//! Value (image, tokens, ...) ───────────────> Forward { inputs, wants } ── Module::forward ──> outputs
//!                                                        │                                        │
//!                                                        └── Tape <── every operation    weighted_sum of losses
//!                                                              │                                  │
//!                                              backward(loss, params) <──────────────────────────┘
//!                                                              v
//!                                     ParamGrads ── clip ──> AdamW::step(params)
//! ```
//!
//! * [`backend`]: one trait with the operations that decide speed; composed defaults, fused overrides for
//!   the CPU and, with the feature `cuda`, for NVIDIA GPUs.
//! * [`checkpoint`](mod@checkpoint): a block that is run again instead of kept.
//! * [`tape`]: the shared list of backward operations that travels with tensors.
//! * [`tensor`], [`value`]: aliases with run-time shapes, and what travels on the edges of a model graph.
//! * [`parameter`]: named weights: specification, initialisation, storage, safetensors.
//! * [`module`], [`modules`]: how a node of a model graph is called, and the nodes themselves.
//! * [`generate`](mod@generate): greedy, sampled and beam-searched texts from a decoder and its cache.
//! * [`optim`]: gradients, clipping, AdamW, schedules, moving averages.
//!
//! Invariants: this crate knows nothing of files other than the safetensors format, of data sets, graphs or
//! caches. Randomness comes from explicit seeds. Outside `backend::cpu` and `backend::cpu_f64` nothing assumes
//! that a tensor lies in host memory.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed test is a panic"))]

pub mod backend;
pub mod checkpoint;
pub mod element;
pub mod error;
pub mod generate;
pub(crate) mod kernels;
pub mod mask;
pub mod module;
pub mod modules;
pub mod optim;
pub mod parameter;
pub mod precision;
pub mod tape;
pub mod tensor;
pub mod value;

#[cfg(feature = "cuda")]
pub use backend::Cuda;
pub use backend::{Backend, Cpu, CpuF64};
pub use element::Element;
pub use error::TensorError;
pub use mask::Mask;
pub use module::{DynModule, Forward, InputSize, Mode, Module, PerRecord, Resume};
pub use optim::{AdamW, Ema, ParamGrads, Schedule, backward, backward_with, weighted_sum};
pub use parameter::{Init, ParameterSpec, Parameters, Scope};
pub use precision::Precision;
pub use tape::Tape;
pub use tensor::{Image, Map, Matrix, Row, Scalar, Seq, Tensor, Vector};
pub use value::{HostTensor, Tokens, Value, ValueKind};
