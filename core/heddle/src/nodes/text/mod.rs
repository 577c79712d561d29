//! Tokenizers.

mod bpe;
mod gguf;
mod huggingface;
mod sentencepiece;
mod tokens;

pub use bpe::Bpe;
pub use gguf::GgufTokenizer;
pub use huggingface::HuggingFace;
pub use sentencepiece::SentencePiece;
