//! From scores to tokens: greedy search, sampling and beam search over any decoder.
//!
//! ```text
//! Decoding (a module, its cache) ──scores──▶ search (greedy, sample, beam) ──tokens──▶ Decoding
//! ```
//!
//! Searches work on scores on the host and know no tensors; a decoder is whatever gives the scores of the next token
//! ([`NextToken`]). What a record gets does not depend on its company in a batch.

mod beam;
mod decoding;
mod sample;

pub use decoding::Decoding;

use crate::error::TensorError;

/// Scores of the next token after some sequences.
pub trait NextToken {
    /// Goes on from sequences `from` of the last call, one of which may go on more than once, each with its token. Gives
    /// a row of scores each.
    ///
    /// # Errors
    /// [`TensorError`] where the decoder fails, or has no room for a further token.
    fn next(&mut self, from: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>, TensorError>;
}

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Search {
    /// The one with the highest score.
    Greedy,
    /// Drawn by the softmax of the scores.
    Sample(Sampling),
    /// The best of several continuations that are followed together.
    Beam {
        /// How many.
        beams: usize,
        /// A finished text's score is the sum of its log-probabilities over its length to this power.
        length_penalty: f64,
    },
}

/// How a token is drawn, in the order in which it acts (Holtzman et al., 2020, for `top_p`).
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Scores are divided by it.
    pub temperature: f64,
    /// Only so many of the highest scores, if set.
    pub top_k: Option<usize>,
    /// Only the fewest tokens that have this share together, if set.
    pub top_p: Option<f64>,
    /// Record `i` draws from a stream of this seed and `i`.
    pub seed: u64,
}

/// How long texts become, and what ends them.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// No end before there are so many tokens.
    pub min_new: usize,
    /// So many tokens at most, the end token among them.
    pub max_new: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
}

/// A text that was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// The sum of their log-probabilities; with beam search divided by the length to the power of the penalty.
    pub score: f64,
}

/// Who looks on. It is told each token as soon as it is certain (with beam search, at the end), and says whether its text
/// is complete, as where a stop string appears.
pub trait Watch {
    /// Record `record` got `token`; true ends its text.
    fn token(&mut self, record: usize, token: u32) -> bool;
}

/// Nobody looks on.
impl Watch for () {
    fn token(&mut self, _: usize, _: u32) -> bool {
        false
    }
}

/// Generates a text for each row of `first`, the scores after each prompt.
///
/// # Errors
/// What `decoder` returns.
pub fn generate(
    first: Vec<Vec<f32>>,
    decoder: &mut dyn NextToken,
    search: &Search,
    limits: &Limits,
    watch: &mut dyn Watch,
) -> Result<Vec<Generated>, TensorError> {
    match search {
        Search::Greedy => sample::generate(first, decoder, None, limits, watch),
        Search::Sample(sampling) => sample::generate(first, decoder, Some(sampling), limits, watch),
        Search::Beam { beams, length_penalty } => {
            let found = beam::generate(first, decoder, (*beams).max(1), *length_penalty, limits)?;
            for (record, text) in found.iter().enumerate() {
                for token in &text.tokens {
                    watch.token(record, *token);
                }
            }
            Ok(found)
        }
    }
}

/// Logarithms of the softmax, and no chance for tokens that may not come yet.
fn log_softmax(scores: &[f32], limits: &Limits, len: usize) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|score| f64::from(score - largest).exp()).sum();
    let log_sum = sum.ln();
    let mut logs: Vec<f64> = scores.iter().map(|score| f64::from(score - largest) - log_sum).collect();
    if len < limits.min_new {
        for end in &limits.end {
            if let Some(log) = logs.get_mut(*end as usize) {
                *log = f64::NEG_INFINITY;
            }
        }
    }
    logs
}

#[cfg(test)]
mod tests;
