//! Tokenizers.

mod bpe;
mod huggingface;
mod tokens;

pub use bpe::Bpe;
pub use huggingface::HuggingFace;
