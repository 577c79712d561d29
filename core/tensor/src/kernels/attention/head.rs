//! One head of one record: its rows in the caller's slices, and its passes over tiles of queries.
//!
//! Scores are held as `[keys, queries]`: a tile of queries lies side by side in vectors, and sums over keys
//! run down; see [`super::super::softmax`].
//!
//! Must not know: other heads, threads.

use super::{
    super::{
        softmax::{gradient_columns, probability_columns, softmax_columns},
        split::SharedMut,
    },
    Inputs, Shape, TILE,
    padded::{Padded, Rows, UNIT, View},
    product::{Left, Target, Terms, Write, product},
    targets::Targets,
    visible::{Tile, Visible},
};

/// What a task computes on; reused from head to head.
#[derive(Default)]
pub struct Scratch {
    /// Copies of the head's rows, where they cannot be used in place.
    copies: Copies,
    /// `[d, queries]` of a tile: queries times `scale`, or the output's gradient.
    columns: Padded,
    /// `[keys, queries]` of a tile: scores, then probabilities.
    p: Padded,
    /// `[keys, queries]` of a tile: gradients of the probabilities, then of the scores.
    ds: Padded,
    /// `[queries, d]` of a tile: output or gradient on its way to the caller.
    rows: Padded,
    /// `[Nk, d]`: gradient of the keys, summed over tiles.
    dk: Padded,
    /// `[Nk, d]`: gradient of the values, summed over tiles.
    dv: Padded,
}

#[derive(Default)]
struct Copies {
    k: Padded,
    v: Padded,
    tile: Padded,
}

/// Where a head lies.
pub struct Head<'a> {
    inputs: Inputs<'a>,
    visible: Visible<'a>,
    scale: f32,
    q: Rows,
    k: Rows,
    v: Rows,
    out: Rows,
}

impl<'a> Head<'a> {
    /// Head number `index`, counted over the batch.
    pub fn new(inputs: Inputs<'a>, shape: &Shape, index: usize) -> Self {
        let (record, column) = (index / shape.heads, index % shape.heads * shape.head_dim);
        let width = shape.head_dim;
        let whole = width.is_multiple_of(UNIT);
        let rows = |count: usize, stride: usize, in_place: bool| Rows {
            first: record * count * stride + column,
            stride,
            count,
            width,
            in_place,
        };
        // A copy of the keys pays when several tiles read it: its rows are closer together.
        let one_tile = shape.q_len <= TILE;
        Self {
            inputs,
            visible: Visible::new(inputs.mask, shape, record),
            scale: shape.scale,
            q: rows(shape.q_len, shape.q_stride, whole),
            k: rows(shape.k_len, shape.k_stride, whole && one_tile),
            v: rows(shape.k_len, shape.v_stride, whole && one_tile),
            out: rows(shape.q_len, shape.out_stride, whole),
        }
    }

    /// Writes the head's part of `out`, and its `lse: [Nq]`.
    ///
    /// # Safety
    /// The head's rows must lie in `out`, and nobody else may touch them meanwhile.
    pub unsafe fn forward(&self, scratch: &mut Scratch, out: SharedMut, lse: &mut [f32]) {
        let Scratch { copies, columns, p, rows, .. } = scratch;
        let k = self.k.view(self.inputs.k, &mut copies.k);
        let v = self.v.view(self.inputs.v, &mut copies.v);
        for (tile, lse) in tiles(self.q.count).zip(lse.chunks_mut(TILE)) {
            self.scores(tile, k, columns, p);
            let (mut sums, mut inverse) = ([0.0; TILE], [0.0; TILE]);
            let (stride, padded) = (p.stride(), tile.count.next_multiple_of(UNIT));
            softmax_columns(p.as_mut_slice(), stride, &mut sums[..padded], &mut inverse[..padded]);
            lse.copy_from_slice(&sums[..tile.count]);
            let weights = Left::transposed(p.view()).times(&inverse);
            let terms = self.visible.keys_of_query(tile);
            let target = self.out.range(tile.first, tile.count);
            // SAFETY: promised by the caller.
            unsafe { product_to(out, target, rows, weights, v, terms, Write::Overwrite) };
        }
    }

    /// Adds the head's part of the gradients.
    ///
    /// # Safety
    /// The head's rows must lie in the slices of `targets`, and nobody else may touch them meanwhile.
    pub unsafe fn backward(&self, scratch: &mut Scratch, lse: &[f32], dout: &[f32], targets: &Targets) {
        let Scratch { copies, columns, p, ds, rows, dk, dv } = scratch;
        let k = self.k.view(self.inputs.k, &mut copies.k);
        let v = self.v.view(self.inputs.v, &mut copies.v);
        let mut dk = targets.dk.map(|slice| KeySums::new(slice, self.k, dk));
        let mut dv = targets.dv.map(|slice| KeySums::new(slice, self.v, dv));
        for (tile, lse) in tiles(self.q.count).zip(lse.chunks(TILE)) {
            let (q_rows, out_rows) =
                (self.q.range(tile.first, tile.count), self.out.range(tile.first, tile.count));
            let queries = self.visible.queries_of_key(tile);
            self.scores(tile, k, columns, p);
            let mut sums = [0.0; TILE];
            sums[..tile.count].copy_from_slice(lse);
            let (stride, padded) = (p.stride(), tile.count.next_multiple_of(UNIT));
            probability_columns(p.as_mut_slice(), stride, &sums[..padded]);
            if let Some(dv) = &mut dv {
                let dout = out_rows.view(dout, &mut copies.tile);
                // SAFETY: promised by the caller.
                unsafe { dv.add(Left::new(p.view()), dout, queries) };
            }
            if !targets.needs_scores() {
                continue;
            }
            columns.pack_transposed(dout, out_rows, 1.0);
            ds.reshape(p.rows(), tile.count);
            let v = Left::new(v.first_rows(p.rows()));
            product(v, columns.view(), Target::new(ds), Terms::All, Write::Overwrite);
            gradient_columns(p.as_slice(), ds.as_mut_slice(), stride, padded, self.scale);
            if let Some(dq) = targets.dq {
                let terms = self.visible.keys_of_query(tile);
                // SAFETY: promised by the caller.
                unsafe { product_to(dq, q_rows, rows, Left::transposed(ds.view()), k, terms, Write::Add) };
            }
            if let Some(dk) = &mut dk {
                let q = q_rows.view(self.inputs.q, &mut copies.tile);
                // SAFETY: promised by the caller.
                unsafe { dk.add(Left::new(ds.view()), q, queries) };
            }
        }
        for sums in [dk, dv].into_iter().flatten() {
            // SAFETY: promised by the caller.
            unsafe { sums.finish() };
        }
    }

    /// `p = (scale q k^T)^T` for the keys that the tile has to look at, hidden ones at minus infinity.
    fn scores(&self, tile: Tile, k: View<'_>, columns: &mut Padded, p: &mut Padded) {
        columns.pack_transposed(self.inputs.q, self.q.range(tile.first, tile.count), self.scale);
        p.reshape(self.visible.keys(tile), tile.count);
        let k = Left::new(k.first_rows(p.rows()));
        product(k, columns.view(), Target::new(p), Terms::All, Write::Overwrite);
        self.visible.hide(tile, p);
    }
}

/// The tiles of `queries` queries.
fn tiles(queries: usize) -> impl Iterator<Item = Tile> {
    (0..queries).step_by(TILE).map(move |first| Tile { first, count: TILE.min(queries - first) })
}

/// A product that goes to `rows` of `out`, through `scratch` if need be.
///
/// # Safety
/// The rows must lie in `out`, and nobody else may touch them meanwhile.
unsafe fn product_to(
    out: SharedMut,
    rows: Rows,
    scratch: &mut Padded,
    a: Left<'_>,
    b: View<'_>,
    terms: Terms,
    write: Write,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if rows.in_place {
            return product(a, b, Target::shared(out, rows), terms, write);
        }
        scratch.reshape(rows.count, rows.width);
        product(a, b, Target::new(scratch), terms, Write::Overwrite);
        scratch.put(out, rows, write);
    }
}

/// A gradient of keys or values, to which every tile adds.
struct KeySums<'a> {
    slice: SharedMut,
    rows: Rows,
    sums: &'a mut Padded,
}

impl<'a> KeySums<'a> {
    fn new(slice: SharedMut, rows: Rows, sums: &'a mut Padded) -> Self {
        if !rows.in_place {
            sums.reset(rows.count, rows.width);
        }
        Self { slice, rows, sums }
    }

    /// # Safety
    /// The rows must lie in the slice, and nobody else may touch them meanwhile.
    unsafe fn add(&mut self, a: Left<'_>, b: View<'_>, terms: Terms) {
        let target = if self.rows.in_place {
            // SAFETY: promised by the caller.
            unsafe { Target::shared(self.slice, self.rows) }
        } else {
            Target::new(self.sums)
        };
        product(a, b, target, terms, Write::Add);
    }

    /// # Safety
    /// As for [`KeySums::add`].
    unsafe fn finish(self) {
        if !self.rows.in_place {
            // SAFETY: promised by the caller.
            unsafe { self.sums.put(self.slice, self.rows, Write::Add) };
        }
    }
}
