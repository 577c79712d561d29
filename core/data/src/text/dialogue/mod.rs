//! Dialogues about a picture: rounds of question and answer in, token ids out, with what is learnt and where the picture goes.
//!
//! ```text
//! conversations (JSON) ──Round::list──▶ [Round] ──DialogueEncoder::encode──▶ Dialogue   to learn from
//!                                              └─DialogueEncoder::prompt───▶ Dialogue   to answer
//! ```
//!
//! **Segments.** Text is tokenised in segments that end where something else begins: a picture, a special token, an
//! answer. So what is learnt is exact by construction. LLaVA tokenises a whole conversation and then subtracts the lengths of its
//! parts, which is right only while no token spans two parts. Both give the same ids where a tokenizer splits words at their leading
//! space, as SentencePiece's and byte-level BPE do; and as in LLaVA, a segment behind a picture begins anew: tokenizers that put
//! a space before a text put one there.
//!
//! **Text is text.** What questions and answers say is never read as a special token, whatever they say.
//!
//! This module knows no tensors: which vectors take the places of context tokens is the model's affair.

mod encode;
mod template;
mod turns;

use std::ops::Range;

use super::TokenizerError;

pub use encode::DialogueEncoder;
pub use template::Template;
pub use turns::{Round, TurnsError};

/// What stands for the picture in a question.
pub const IMAGE: &str = "<image>";

/// The label of a token that is not learnt, as losses that follow PyTorch have it.
pub const IGNORED: i64 = -100;

/// A dialogue that cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// No round with an answer.
    #[error("the dialogue has no answer to learn from")]
    NoAnswer,
    /// More than one picture.
    #[error("the dialogue has `<image>` {0} times; once is possible")]
    Images(usize),
    /// A picture that comes later than the first question.
    #[error("`<image>` stands in a later question; only the first one can have it")]
    LateImage,
    /// A picture, and nothing that could stand for it.
    #[error("the dialogue has a picture, and the model takes none")]
    NoBlocks,
    /// Captions alone need a picture.
    #[error("`plain` is a picture and its caption: one question with `<image>` and one answer")]
    Plain,
    /// The tokenizer lacks a token that the template needs.
    #[error("the tokenizer has no token `{0}`, which the template needs")]
    NoToken(&'static str),
    /// Not even the first round fits; pictures and answers are not cut.
    #[error("the first round takes {needed} tokens, {max} are allowed; pictures and answers are not cut")]
    TooLong {
        /// Its length.
        needed: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A run of tokens whose embeddings are a picture's: `before`, `count` times `context`, `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBlock {
    /// Token before them, such as `<IMG>`.
    pub before: Option<u32>,
    /// The token in whose places vectors go.
    pub context: u32,
    /// How many vectors.
    pub count: usize,
    /// Token after them, such as `</IMG>`.
    pub after: Option<u32>,
}

/// What is written for the picture of a dialogue.
///
/// A vision transformer with a projector has one block and nothing later. With queries there is a second block, and, as
/// queries depend on the question, that block again in every later round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageBlocks {
    /// At the beginning of the first question.
    pub first: Vec<ImageBlock>,
    /// At the beginning of every later question of a dialogue with a picture.
    pub later: Vec<ImageBlock>,
}

/// How dialogues are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogueOptions {
    /// What is written around questions and answers.
    pub template: Template,
    /// What is said before the first question; the template's own text if nothing is given.
    pub system: Option<String>,
    /// What is written for the picture.
    pub blocks: ImageBlocks,
    /// Longest dialogue in tokens: later rounds are left out, whole.
    pub max_length: usize,
}

/// A dialogue as token ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dialogue {
    /// The ids, `[len]`.
    pub ids: Vec<u32>,
    /// Whether each of them is learnt, that is to be predicted from those before it: answers and their end tokens.
    pub learn: Vec<bool>,
    /// The places of context tokens, block by block.
    pub contexts: Vec<Range<usize>>,
    /// What was asked in each round that is in `ids`, without the placeholder: texts for queries that depend on the question.
    pub rounds: Vec<String>,
}

impl Dialogue {
    /// The ids that are learnt, and [`IGNORED`] for all others, `[len]`. Not shifted: the label of a token is the token.
    pub fn labels(&self) -> Vec<i64> {
        let label = |(id, learn): (&u32, &bool)| if *learn { i64::from(*id) } else { IGNORED };
        self.ids.iter().zip(&self.learn).map(label).collect()
    }
}

#[cfg(test)]
mod tests;
