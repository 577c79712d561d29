//! Which keys the queries of a tile see: how many have to be looked at, and which of those are hidden.
//!
//! Must not know: heads, strides of q, k and v, probabilities.

use super::{Mask, Shape, padded::Padded, product::Terms};

/// Consecutive queries of one record.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// The first query.
    pub first: usize,
    /// Number of queries.
    pub count: usize,
}

/// What the queries of one record see.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a> {
    /// `[Nk]`: true where a key may be seen at all.
    keep: Option<&'a [bool]>,
    /// `[Nq, Nk]`: true where a query may see a key.
    pattern: Option<&'a [bool]>,
    /// Query `i` sees the keys before `i + offset`.
    causal: Option<isize>,
    /// No query sees a key from here on.
    keys: usize,
}

impl<'a> Visible<'a> {
    /// The part of `mask` that concerns `record`.
    pub fn new(mask: Mask<'a>, shape: &Shape, record: usize) -> Self {
        let Shape { q_len, k_len, .. } = *shape;
        let all = Self { keep: None, pattern: None, causal: None, keys: k_len };
        let diagonal = Some(1 + k_len as isize - q_len as isize);
        match mask {
            Mask::None => all,
            Mask::Causal => Self { causal: diagonal, ..all },
            Mask::KeyPadding { keep, causal } => {
                let keep = &keep[record * k_len..][..k_len];
                let keys = keep.iter().rposition(|keep| *keep).map_or(0, |last| last + 1);
                Self { keep: Some(keep), causal: diagonal.filter(|_| causal), keys, ..all }
            }
            Mask::Pattern(pattern) => {
                Self { pattern: Some(&pattern[record * q_len * k_len..][..q_len * k_len]), ..all }
            }
        }
    }

    /// No query of the tile sees a key from here on.
    pub fn keys(&self, tile: Tile) -> usize {
        let end = tile.first + tile.count - 1;
        self.causal.map_or(self.keys, |offset| end.saturating_add_signed(offset).min(self.keys))
    }

    /// The keys that each query of the tile needs, in sums over keys.
    pub fn keys_of_query(&self, tile: Tile) -> Terms {
        self.causal.map_or(Terms::All, |offset| Terms::Before(tile.first as isize + offset))
    }

    /// The queries of the tile that each key needs, in sums over queries.
    pub fn queries_of_key(&self, tile: Tile) -> Terms {
        self.causal.map_or(Terms::All, |offset| Terms::From(1 - offset - tile.first as isize))
    }

    /// Sets the scores of hidden keys to minus infinity. `scores: [keys, queries of the tile]`
    pub fn hide(&self, tile: Tile, scores: &mut Padded) {
        if let Some(keep) = self.keep {
            hide_padding(keep, scores);
        }
        if let Some(offset) = self.causal {
            hide_future(tile.first as isize + offset, scores);
        }
        if let Some(pattern) = self.pattern.filter(|_| scores.rows() > 0) {
            hide_pattern(&pattern[tile.first * self.keys..], scores);
        }
    }
}

/// `keep: [keys]`
fn hide_padding(keep: &[bool], scores: &mut Padded) {
    let (stride, queries) = (scores.stride(), scores.cols());
    for (row, keep) in scores.as_mut_slice().chunks_exact_mut(stride).zip(keep) {
        if !keep {
            row[..queries].fill(f32::NEG_INFINITY);
        }
    }
}

/// Query `i` of the tile sees the keys before `i + offset`.
fn hide_future(offset: isize, scores: &mut Padded) {
    let (stride, queries) = (scores.stride(), scores.cols());
    let first = offset.max(0) as usize;
    for (key, row) in scores.as_mut_slice().chunks_exact_mut(stride).enumerate().skip(first) {
        let blind = (key + 1).saturating_add_signed(-offset);
        row[..blind.min(queries)].fill(f32::NEG_INFINITY);
    }
}

/// `pattern: [at least queries, keys]`
fn hide_pattern(pattern: &[bool], scores: &mut Padded) {
    let (keys, queries, stride) = (scores.rows(), scores.cols(), scores.stride());
    let scores = scores.as_mut_slice();
    for (query, pattern) in pattern.chunks_exact(keys).take(queries).enumerate() {
        for (key, seen) in pattern.iter().enumerate() {
            if !seen {
                scores[key * stride + query] = f32::NEG_INFINITY;
            }
        }
    }
}
