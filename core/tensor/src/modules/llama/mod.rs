//! LLaMA (Touvron et al., 2023): InternVL's text tower, a language model, and the decoder of chats.

mod cache;
mod decoder;
mod layout;
mod lora;
mod outputs;
mod stack;

pub use cache::KvCache;
pub use decoder::Decoder;
pub(super) use layout::Layout;
pub use layout::Mix;
pub use lora::{Lora, Projection};
pub(super) use outputs::{TextOutputs, put_text};
pub(super) use stack::{Looking, Stack};

use crate::{
    backend::Backend,
    error::TensorError,
    module::{Forward, InputSize, Module, PerRecord},
    parameter::{Adapter, Init, ParameterSpec},
};

/// LLaMA. Input `text` (token ids `[B, T]`); outputs
///
/// * `hidden`: the states of the text after the final norm, `[B, T, C]`; rows of padding have no meaning,
/// * `last`: the state of the last real token, `[B, C]`,
/// * `eos`: `last` times `text_projection`, or `last` itself without one,
/// * `next`: scores of the token after the last real one, `[B, V]`,
/// * `logits`: scores of the token after each, `[B, T, V]`,
/// * `predictions` and `targets`: the rows of these that predict a token which counts in the loss, `[R, V]`, and those
///   tokens. Without any such token both have one row, whose target is none,
/// * `cache`: what was read; with it as an input the text is one more token each,
/// * `states.i`: the sequences before layer `i`, the last after the final norm.
///
/// Padding tokens are attended to by nobody, and row 0 of the embedding, which is padding, gets no gradient. The defaults are Chinese-Alpaca 7B with InternVL's projection and without a language head.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
    /// The stack.
    pub decoder: Decoder,
    /// Width of `text_projection`, if there is one.
    pub projection: Option<usize>,
    /// Whether there is a matrix from states to scores of tokens.
    pub head: bool,
    /// Ids whose embeddings are rows of other sequences, by input port.
    pub context: Vec<(String, u32)>,
}

impl Default for Llama {
    fn default() -> Self {
        Self { decoder: Decoder::default(), projection: Some(768), head: false, context: Vec::new() }
    }
}

impl Llama {
    fn outputs(&self) -> TextOutputs<'_> {
        TextOutputs { decoder: &self.decoder, projection: self.projection }
    }
}

/// The parameter behind a projection of texts, `[in, out]` as published.
pub(super) fn projection_parameter(width: usize, out: usize) -> ParameterSpec {
    ParameterSpec::new("text_projection", [width, out], Init::Normal { std: (width as f64).powf(-0.5) })
}

impl Module for Llama {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = self.decoder.parameters();
        specs.extend(self.projection.map(|out| projection_parameter(self.decoder.width, out)));
        specs.extend(self.head.then(|| self.decoder.head_parameter()));
        specs
    }

    fn adapters(&self) -> Vec<Adapter> {
        self.decoder.adapters()
    }

    fn per_record(&self) -> PerRecord {
        self.decoder.per_record()
    }

    fn macs(&self, input: InputSize) -> u64 {
        let InputSize::Tokens(tokens) = input else { return 0 };
        let (d, head) = (self.decoder.width as u64, if self.head { self.decoder.vocab * tokens } else { 0 });
        self.decoder.macs(tokens) + d * (self.projection.unwrap_or(0) + head) as u64
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        self.decoder.check()?;
        let tokens = cx.tokens("text")?;
        if cx.has("cache") {
            let states = Stack::further(&self.decoder, cx, &tokens)?;
            return put_text(cx, self.outputs(), &states, &tokens);
        }
        let mut stack = Stack::new(&self.decoder, Layout::text(&tokens));
        for (port, id) in &self.context {
            stack.insert(*id, cx.sequence(port)?);
        }
        let states = stack.run(cx, Some(&tokens), None)?;
        put_text(cx, self.outputs(), &states, &tokens)
    }
}
