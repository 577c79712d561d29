//! Tokenizers.

mod bpe;
mod huggingface;
mod sentencepiece;
mod tokens;

pub use bpe::Bpe;
pub use huggingface::HuggingFace;
pub use sentencepiece::SentencePiece;
