//! Towers at work: records and texts become rows of features. Shared by `features`, `train` and the evaluations.

mod captioner;
mod check;
mod dialogues;
mod frozen;
mod kept;
mod loaded;
mod rows;
mod seen;
mod stored;
mod text;
mod tower;
mod writing;

pub use captioner::{Captioner, model_ports, read_captioner};
pub use check::{check_images, check_output, check_vocabulary, input_of, needed};
pub use dialogues::{Dialogues, check_dialogues, is_of_dialogues};
pub use frozen::{Frozen, FrozenPart, Look, with_records};
pub use kept::{Kept, KeptValue, Looks, row_key};
pub use loaded::Loaded;
pub use rows::{Features, Rows, features_bytes, features_of, normalise};
pub use seen::{Seen, SeenBatch, see_frozen, seen_cut};
pub use text::{
    TextSide, Tokenizers, encode_options, questions_port, read_languages, read_tokenizer, text_ports, tokens,
};
pub use tower::{Tower, decode_images};
pub use writing::{Writing, prompt_tokens, read_writing};

use crate::exec::NodeError;

/// A model graph with mistakes never gets as far as running.
pub fn no_graph() -> NodeError {
    NodeError::Other("the node has no model graph".into())
}
