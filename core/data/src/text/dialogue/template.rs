//! What is written around questions and answers.

use super::{DialogueError, ImageBlock, encode::Writer};
use crate::text::Tokenizer;

/// A way to write a dialogue.
///
/// | | a round |
/// |---|---|
/// | `vicuna_v1`, `vicuna_v1.1` | `USER: `question` ASSISTANT: `answer`</s>` |
/// | `chatml` | `<\|im_start\|>user⏎`question`<\|im_end\|>⏎<\|im_start\|>assistant⏎`answer`<\|im_end\|>⏎` |
/// | `plain` | `<image>`caption`⏎` |
///
/// Sources: LLaVA 1.5 (`conversation.py`), whose `vicuna_v1` InternVL-Chat calls `vicuna_v1.1` too, and SmolLM2's chat template.
/// Dialogues begin with `<s>`, if the tokenizer has it, but for `chatml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A system text, then `USER:` and `ASSISTANT:`.
    Vicuna,
    /// Turns between `<|im_start|>` and `<|im_end|>`.
    ChatMl,
    /// A picture and its caption, with no question.
    Plain,
}

/// The special tokens of a template, as ids.
#[derive(Debug, Clone, Copy)]
pub(super) enum Marks {
    Vicuna { begin: Option<u32>, end: u32 },
    ChatMl { start: u32, end: u32 },
    Plain { begin: Option<u32> },
}

/// One round as it is about to be written.
pub(super) struct Part<'a> {
    /// What is said before the first round; nothing before later ones.
    pub system: Option<&'a str>,
    pub blocks: &'a [ImageBlock],
    pub question: &'a str,
    /// None where it is to be generated.
    pub answer: Option<&'a str>,
}

impl Template {
    /// Names and templates.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("vicuna_v1", Self::Vicuna),
        ("vicuna_v1.1", Self::Vicuna),
        ("chatml", Self::ChatMl),
        ("plain", Self::Plain),
    ];

    /// The template of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, template)| *template)
    }

    /// What is said before the first question, unless an experiment says otherwise.
    pub fn system(self) -> &'static str {
        match self {
            Self::Vicuna => {
                "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
                 helpful, detailed, and polite answers to the user's questions."
            }
            Self::ChatMl => "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
            Self::Plain => "",
        }
    }

    pub(super) fn marks(self, tokenizer: &Tokenizer) -> Result<Marks, DialogueError> {
        let id = |token: &'static str| tokenizer.id(token).ok_or(DialogueError::NoToken(token));
        let begin = tokenizer.bos();
        Ok(match self {
            Self::Vicuna => Marks::Vicuna { begin, end: id("</s>")? },
            Self::ChatMl => Marks::ChatMl { start: id("<|im_start|>")?, end: id("<|im_end|>")? },
            Self::Plain => Marks::Plain { begin },
        })
    }
}

impl Marks {
    /// Writes a round.
    pub fn write(self, part: &Part<'_>, out: &mut Writer<'_>) -> Result<(), DialogueError> {
        match self {
            Self::Vicuna { begin, end } => vicuna(begin, end, part, out),
            Self::ChatMl { start, end } => chatml(start, end, part, out),
            Self::Plain { begin } => plain(begin, part, out),
        }
    }
}

fn vicuna(begin: Option<u32>, end: u32, part: &Part<'_>, out: &mut Writer<'_>) -> Result<(), DialogueError> {
    let head = match part.system {
        None => "USER: ".to_owned(),
        Some(system) => {
            out.given_tokens(begin);
            let space = if system.is_empty() { "" } else { " " };
            format!("{system}{space}USER: ")
        }
    };
    question(&head, part, " ASSISTANT:", out)?;
    if let Some(answer) = part.answer {
        out.learnt(&format!(" {answer}"))?;
        out.learnt_token(end);
    }
    Ok(())
}

fn chatml(start: u32, end: u32, part: &Part<'_>, out: &mut Writer<'_>) -> Result<(), DialogueError> {
    if let Some(system) = part.system.filter(|system| !system.is_empty()) {
        out.given_tokens([start]);
        out.given(&format!("system\n{system}"))?;
        out.given_tokens([end]);
        out.given("\n")?;
    }
    out.given_tokens([start]);
    question("user\n", part, "", out)?;
    out.given_tokens([end]);
    out.given("\n")?;
    out.given_tokens([start]);
    out.given("assistant\n")?;
    if let Some(answer) = part.answer {
        out.learnt(answer)?;
        out.learnt_token(end);
        out.given("\n")?;
    }
    Ok(())
}

fn plain(begin: Option<u32>, part: &Part<'_>, out: &mut Writer<'_>) -> Result<(), DialogueError> {
    // One round with a picture, or it is another form of data.
    if part.system.is_none() || part.blocks.is_empty() {
        return Err(DialogueError::Plain);
    }
    out.given_tokens(begin);
    out.blocks(part.blocks);
    part.answer.map_or(Ok(()), |caption| out.learnt(&format!("{caption}\n")))
}

/// Head, picture, question and tail in as few segments as there can be.
fn question(head: &str, part: &Part<'_>, tail: &str, out: &mut Writer<'_>) -> Result<(), DialogueError> {
    let question = part.question;
    if part.blocks.is_empty() {
        return out.given(&format!("{head}{question}{tail}"));
    }
    out.given(head)?;
    out.blocks(part.blocks);
    let line = if question.is_empty() { "" } else { "\n" };
    out.given(&format!("{line}{question}{tail}"))
}
