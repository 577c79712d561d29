//! Conversations as LLaVA writes them: `[{ "from": "human", "value": ".." }, { "from": "gpt", "value": ".." }, ..]`.

use serde_json::Value;

/// JSON that is no conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnsError {
    /// Not a list.
    #[error("`conversations` is no list")]
    NoList,
    /// An empty list.
    #[error("`conversations` is empty")]
    Empty,
    /// Turns do not alternate.
    #[error("turn {turn} is of `{from}` and not of `{wanted}`")]
    Order {
        /// Its place, from 1.
        turn: usize,
        /// Whose it is.
        from: String,
        /// Whose it should be.
        wanted: &'static str,
    },
    /// A turn says nothing.
    #[error("turn {0} has no text under `value`")]
    NoText(usize),
}

/// A question and its answer, without the spaces around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// What the human says; [`IMAGE`](super::IMAGE) stands for the picture.
    pub question: String,
    /// What is answered.
    pub answer: String,
}

impl Round {
    /// A round.
    pub fn new(question: &str, answer: &str) -> Self {
        Self { question: question.trim().to_owned(), answer: answer.trim().to_owned() }
    }

    /// The rounds of a conversation: turns alternate, and the human begins. A last question without an answer is left out.
    ///
    /// # Errors
    /// [`TurnsError`] names the first turn that is wrong.
    pub fn list(conversations: &Value) -> Result<Vec<Self>, TurnsError> {
        let texts = texts(conversations)?;
        Ok(texts.chunks_exact(2).map(|turns| Self::new(turns[0], turns[1])).collect())
    }
}

/// What each turn says.
fn texts(conversations: &Value) -> Result<Vec<&str>, TurnsError> {
    let Value::Array(turns) = conversations else { return Err(TurnsError::NoList) };
    if turns.is_empty() {
        return Err(TurnsError::Empty);
    }
    turns.iter().zip(1..).map(|(turn, place)| text(turn, place)).collect()
}

fn text(turn: &Value, place: usize) -> Result<&str, TurnsError> {
    let wanted = if place % 2 == 1 { "human" } else { "gpt" };
    let from = turn.get("from").and_then(Value::as_str);
    if from != Some(wanted) {
        return Err(TurnsError::Order { turn: place, from: from.unwrap_or("nobody").to_owned(), wanted });
    }
    turn.get("value").and_then(Value::as_str).ok_or(TurnsError::NoText(place))
}
