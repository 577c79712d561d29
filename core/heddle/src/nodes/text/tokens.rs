//! `tokens`, the special tokens that every tokenizer node adds, and what such a node gives.

use std::collections::HashSet;

use heddle_data::text::Tokenizer;
use heddle_graph::config::Reader;

use crate::exec::{NodeError, Outputs, RunContext, output};

/// Special tokens of an experiment.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// Reads `tokens`. Files without it keep the keys they had.
    pub fn read(r: &mut Reader<'_>) -> Self {
        let help = "special tokens that are added behind the vocabulary in this order; they are never split";
        let tokens: Vec<String> = r.field("tokens", help).optional().unwrap_or_default();
        let mut seen = HashSet::new();
        for (place, token) in tokens.iter().enumerate() {
            if token.is_empty() {
                r.error(&format!("tokens.{place}"), "a token has no text", None);
            } else if !seen.insert(token) {
                r.error(&format!("tokens.{place}"), format!("the token `{token}` is listed twice"), None);
            }
        }
        Self(tokens)
    }

    /// How many they are, those left out that a vocabulary has anyway.
    pub fn count_but(&self, known: &[String]) -> usize {
        self.0.iter().filter(|token| !known.contains(token)).count()
    }

    /// Adds them to a tokenizer, says their ids, and gives the artifact.
    pub fn give(&self, cx: &RunContext<'_>, tokenizer: Tokenizer) -> Result<Outputs, NodeError> {
        let tokenizer = tokenizer.with_specials(&self.0).map_err(NodeError::data)?;
        let ids: Vec<String> =
            self.0.iter().filter_map(|token| Some(format!("{token} {}", tokenizer.id(token)?))).collect();
        if !ids.is_empty() {
            cx.progress.note(format!("tokens added: {}", ids.join(", ")));
        }
        Ok(output("tokenizer", tokenizer.to_json()))
    }
}
