//! Weights that somebody else trained.
//!
//! ```text
//! files ──> Offers (names, types, shapes) ──choose──> those of the graph ──write──> one safetensors artifact
//! ```
//!
//! A kind says what its files offer and gives the elements of one tensor at a time; which of them the graph takes, and
//! how they are written, is the same for all.

mod artifact;
mod config;
mod fit;
mod ggml;
mod gguf;
mod huggingface;
mod unused;

pub use gguf::LlamaFile;
pub use huggingface::HuggingFace;
