//! Tokenizers.

mod bpe;
mod gguf;
mod huggingface;

pub use bpe::Bpe;
pub use gguf::GgufTokenizer;
pub use huggingface::HuggingFace;
