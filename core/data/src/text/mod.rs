//! Text: a record's columns in, right-padded token ids out.

mod caption;
pub mod dialogue;
mod sentencepiece;
mod specials;
mod streaming;
pub mod templates;
mod tokenizer;
mod train;
mod until;

pub(crate) use caption::spoken;
pub use caption::{CaptionError, CaptionOptions, Keywords, Labels};
pub use streaming::Streaming;
pub use tokenizer::{EncodeOptions, TokenBatch, Tokenizer, TokenizerError};
pub use train::BpeOptions;
pub use until::Until;
