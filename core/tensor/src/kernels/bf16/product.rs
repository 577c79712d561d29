//! The matrix product of a block of rows with packed weights, tile by tile.
//!
//! Must not know: what an epilogue does with a tile; threads.

use super::element::{Bf16, LINE};
use super::pack::Panels;
use super::scratch::Scratch;
use super::tile::{Engine, ROW_STEP, ROWS, Tile};

/// Rows that one task takes through a whole sub-layer: their hidden rows stay in the second-level cache, and each
/// panel of weights is used for several tiles once it is there.
pub const BLOCK: usize = 48;

/// From one row of `width` bf16 numbers to the next: whole lines, and an odd number of them, because rows a
/// multiple of 4 KiB apart would all fall into the same few places of the first-level cache.
pub fn stride_of(width: usize) -> usize {
    (width.div_ceil(LINE) | 1) * LINE
}

/// Rows of bf16 that a product is about to read: whatever was written there last, until it is written again.
#[derive(Debug)]
pub struct Rows {
    data: Scratch<Bf16>,
    /// Rows that have a meaning; those that a tile reads beyond them may hold anything.
    count: usize,
    /// From one row to the next.
    stride: usize,
}

impl Rows {
    /// Room for `count` rows of `width` numbers.
    pub fn take(count: usize, width: usize) -> Self {
        let stride = stride_of(width);
        let mut data = Scratch::<Bf16>::take(count.next_multiple_of(ROW_STEP) * stride);
        if !width.is_multiple_of(2) {
            // The partner of an odd last input meets a weight of zero, and zero times an old NaN would be NaN.
            data.chunks_exact_mut(stride).for_each(|row| row[width] = Bf16::default());
        }
        Self { data, count, stride }
    }

    /// From one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, to be written.
    pub fn data(&mut self) -> &mut [Bf16] {
        &mut self.data[..self.count * self.stride]
    }
}

/// The part of a product's result that one tile holds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// First row, counted in the block.
    pub row: usize,
    /// Rows of the tile that have a meaning.
    pub rows: usize,
    /// First output.
    pub column: usize,
    /// Outputs that have a meaning; at most 32, or 16 of a gated product.
    pub columns: usize,
}

/// Takes tiles of sums to where they belong.
pub trait Epilogue {
    /// Is told which part comes next, before it is multiplied.
    fn expect(&self, _span: Span) {}

    /// Stores one tile; each element of the result is in exactly one.
    fn store(&mut self, tile: &Tile, span: Span);
}

/// Hands `x w^T` to `epilogue`.
pub fn product(engine: Engine, x: &Rows, w: Panels<'_>, epilogue: &mut impl Epilogue) {
    assert!(w.width() <= x.stride, "rows are as long as weights have inputs");
    let mut tile = Tile::ZERO;
    for (column, panel) in w.iter() {
        let columns = w.step.min(w.outputs - column);
        for row in (0..x.count).step_by(ROWS) {
            let span = Span { row, rows: ROWS.min(x.count - row), column, columns };
            epilogue.expect(span);
            engine.multiply(&x.data[row * x.stride..], x.stride, span.rows, panel, &mut tile);
            epilogue.store(&tile, span);
        }
    }
}
