//! How a decoder writes: search, length, prompts. Shared by evaluations and the command line.

use heddle_data::text::Tokenizer;
use heddle_graph::config::Reader;
use heddle_tensor::{
    Tokens,
    generate::{Limits, Sampling, Search},
};

use super::text::encode_options;
use crate::{exec::NodeError, model::ModelGraph};

/// Names of tokens that end a text.
const ENDS: [&str; 3] = ["</s>", "<|im_end|>", "<|endoftext|>"];

/// Search and limits, as a node sets them.
#[derive(Debug, Clone)]
pub struct Writing {
    beams: usize,
    length_penalty: f64,
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_new: usize,
    max_new: usize,
    stop: Vec<String>,
}

/// Reads how a node writes.
pub fn read_writing(r: &mut Reader<'_>) -> Writing {
    let writing = Writing {
        beams: r
            .field("beams", "continuations that are followed together; 1 is greedy")
            .min(1)
            .max(1024)
            .or(1),
        length_penalty: r
            .field("length-penalty", "power of the length by which a beam's score is divided")
            .range(-16.0..=16.0)
            .or(1.0),
        temperature: r.field("temperature", "draw tokens, with scores divided by this").positive().optional(),
        top_k: r.field("top-k", "draw among so many of the likeliest tokens").min(1).optional(),
        top_p: r
            .field("top-p", "draw among the fewest tokens with this share together")
            .range(0.0..=1.0)
            .optional(),
        min_new: r.field("min-new", "no end before so many tokens").or(0),
        max_new: r.field("max-new", "most tokens, the end among them").min(1).max(1 << 16).or(30),
        stop: r
            .field("stop", "strings that end a text, and are not part of it")
            .optional()
            .unwrap_or_default(),
    };
    if writing.stop.iter().any(String::is_empty) {
        r.error("stop", "an empty string ends nothing", None);
    }
    if writing.temperature.is_some() && writing.beams > 1 {
        r.error("beams", "beam search draws no tokens", Some("leave `temperature` out, or `beams`"));
    }
    if writing.temperature.is_none() {
        for (field, given) in [("top-k", writing.top_k.is_some()), ("top-p", writing.top_p.is_some())] {
            if given {
                r.error(field, format!("`{field}` means nothing without `temperature`"), None);
            }
        }
    }
    if writing.min_new > writing.max_new {
        r.error(
            "min-new",
            format!("at least {} tokens and at most {}", writing.min_new, writing.max_new),
            None,
        );
    }
    writing
}

impl Writing {
    /// Strings that end a text.
    pub fn stop(&self) -> &[String] {
        &self.stop
    }

    /// Whether tokens are drawn.
    pub fn is_random(&self) -> bool {
        self.temperature.is_some()
    }

    /// The search; `seed` counts if tokens are drawn.
    pub fn search(&self, seed: u64) -> Search {
        match (self.temperature, self.beams) {
            (Some(temperature), _) => {
                Search::Sample(Sampling { temperature, top_k: self.top_k, top_p: self.top_p, seed })
            }
            (None, 1) => Search::Greedy,
            (None, beams) => Search::Beam { beams, length_penalty: self.length_penalty },
        }
    }

    /// Lengths, and the tokens that end a text: `</s>`, and those of chat templates and of GPT-2's family.
    pub fn limits(&self, tokenizer: &Tokenizer) -> Limits {
        let end = ENDS.into_iter().filter_map(|name| tokenizer.id(name)).collect();
        Limits { min_new: self.min_new, max_new: self.max_new, end }
    }
}

/// Prompts: begin and prefix of a text input, the beginnings of texts, no end.
pub fn prompt_tokens(
    model: &ModelGraph,
    input: &str,
    tokenizer: &Tokenizer,
    texts: &[String],
) -> Result<Tokens, NodeError> {
    let mut options = encode_options(model, input, tokenizer);
    options.eos = None;
    let batch = tokenizer.encode(texts, &options).map_err(NodeError::data)?;
    Ok(Tokens::new(batch.ids, batch.batch, batch.len)?)
}
