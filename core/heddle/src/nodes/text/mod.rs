//! Tokenizers.

mod bpe;
mod huggingface;

pub use bpe::Bpe;
pub use huggingface::HuggingFace;
