//! Writes rounds as ids, up to a length.

use super::{
    Dialogue, DialogueError, DialogueOptions, IMAGE, ImageBlock, Round,
    template::{Marks, Part},
};
use crate::text::{Tokenizer, TokenizerError};

/// Encodes dialogues of one form.
#[derive(Debug, Clone)]
pub struct DialogueEncoder {
    tokenizer: Tokenizer,
    start: Start,
    marks: Marks,
    options: DialogueOptions,
}

/// What a tokenizer does before the first letter of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing, or a space where there is none: the text is taken as it is.
    AsItIs,
    /// Always a space, before one that is there too: LLaMA's normaliser.
    Space,
}

impl DialogueEncoder {
    /// An encoder.
    ///
    /// # Errors
    /// [`DialogueError::NoToken`] if the template needs a token that the tokenizer does not have.
    pub fn new(tokenizer: &Tokenizer, options: DialogueOptions) -> Result<Self, DialogueError> {
        let marks = options.template.marks(tokenizer)?;
        let mut tokenizer = tokenizer.clone();
        // What people write is text, `</s>` too; the template's tokens are put in as ids.
        tokenizer.0.set_encode_special_tokens(true);
        let start = Start::of(&tokenizer)?;
        Ok(Self { tokenizer, start, marks, options })
    }

    /// A dialogue to learn from. Rounds from the first one that does not fit are left out.
    ///
    /// # Errors
    /// [`DialogueError`] if there is no round, the first one does not fit, or pictures are not as the options have them.
    pub fn encode(&self, rounds: &[Round]) -> Result<Dialogue, DialogueError> {
        let questions: Vec<&str> = rounds.iter().map(|round| round.question.as_str()).collect();
        let has_image = self.has_image(&questions)?;
        let mut writer = Writer { encoder: self, out: Dialogue::default() };
        for (place, round) in rounds.iter().enumerate() {
            let (ids, contexts) = (writer.out.ids.len(), writer.out.contexts.len());
            writer.round(place, &round.question, Some(&round.answer), has_image)?;
            if writer.out.ids.len() > self.options.max_length {
                if place == 0 {
                    return Err(self.too_long(&writer.out));
                }
                writer.out.ids.truncate(ids);
                writer.out.learn.truncate(ids);
                writer.out.contexts.truncate(contexts);
                writer.out.rounds.truncate(place);
                break;
            }
        }
        if rounds.is_empty() { Err(DialogueError::NoAnswer) } else { Ok(writer.out) }
    }

    /// A dialogue up to where the answer to the last question begins; `before` are the rounds that led there. Nothing of it
    /// is learnt, and all of it must fit.
    ///
    /// # Errors
    /// As [`DialogueEncoder::encode`].
    pub fn prompt(&self, before: &[Round], question: &str) -> Result<Dialogue, DialogueError> {
        let questions: Vec<&str> =
            before.iter().map(|round| round.question.as_str()).chain([question]).collect();
        let has_image = self.has_image(&questions)?;
        let mut writer = Writer { encoder: self, out: Dialogue::default() };
        for (place, round) in before.iter().enumerate() {
            writer.round(place, &round.question, Some(&round.answer), has_image)?;
        }
        writer.round(before.len(), question, None, has_image)?;
        writer.out.learn.fill(false);
        if writer.out.ids.len() > self.options.max_length {
            return Err(self.too_long(&writer.out));
        }
        Ok(writer.out)
    }

    /// Whether the first question names the picture; anything else that names one is an error.
    fn has_image(&self, questions: &[&str]) -> Result<bool, DialogueError> {
        let count = |question: &&str| question.matches(IMAGE).count();
        let first = questions.first().map_or(0, count);
        match questions.iter().map(count).sum::<usize>() {
            0 => Ok(false),
            1 if first == 1 && self.options.blocks.first.is_empty() => Err(DialogueError::NoBlocks),
            1 if first == 1 => Ok(true),
            1 => Err(DialogueError::LateImage),
            several => Err(DialogueError::Images(several)),
        }
    }

    fn too_long(&self, dialogue: &Dialogue) -> DialogueError {
        DialogueError::TooLong { needed: dialogue.ids.len(), max: self.options.max_length }
    }

    /// A segment: a space at its beginning is the tokenizer's, where it always puts one.
    fn segment(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let text = match self.start {
            Start::AsItIs => text,
            Start::Space => text.strip_prefix(' ').unwrap_or(text),
        };
        if text.is_empty() { Ok(Vec::new()) } else { self.tokenizer.ids(text) }
    }
}

impl Start {
    fn of(tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let (plain, spaced) = (tokenizer.ids("a")?, tokenizer.ids(" a")?);
        let first = plain.first().and_then(|id| tokenizer.0.id_to_token(*id));
        let puts_space = first.is_some_and(|token| token.starts_with('▁'));
        Ok(if puts_space && plain != spaced { Self::Space } else { Self::AsItIs })
    }
}

/// A dialogue that is being written.
pub(super) struct Writer<'e> {
    encoder: &'e DialogueEncoder,
    out: Dialogue,
}

impl Writer<'_> {
    fn round(
        &mut self,
        place: usize,
        question: &str,
        answer: Option<&str>,
        has_image: bool,
    ) -> Result<(), DialogueError> {
        let options = &self.encoder.options;
        let blocks = match (has_image, place) {
            (false, _) => &[],
            (true, 0) => options.blocks.first.as_slice(),
            (true, _) => options.blocks.later.as_slice(),
        };
        let system = options.system.as_deref().unwrap_or(options.template.system());
        let question = question.replace(IMAGE, "");
        let question = question.trim();
        let part = Part { system: (place == 0).then_some(system), blocks, question, answer };
        self.encoder.marks.write(&part, self)?;
        self.out.rounds.push(question.to_owned());
        Ok(())
    }

    /// Text that is given.
    pub fn given(&mut self, text: &str) -> Result<(), DialogueError> {
        let ids = self.encoder.segment(text)?;
        self.given_tokens(ids);
        Ok(())
    }

    /// Tokens that are given.
    pub fn given_tokens(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.out.ids.extend(ids);
        self.out.learn.resize(self.out.ids.len(), false);
    }

    /// Text that is learnt.
    pub fn learnt(&mut self, text: &str) -> Result<(), DialogueError> {
        self.out.ids.extend(self.encoder.segment(text)?);
        self.out.learn.resize(self.out.ids.len(), true);
        Ok(())
    }

    /// A token that is learnt.
    pub fn learnt_token(&mut self, id: u32) {
        self.out.ids.push(id);
        self.out.learn.push(true);
    }

    /// The picture.
    pub fn blocks(&mut self, blocks: &[ImageBlock]) {
        for block in blocks {
            self.given_tokens(block.before);
            let from = self.out.ids.len();
            self.given_tokens(std::iter::repeat_n(block.context, block.count));
            self.out.contexts.push(from..self.out.ids.len());
            self.given_tokens(block.after);
        }
    }
}
