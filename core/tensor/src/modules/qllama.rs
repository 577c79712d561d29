//! QLLaMA: LLaMA with learnable queries that look at an image (InternVL, CVPR 2024, section 3.2).

use dfdx::prelude::HasShape;

use super::llama::{Decoder, Layout, Looking, Mix, Stack, TextOutputs, projection_parameter, put_text};
use crate::{
    backend::{Backend, CrossAttention, RmsNorm},
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, PerRecord},
    parameter::{Adapter, Init, ParameterSpec},
    tensor::{Seq, gather_rows, reshape},
    value::{Tokens, Value},
};

/// Queries and where they look.
#[derive(Debug, Clone, PartialEq)]
pub struct Vision {
    /// Width of the visual features.
    pub width: usize,
    /// Number of learnable queries.
    pub queries: usize,
    /// Layer `i` has cross-attention if `i` is a multiple of this.
    pub every: usize,
    /// Who sees whom, where there is text as well.
    pub mix: Mix,
}

/// QLLaMA. Inputs `vision` (`[B, M, D]`, all tokens of InternViT's last hidden state) unless it is called for text alone,
/// and `text` (token ids `[B, T]`, or `[R, T]` if there are several texts an image); outputs
///
/// * `queries`: the states of the queries after the final norm, `[B, Q, C]`,
/// * those of a text, as [`Llama`](super::Llama) has them,
/// * `cache`: what was read; with it as an input the text is one more token each, and there is no image,
/// * `states.i`: queries and text before layer `i`, `[B, Q + T, C]`; the last after the final norm.
///
/// In a layer with cross-attention the queries look at the image after self-attention and before the perceptron. There is
/// no gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Qllama {
    /// The stack.
    pub decoder: Decoder,
    /// Queries and their cross-attention; none in a call for text alone.
    pub vision: Option<Vision>,
    /// Width of `text_projection`, if there is one.
    pub projection: Option<usize>,
    /// Whether there is a matrix from states to scores of tokens.
    pub head: bool,
    /// Whether it is called with text.
    pub text: bool,
}

impl Default for Vision {
    fn default() -> Self {
        Self { width: 3200, queries: 96, every: 2, mix: Mix::Full }
    }
}

const MATRIX: Init = Init::Normal { std: 0.02 };

impl Qllama {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`TensorError::Config`] with the reason.
    pub fn check(&self) -> Result<(), TensorError> {
        match &self.vision {
            Some(vision) if vision.queries == 0 || vision.every == 0 => {
                Err(TensorError::Config("there is at least one query, and a layer that looks".to_owned()))
            }
            None if !self.text => Err(TensorError::Config("there is neither an image nor a text".to_owned())),
            _ => self.decoder.check(),
        }
    }
}

impl Vision {
    fn has_cross(&self, index: usize) -> bool {
        index.is_multiple_of(self.every)
    }

    fn parameters(&self, decoder: &Decoder) -> Vec<ParameterSpec> {
        let (c, d) = (decoder.width, self.width);
        let mut specs = vec![ParameterSpec::new("queries", [1, self.queries, c], MATRIX)];
        for index in (0..decoder.depth).filter(|index| self.has_cross(*index)) {
            let name = |local: &str| format!("model.layers.{index}.cross_attn.{local}.weight");
            specs.push(ParameterSpec::new(name("norm1"), [c], Init::Ones));
            specs.push(ParameterSpec::new(name("norm2"), [d], Init::Ones));
            for (part, columns) in [("q", c), ("k", d), ("v", d), ("o", c)] {
                specs.push(ParameterSpec::new(name(&format!("{part}_proj")), [c, columns], MATRIX));
            }
        }
        specs
    }

    fn cross<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        decoder: &Decoder,
        index: usize,
    ) -> Result<Option<CrossAttention<B>>, TensorError> {
        if !self.has_cross(index) {
            return Ok(None);
        }
        let (c, d) = (decoder.width, self.width);
        let name = |local: &str| format!("model.layers.{index}.cross_attn.{local}.weight");
        let norm = |local: &str, size: usize| {
            Ok::<_, TensorError>(RmsNorm { weight: cx.row(&name(local), size)?, eps: decoder.eps })
        };
        let matrix = |part: &str, columns: usize| cx.matrix(&name(&format!("{part}_proj")), c, columns);
        Ok(Some(CrossAttention {
            norm: norm("norm1", c)?,
            vision_norm: norm("norm2", d)?,
            query: matrix("q", c)?,
            key: matrix("k", d)?,
            value: matrix("v", d)?,
            out: matrix("o", c)?,
            heads: decoder.heads,
        }))
    }

    /// Multiply-adds of cross-attention, for so many visual features.
    fn macs(&self, decoder: &Decoder, seen: usize) -> u64 {
        let layers = (0..decoder.depth).filter(|index| self.has_cross(*index)).count() as u64;
        let [q, n, c, d] = [self.queries, seen, decoder.width, self.width].map(|size| size as u64);
        layers * (2 * q * c * c + 2 * n * c * d + 2 * q * n * c)
    }
}

/// The visual features that belong to each text.
fn for_each_text<B: Backend>(
    backend: &B,
    vision: Seq<B>,
    tokens: Option<&Tokens>,
) -> Result<Seq<B>, TensorError> {
    let &(images, len, width) = vision.shape();
    let of = match tokens {
        Some(Tokens { of: Some(of), .. }) => of.clone(),
        Some(tokens) if images == 1 && tokens.batch > 1 => vec![0; tokens.batch],
        _ => return Ok(vision),
    };
    if let Some(missing) = of.iter().find(|image| **image as usize >= images) {
        return Err(TensorError::shape("image of a text", 0..images, missing));
    }
    let rows = reshape::<_, _, B>(vision, (images, len * width))?;
    reshape::<_, _, B>(gather_rows(backend, rows, &of)?, (of.len(), len, width))
}

impl Module for Qllama {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = self.decoder.parameters();
        specs.extend(self.vision.iter().flat_map(|vision| vision.parameters(&self.decoder)));
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

    /// `input` is the image's tokens where there is an image, else the text. Text beside an image is not counted: its
    /// length is known at run time only.
    fn macs(&self, input: InputSize) -> u64 {
        let InputSize::Tokens(tokens) = input else { return 0 };
        match &self.vision {
            Some(vision) => self.decoder.macs(vision.queries) + vision.macs(&self.decoder, tokens),
            None => self.decoder.macs(tokens) + (self.decoder.width * self.projection.unwrap_or(0)) as u64,
        }
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        self.check()?;
        let tokens = if self.text { Some(cx.tokens("text")?) } else { None };
        if let (true, Some(tokens)) = (cx.has("cache"), &tokens) {
            let states = Stack::further(&self.decoder, cx, tokens)?;
            let outputs = TextOutputs { decoder: &self.decoder, projection: self.projection };
            return put_text(cx, outputs, &states, tokens);
        }
        let states = match (&self.vision, &tokens) {
            (Some(vision), tokens) => {
                let seen = for_each_text(cx.backend(), cx.sequence("vision")?, tokens.as_ref())?;
                let &(batch, _, width) = seen.shape();
                expect_size("width of the visual features", vision.width, width)?;
                let layout = Layout::with_queries(batch, vision.queries, tokens.as_ref(), vision.mix);
                let queries = cx.matrix("queries", vision.queries, self.decoder.width)?;
                let layer = |cx: &Forward<'_, B>, index: usize| vision.cross(cx, &self.decoder, index);
                let looking = Looking { queries, vision: seen, layer: &layer };
                Stack::new(&self.decoder, layout).run(cx, tokens.as_ref(), Some(looking))?
            }
            (None, Some(tokens)) => {
                Stack::new(&self.decoder, Layout::text(tokens)).run(cx, Some(tokens), None)?
            }
            (None, None) => return Err(TensorError::MissingInput { port: "text".to_owned() }),
        };
        if cx.wants("queries") {
            let places = states.layout.places_of_queries();
            let shape = (states.layout.batch, states.layout.queries, self.decoder.width);
            let queries = states.pick(cx.backend(), &places)?;
            cx.put("queries", Value::Sequence(reshape::<_, _, B>(queries, shape)?));
        }
        match &tokens {
            Some(tokens) => {
                let outputs = TextOutputs { decoder: &self.decoder, projection: self.projection };
                put_text(cx, outputs, &states, tokens)
            }
            None => Ok(()),
        }
    }
}
