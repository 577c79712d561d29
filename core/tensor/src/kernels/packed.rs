//! Products of tiles of rows with a matrix that is packed once for all of them: `x [R, K] b [K, N]`.
//!
//! A layer's weights meet many tiles of rows. `gemm` would pack them again for each tile; here a [`Packed`] matrix is
//! laid out once, in panels of as many columns as a micro-kernel keeps in registers, and every tile reads it as it lies.
//! Each element of the result is one chain of fused multiply-adds in the order of `k`, so its bits depend on its row and
//! column alone: not on the number of rows, the tile, the threads, or on AVX2 against AVX-512.
//!
//! Must not know: layers, bias, gradients, threads (packing apart).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

use super::math::fma;
use super::memory::{Lease, lease};
use super::simd::{BASELINE_FMA, Level, level, multiversion};

/// Terms that a micro-kernel adds before it turns to the next panel: so much of a panel and of a tile's rows stays in
/// the second-level cache.
const DEPTH: usize = 512;
/// Rows of a panel that packing fills at a time: so many cache lines of it stay close.
const TURN: usize = 16;

/// A matrix `[K, N]` in panels.
///
/// Panel `p` holds columns `p width ..` as `[K, width]`; the last one is padded with zeros.
#[derive(Debug)]
pub struct Packed {
    data: Lease,
    depth: usize,
    columns: usize,
    level: Level,
}

/// What becomes of the old contents of the output.
pub use super::matmul::Write;

/// Columns of a panel.
pub fn width(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 64,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 16,
        Level::Baseline => 8,
    }
}

impl Packed {
    /// The transpose of `w` `[N, K]`, row `n` of `w` multiplied by `scale[n]` if there is one: for `x w^T`.
    pub fn transposed(w: &[f32], depth: usize, scale: Option<&[f32]>) -> Self {
        let columns = w.len() / depth.max(1);
        assert_eq!(w.len(), columns * depth, "weights are a matrix");
        Self::new(depth, columns, |first, panel, width| {
            let rows = &w[first * depth..columns.min(first + width) * depth];
            let scale = scale.map(|scale| &scale[first..]);
            match width {
                64 => turn_64(rows, depth, scale, panel),
                16 => turn_16(rows, depth, scale, panel),
                _ => turn::<8>(rows, depth, scale, panel),
            }
        })
    }

    /// `w` `[K, N]` itself, row `k` multiplied by `scale[k]` if there is one: for `y w`.
    pub fn straight(w: &[f32], columns: usize, scale: Option<&[f32]>) -> Self {
        let depth = w.len() / columns.max(1);
        assert_eq!(w.len(), columns * depth, "weights are a matrix");
        Self::new(depth, columns, |first, panel, width| {
            let count = width.min(columns - first);
            for (k, panel) in panel.chunks_exact_mut(width).enumerate() {
                let factor = scale.map_or(1.0, |scale| scale[k]);
                let row = &w[k * columns + first..][..count];
                panel[..count].iter_mut().zip(row).for_each(|(p, w)| *p = factor * w);
                panel[count..].fill(0.0);
            }
        })
    }

    /// `fill(first column, panel, width)` for every panel, on the pool.
    fn new(depth: usize, columns: usize, fill: impl Fn(usize, &mut [f32], usize) + Sync) -> Self {
        let level = level();
        let width = width(level);
        let mut data = lease(columns.div_ceil(width) * width * depth);
        if !data.is_empty() {
            let panels = data.par_chunks_exact_mut(width * depth).enumerate();
            panels.for_each(|(p, panel)| fill(p * width, panel, width));
        }
        Self { data, depth, columns, level }
    }

    /// `out = x b` or `out += x b`, on the calling thread.
    ///
    /// # Shapes
    /// - `x: [R, K]`, `out: [R, N]`
    pub fn product(&self, x: &[f32], out: &mut [f32], write: Write) {
        let rows = out.len() / self.columns.max(1);
        assert!(x.len() == rows * self.depth && out.len() == rows * self.columns, "rows of a product agree");
        if rows == 0 {
            return;
        }
        if self.depth == 0 && write == Write::Overwrite {
            out.fill(0.0);
        }
        let width = width(self.level);
        for from in (0..self.depth).step_by(DEPTH) {
            let depth = DEPTH.min(self.depth - from);
            let start = if from == 0 && write == Write::Overwrite { Start::Zero } else { Start::Out };
            for first in (0..self.columns).step_by(width) {
                let panel = &self.data[first * self.depth + from * width..][..depth * width];
                let block = Block {
                    x: &x[from..],
                    x_stride: self.depth,
                    panel,
                    depth,
                    columns: width.min(self.columns - first),
                    start,
                };
                // SAFETY: `level` found the instructions.
                unsafe { rows_of_panel(self.level, &block, rows, &mut out[first..], self.columns) };
            }
        }
    }

    /// Elements of the panels, as [`Packed`] lays them out.
    pub fn terms(&self, at: Range<usize>) -> &[f32] {
        &self.data[at]
    }
}

/// `out[i, ..columns] = start + x[i, ..depth] panel` for `rows` rows, `out_stride` elements apart.
///
/// # Safety
/// The processor has the instructions of `level`.
pub unsafe fn rows_of_panel(
    level: Level,
    block: &Block<'_>,
    rows: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let Block { x, x_stride, panel, depth, columns, .. } = *block;
    assert!(
        rows > 0
            && x.len() >= (rows - 1) * x_stride + depth
            && panel.len() == depth * width(level)
            && out.len() >= (rows - 1) * out_stride + columns
            && (1..=width(level)).contains(&columns),
        "a block has the sizes that it says"
    );
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller promises the instructions; the sizes were checked.
        Level::Avx512 => unsafe { avx512::rows(block, rows, out, out_stride) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2::rows(block, rows, out, out_stride) },
        Level::Baseline => portable::rows(block, rows, out, out_stride),
    }
}

/// Rows of `w` `[at most W, K]`, each times its scale, as the columns of a panel `[K, W]`.
#[inline(always)]
fn turn<const W: usize>(w: &[f32], depth: usize, scale: Option<&[f32]>, panel: &mut [f32]) {
    let panel = panel.as_chunks_mut::<W>().0;
    if w.len() < W * depth {
        panel.as_flattened_mut().fill(0.0);
    }
    for (block, panel) in panel.chunks_mut(TURN).enumerate() {
        for (c, row) in w.chunks_exact(depth).take(W).enumerate() {
            let factor = scale.map_or(1.0, |scale| scale[c]);
            let row = &row[block * TURN..][..panel.len()];
            for (panel, w) in panel.iter_mut().zip(row) {
                panel[c] = factor * w;
            }
        }
    }
}

multiversion! {
    fn turn_64(w: &[f32], depth: usize, scale: Option<&[f32]>, panel: &mut [f32]) {
        turn::<64>(w, depth, scale, panel);
    }

    fn turn_16(w: &[f32], depth: usize, scale: Option<&[f32]>, panel: &mut [f32]) {
        turn::<16>(w, depth, scale, panel);
    }
}

/// Where a chain of additions starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Zero,
    Out,
}

/// Some terms of one panel: `out[i, ..columns] = start + x[i, ..depth] panel`.
pub struct Block<'a> {
    /// `[R, K]` from the first term on: row `i` starts at `i * x_stride` and has at least `depth` elements.
    pub x: &'a [f32],
    pub x_stride: usize,
    /// `[depth, width]`
    pub panel: &'a [f32],
    pub depth: usize,
    /// At most the panel's width; an output row has so many elements from its start on.
    pub columns: usize,
    pub start: Start,
}
