//! Text: a record's columns in, right-padded token ids out.

mod caption;
pub mod dialogue;
mod specials;
pub mod templates;
mod tokenizer;
mod train;

pub(crate) use caption::spoken;
pub use caption::{CaptionError, CaptionOptions, Keywords, Labels};
pub use tokenizer::{EncodeOptions, TokenBatch, Tokenizer, TokenizerError};
pub use train::BpeOptions;
