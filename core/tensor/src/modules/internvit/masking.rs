//! Leaves out a random part of the patch tokens in training.
//!
//! Fast language-image pre-training (FLIP; Li et al., 2023): after positions are added, each record keeps a
//! random subset of its patches and the class token.

use dfdx::prelude::HasShape;
use rand::seq::index;

use crate::{
    backend::Backend,
    error::TensorError,
    module::Forward,
    tensor::{Seq, reshape},
};

/// Keeps the class token and `1 - ratio` of the patches, at least one, in their order: `[B, N + 1, C]` to
/// `[B, kept + 1, C]`.
pub(super) fn keep_some<B: Backend>(
    cx: &Forward<'_, B>,
    x: Seq<B>,
    ratio: f64,
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let patches = len - 1;
    let kept = (((1.0 - ratio) * patches as f64).round() as usize).clamp(1, patches);
    let mut random = cx.random("mask");
    let mut rows = Vec::with_capacity(batch * (kept + 1));
    for record in 0..batch {
        let mut chosen = index::sample(&mut random, patches, kept).into_vec();
        chosen.sort_unstable();
        let first = (record * len) as u32;
        rows.push(first);
        rows.extend(chosen.into_iter().map(|patch| first + 1 + patch as u32));
    }
    let table = reshape::<_, _, B>(x, (batch * len, width))?;
    reshape::<_, _, B>(cx.backend().embedding(table, &rows, None)?, (batch, kept + 1, width))
}
