//! GGUF files, as llama.cpp writes them: fields, the table of tensors, and tensors as `f32`.
//!
//! ```text
//! bytes ──Gguf::parse──> fields: name -> Value        (strings and arrays stay where they lie)
//!                        tensors: name -> TensorInfo ──Gguf::dequantize──> Vec<f32>
//! ```
//!
//! Versions 2 and 3, little-endian; elements F32, F16, BF16, Q4_0, Q4_1 and Q8_0. Source:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! Invariants: bytes come from anywhere, so every offset, length and count is held against the file before it is used,
//! nothing is allocated by a count that the file merely claims, and nothing panics. This crate knows no model, no
//! tokenizer and no file system.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed test is a panic"))]

mod cursor;
mod dequantize;
mod error;
mod file;
mod tensor;
mod value;

pub use error::GgufError;
pub use file::Gguf;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, Value, ValueType};
