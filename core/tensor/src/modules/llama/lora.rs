//! LoRA (Hu et al., 2021): a product of two thin matrices that learns beside a frozen projection.
//!
//! `y = x W^T + alpha / rank * dropout(x) A^T B^T`, under the names and with the start that Hugging Face's PEFT gives: `A`
//! uniform, `B` zero, so that a new pair changes nothing. A layer's branches run fused where no projection of theirs has a
//! pair, else step by step in the same order. The thin products are in single precision on every device.

use std::collections::{BTreeMap, BTreeSet};

use dfdx::prelude::{HasShape, Merge};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use super::decoder::Decoder;
use crate::{
    backend::{Backend, LlamaMlp, Weights},
    element::Element,
    error::TensorError,
    module::{Forward, Mode, PerRecord},
    parameter::{Adapter, Init, ParameterSpec},
    tape::Tape,
    tensor::{Matrix, Seq, reshape},
};

/// A matrix of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// To queries.
    Query,
    /// To keys.
    Key,
    /// To values.
    Value,
    /// Out of self-attention.
    Out,
    /// To what is gated.
    Gate,
    /// To what it is multiplied with.
    Up,
    /// Out of the perceptron.
    Down,
}

impl Decoder {
    /// Whether a pass in training draws the dropout of pairs.
    pub(crate) fn per_record(&self) -> PerRecord {
        match &self.lora {
            Some(lora) if lora.dropout > 0.0 => PerRecord::Draws,
            _ => PerRecord::Fixed,
        }
    }
}

impl Projection {
    /// All of them, in the order of the computation.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Out, Self::Gate, Self::Up, Self::Down];

    /// The published name within self-attention or perceptron.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Out => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    fn is_of_mlp(self) -> bool {
        matches!(self, Self::Gate | Self::Up | Self::Down)
    }

    /// The name of layer `index`'s, without `.weight`.
    fn path(self, index: usize) -> String {
        let part = if self.is_of_mlp() { "mlp" } else { "self_attn" };
        format!("model.layers.{index}.{part}.{}", self.name())
    }
}

/// Which projections of every layer have a pair, and of what kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The projections.
    pub on: BTreeSet<Projection>,
    /// Rows of `A` and columns of `B`.
    pub rank: usize,
    /// The pair's product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of the elements of a pair's input that training leaves out.
    pub dropout: f64,
}

impl Lora {
    fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// The names of the pair beside a projection of layer `index`.
    fn names(&self, projection: Projection, index: usize) -> Adapter {
        let path = projection.path(index);
        let name = |part: &str| format!("{path}.{part}weight");
        Adapter { weight: name(""), a: name("lora_A."), b: name("lora_B."), scale: self.scale() }
    }

    /// Checks that the settings can be computed.
    ///
    /// # Errors
    /// [`TensorError::Config`] with the reason.
    pub(super) fn check(&self) -> Result<(), TensorError> {
        let reason = match self {
            Self { rank: 0, .. } => "the rank of LoRA is at least 1".to_owned(),
            Self { dropout, .. } if !(0.0..1.0).contains(dropout) => {
                format!("LoRA's dropout is from 0 to below 1, not {dropout}")
            }
            _ => return Ok(()),
        };
        Err(TensorError::Config(reason))
    }
}

/// The parameters of a pair beside a matrix `[outputs, inputs]`.
fn specs(names: &Adapter, rank: usize, [outputs, inputs]: [usize; 2]) -> [ParameterSpec; 2] {
    // Of rank 1, too, both are matrices, which decay.
    let spec = |name: &String, shape: [usize; 2], init| ParameterSpec {
        decay: true,
        ..ParameterSpec::new(name.clone(), shape, init)
    };
    [spec(&names.a, [rank, inputs], Init::FanIn), spec(&names.b, [outputs, rank], Init::Zeros)]
}

impl Decoder {
    /// Projections of layer `index` with a pair, and their names.
    fn names_of_pairs(&self, index: usize) -> impl Iterator<Item = (&Lora, Projection, Adapter)> {
        self.lora.iter().flat_map(move |lora: &Lora| {
            lora.on.iter().map(move |&projection| (lora, projection, lora.names(projection, index)))
        })
    }

    /// The pairs, for what merges them.
    pub(in crate::modules) fn adapters(&self) -> Vec<Adapter> {
        (0..self.depth).flat_map(|index| self.names_of_pairs(index)).map(|(.., names)| names).collect()
    }

    /// The parameters of all pairs.
    pub(super) fn lora_parameters(&self) -> Vec<ParameterSpec> {
        let of_all = (0..self.depth).flat_map(|index| self.names_of_pairs(index));
        of_all
            .flat_map(|(lora, projection, names)| specs(&names, lora.rank, self.sizes(projection)))
            .collect()
    }

    /// Multiply-adds of the pairs of one layer, for one token.
    pub(super) fn lora_macs(&self) -> u64 {
        let Some(lora) = &self.lora else { return 0 };
        let thin = lora.on.iter().map(|&projection| self.sizes(projection).iter().sum::<usize>());
        (lora.rank * thin.sum::<usize>()) as u64
    }

    /// The pairs of layer `index`.
    pub(super) fn layer_pairs<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        index: usize,
    ) -> Result<Pairs<B>, TensorError> {
        let mut pairs = BTreeMap::new();
        for (lora, projection, names) in self.names_of_pairs(index) {
            let [outputs, inputs] = self.sizes(projection);
            let b = cx.matrix(&names.b, outputs, lora.rank)?;
            let dropout = (cx.mode() == Mode::Train && lora.dropout > 0.0)
                .then(|| Dropout { rate: lora.dropout, random: cx.random(&projection.path(index)) });
            let pair = Pair { a: cx.matrix(&names.a, lora.rank, inputs)?, b, scale: lora.scale(), dropout };
            pairs.insert(projection, pair);
        }
        Ok(Pairs(pairs))
    }
}

/// The pairs of one layer.
pub(super) struct Pairs<B: Backend>(BTreeMap<Projection, Pair<B>>);

struct Pair<B: Backend> {
    /// `[rank, inputs]`
    a: Matrix<B>,
    /// `[outputs, rank]`
    b: Matrix<B>,
    scale: f64,
    dropout: Option<Dropout>,
}

/// What is left out of a pair's input, element by element (Srivastava et al., 2014): the same whenever it is asked, so
/// that a layer that runs again for its gradient leaves out the same.
#[derive(Clone)]
struct Dropout {
    rate: f64,
    random: ChaCha8Rng,
}

impl Dropout {
    /// 0 with probability `rate`, else `1 / (1 - rate)`.
    fn factors<E: Element>(&self, count: usize) -> Vec<E> {
        let mut random = self.random.clone();
        let left_out = (self.rate * 2.0_f64.powi(32)) as u32;
        let kept = (1.0 - self.rate).recip();
        (0..count).map(|_| E::of(if random.next_u32() < left_out { 0.0 } else { kept })).collect()
    }
}

impl<B: Backend> Pair<B> {
    /// `y + scale dropout(x) a^T b^T`
    fn add(&self, backend: &B, y: Matrix<B>, x: Matrix<B>) -> Result<Matrix<B>, TensorError> {
        let &(rows, inputs) = x.shape();
        let x = match &self.dropout {
            Some(dropout) => backend.scale_each(x, dropout.factors(rows * inputs))?,
            None => x,
        };
        let thin = backend.similarities(x, self.a.clone())?;
        let change = backend.similarities(thin, self.b.clone())?;
        let shape @ (rows, outputs) = *y.shape();
        let sequence = |x: Matrix<B>| reshape::<_, _, B>(x, (1, rows, outputs));
        let sum = backend.residual(sequence(y)?, sequence(change)?, None, Some(&[self.scale]))?;
        reshape::<_, _, B>(sum, shape)
    }
}

impl<B: Backend> Pairs<B> {
    /// Whether self-attention has one.
    pub(super) fn in_attention(&self) -> bool {
        self.0.keys().any(|projection| !projection.is_of_mlp())
    }

    /// Whether the perceptron has one.
    pub(super) fn in_mlp(&self) -> bool {
        self.0.keys().any(|projection| projection.is_of_mlp())
    }

    /// `x w^T`, and what the pair adds.
    pub(super) fn linear(
        &self,
        backend: &B,
        projection: Projection,
        x: Matrix<B>,
        w: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        let y = backend.linear(x.clone(), w, None)?;
        self.add(backend, projection, y, x)
    }

    /// `onto + x w^T`, and what the pair adds.
    pub(super) fn linear_onto(
        &self,
        backend: &B,
        projection: Projection,
        onto: Matrix<B>,
        (x, w): (Matrix<B>, Matrix<B>),
    ) -> Result<Matrix<B>, TensorError> {
        let y = backend.linear_onto(onto, x.clone(), w)?;
        self.add(backend, projection, y, x)
    }

    fn add(
        &self,
        backend: &B,
        projection: Projection,
        y: Matrix<B>,
        x: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        match self.0.get(&projection) {
            Some(pair) => pair.add(backend, y, x),
            None => Ok(y),
        }
    }

    /// The perceptron branch of a layer, `[B, N, C]`.
    pub(super) fn mlp(&self, backend: &B, x: Seq<B>, w: LlamaMlp<B>) -> Result<Seq<B>, TensorError> {
        if !self.in_mlp() {
            return backend.llama_mlp(x, w);
        }
        let shape @ (batch, len, width) = *x.shape();
        let rows = reshape::<_, _, B>(x, (batch * len, width))?;
        let normed = backend.rms_norm(rows.clone(), w.norm.weight, w.norm.eps)?;
        let gate = self.linear(backend, Projection::Gate, normed.clone(), w.gate)?;
        let up = self.linear(backend, Projection::Up, normed, w.up)?;
        let hidden = backend.gated(gate, up)?;
        let out = self.linear_onto(backend, Projection::Down, rows, (hidden, w.down))?;
        reshape::<_, _, B>(out, shape)
    }
}

impl<B: Backend> Weights<B> for Pairs<B> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        let on_tape = |(projection, pair): (&Projection, &Pair<B>)| {
            let (a, b) = (pair.a.with_tape(tape), pair.b.with_tape(tape));
            (*projection, Pair { a, b, scale: pair.scale, dropout: pair.dropout.clone() })
        };
        Self(self.0.iter().map(on_tape).collect())
    }

    fn tape(&self) -> Tape<B> {
        self.0.values().fold(Tape::off(), |tape, pair| tape.merge(pair.a.tape()).merge(pair.b.tape()))
    }
}
