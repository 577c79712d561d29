//! Keys and values of what has been read, so that a further token costs one row a layer.

use std::sync::Arc;

use dfdx::prelude::HasShape;

use super::lora::{Pairs, Projection};
use crate::{
    backend::{Backend, LlamaAttention},
    error::{TensorError, expect_size},
    mask::Mask,
    tensor::{Matrix, Seq, gather_rows, reshape},
};

/// Keys, after their rotation, and values of one layer.
#[derive(Debug, Clone)]
struct Layer<B: Backend> {
    /// `[B, N, C]`
    keys: Seq<B>,
    /// `[B, N, C]`
    values: Seq<B>,
}

/// What a decoder keeps of a batch of sequences. Clones share memory.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<Layer<B>>,
    /// `[B, N]`, true where a row may be attended to.
    seen: Vec<bool>,
    /// The position of each sequence's next token.
    next: Vec<u32>,
}

impl<B: Backend> KvCache<B> {
    /// Sequences that nothing is kept of yet; `seen` is `[B, N]` of the rows that are about to be read.
    pub(super) fn begin(batch: usize, seen: Vec<bool>) -> Self {
        let next = seen.chunks(seen.len().div_ceil(batch).max(1)).map(real_rows).collect();
        Self { layers: Vec::new(), seen, next }
    }

    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.next.len()
    }

    /// Rows that are kept of each sequence, padding with them.
    pub fn len(&self) -> usize {
        self.seen.len() / self.batch().max(1)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The position of each sequence's next token.
    pub(super) fn positions(&self) -> Vec<u32> {
        self.next.clone()
    }

    /// Makes room for one more token of each sequence.
    pub(super) fn grow(&mut self) {
        let len = self.len();
        self.seen = self.seen.chunks(len).flat_map(|row| row.iter().copied().chain([true])).collect();
        self.next.iter_mut().for_each(|next| *next += 1);
    }

    /// The mask of one more token, which sees all that is real.
    pub(super) fn mask(&self) -> Mask {
        Mask::Padding { keep: Arc::from(self.seen.as_slice()), causal: false }
    }

    /// Some of the sequences, in this order; one may come more than once.
    ///
    /// # Errors
    /// [`TensorError::Shape`] for a sequence that is not there.
    pub fn select(&self, backend: &B, sequences: &[usize]) -> Result<Self, TensorError> {
        if sequences.iter().copied().eq(0..self.batch()) {
            return Ok(self.clone());
        }
        if let Some(missing) = sequences.iter().find(|sequence| **sequence >= self.batch()) {
            return Err(TensorError::shape("sequence of a cache", 0..self.batch(), missing));
        }
        let len = self.len();
        let chosen = |x: &Seq<B>| {
            let &(batch, len, width) = x.shape();
            let rows = reshape::<_, _, B>(x.clone(), (batch, len * width))?;
            let places: Vec<u32> = sequences.iter().map(|sequence| *sequence as u32).collect();
            reshape::<_, _, B>(gather_rows(backend, rows, &places)?, (sequences.len(), len, width))
        };
        let layer =
            |layer: &Layer<B>| Ok(Layer { keys: chosen(&layer.keys)?, values: chosen(&layer.values)? });
        Ok(Self {
            layers: self.layers.iter().map(layer).collect::<Result<_, TensorError>>()?,
            seen: sequences
                .iter()
                .flat_map(|sequence| self.seen[sequence * len..][..len].iter().copied())
                .collect(),
            next: sequences.iter().map(|sequence| self.next[*sequence]).collect(),
        })
    }
}

fn real_rows(row: &[bool]) -> u32 {
    row.iter().filter(|real| **real).count() as u32
}

/// A layer's self-attention step by step, for what the fused one does not do: LoRA, and keeping keys and values. Of whole
/// sequences (`[B, N, C]`, one position per column) if nothing of this layer is kept yet, else of one more token each (`[B,
/// 1, C]`, one position per sequence).
pub(super) fn attend<B: Backend>(
    backend: &B,
    x: Seq<B>,
    (w, pairs): (LlamaAttention<B>, &Pairs<B>),
    positions: &[u32],
    mask: &Mask,
    kept: Option<(&mut KvCache<B>, usize)>,
) -> Result<Seq<B>, TensorError> {
    let shape @ (batch, len, width) = *x.shape();
    let head_dim = width / w.heads;
    let first = kept.as_ref().is_none_or(|(cache, index)| cache.layers.len() == *index);
    if let (false, Some((cache, _))) = (first, &kept) {
        expect_size("tokens, one for each sequence", 1, len)?;
        expect_size("sequences of a cache", cache.batch(), batch)?;
    }
    let rows = reshape::<_, _, B>(x, (batch * len, width))?;
    let normed = backend.rms_norm(rows.clone(), w.norm.weight, w.norm.eps)?;
    let project = |projection, weight: Matrix<B>| pairs.linear(backend, projection, normed.clone(), weight);
    // One token each has one position each: they lie in one sequence while they are turned.
    let turned = |rows: Matrix<B>| {
        let width = rows.shape().1;
        let columns = if first { (batch, len, width) } else { (1, batch, width) };
        let rows = reshape::<_, _, B>(rows, columns)?;
        let rows = backend.rotary(rows, width / head_dim, w.rope_base, positions)?;
        reshape::<_, _, B>(rows, (batch * len, width))
    };
    let of_all_heads =
        |rows: Matrix<B>| reshape::<_, _, B>(for_each_reader(backend, rows, w.heads, head_dim)?, shape);
    let queries = reshape::<_, _, B>(turned(project(Projection::Query, w.query)?)?, shape)?;
    let keys = of_all_heads(turned(project(Projection::Key, w.key)?)?)?;
    let values = of_all_heads(project(Projection::Value, w.value)?)?;
    let layer = match kept.as_ref().and_then(|(cache, index)| cache.layers.get(*index)) {
        None => Layer { keys, values },
        Some(past) => Layer {
            keys: backend.concat_rows(past.keys.clone(), keys)?,
            values: backend.concat_rows(past.values.clone(), values)?,
        },
    };
    let scale = (head_dim as f64).powf(-0.5);
    let out = backend.attention([queries, layer.keys.clone(), layer.values.clone()], w.heads, scale, mask)?;
    if let Some((cache, index)) = kept {
        match cache.layers.get_mut(index) {
            Some(past) => *past = layer,
            None => cache.layers.push(layer),
        }
    }
    let out = reshape::<_, _, B>(out, (batch * len, width))?;
    let out = pairs.linear_onto(backend, Projection::Out, rows, (out, w.out))?;
    reshape::<_, _, B>(out, shape)
}

/// Keys or values `[R, kept heads * D]`, each head once for every head of queries that reads it, `[R, heads * D]`.
fn for_each_reader<B: Backend>(
    backend: &B,
    rows: Matrix<B>,
    heads: usize,
    head_dim: usize,
) -> Result<Matrix<B>, TensorError> {
    let &(count, width) = rows.shape();
    let kept = width / head_dim;
    if kept == heads {
        return Ok(rows);
    }
    let readers = heads / kept;
    let places: Vec<u32> = (0..count * heads).map(|place| (place / readers) as u32).collect();
    let rows = reshape::<_, _, B>(rows, (count * kept, head_dim))?;
    reshape::<_, _, B>(gather_rows(backend, rows, &places)?, (count, heads * head_dim))
}
