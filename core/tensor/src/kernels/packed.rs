//! Products of rows with a matrix that is packed once: `x [R, K] b [K, N]`.
//!
//! A layer's weights meet many tiles of rows. `gemm` would pack them again for each tile; here a [`Packed`] matrix is
//! laid out once, in panels of as many columns as a micro-kernel keeps in registers, and every tile reads it as it lies.
//! Each element of the result is one chain of fused multiply-adds in the order of `k`, so its bits depend on its row and
//! column alone: not on the number of rows, the tile, the threads, or on AVX2 against AVX-512.
//!
//! Must not know: layers, bias, gradients, threads (packing apart).

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
fn width(level: Level) -> usize {
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
                self.panel_rows(&block, rows, &mut out[first..], self.columns);
            }
        }
    }

    fn panel_rows(&self, block: &Block<'_>, rows: usize, out: &mut [f32], out_stride: usize) {
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` found the features; `product` checked the sizes that `Block` documents.
            Level::Avx512 => unsafe { avx512::rows(block, rows, out, out_stride) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe { avx2::rows(block, rows, out, out_stride) },
            Level::Baseline => portable::rows(block, rows, out, out_stride),
        }
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
enum Start {
    Zero,
    Out,
}

/// Some terms of one panel: `out[i, ..columns] = start + x[i, ..depth] panel`.
struct Block<'a> {
    /// `[R, K]` from the first term on: row `i` starts at `i * x_stride` and has at least `depth` elements.
    x: &'a [f32],
    x_stride: usize,
    /// `[depth, width]`
    panel: &'a [f32],
    depth: usize,
    /// At most the panel's width; an output row has so many elements from its start on.
    columns: usize,
    start: Start,
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! Six rows by 64 columns: 24 accumulators of 16 lanes.

    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps,
    };

    use super::{Block, Start};

    /// All rows of a block.
    ///
    /// # Safety
    /// The processor has AVX-512F, and the sizes are as [`Block`] says.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn rows(block: &Block<'_>, rows: usize, out: &mut [f32], out_stride: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            match block.columns.div_ceil(16) {
                1 => vectors::<1>(block, rows, out, out_stride),
                2 => vectors::<2>(block, rows, out, out_stride),
                3 => vectors::<3>(block, rows, out, out_stride),
                _ => vectors::<4>(block, rows, out, out_stride),
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn vectors<const V: usize>(block: &Block<'_>, rows: usize, out: &mut [f32], stride: usize) {
        let mut row = 0;
        // SAFETY: rows `row .. row + M` exist; the rest is promised by the caller.
        unsafe {
            while row + 6 <= rows {
                some_rows::<6, V>(block, row, out, stride);
                row += 6;
            }
            match rows - row {
                1 => some_rows::<1, V>(block, row, out, stride),
                2 => some_rows::<2, V>(block, row, out, stride),
                3 => some_rows::<3, V>(block, row, out, stride),
                4 => some_rows::<4, V>(block, row, out, stride),
                5 => some_rows::<5, V>(block, row, out, stride),
                _ => {}
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn some_rows<const M: usize, const V: usize>(
        block: &Block<'_>,
        row: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        let mask = |v: usize| -> __mmask16 {
            let left = block.columns - 16 * v;
            if left >= 16 { !0 } else { (1 << left) - 1 }
        };
        // SAFETY: `M` rows of `x` and `out` start here; masks keep to the columns of `out`, and the panel has 64
        // columns in each of its `depth` rows.
        unsafe {
            let x = block.x.as_ptr().add(row * block.x_stride);
            let out = out.as_mut_ptr().add(row * stride);
            let mut sums = [[_mm512_setzero_ps(); V]; M];
            if block.start == Start::Out {
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_maskz_loadu_ps(mask(v), out.add(m * stride + 16 * v));
                    }
                }
            }
            let mut panel = block.panel.as_ptr();
            for k in 0..block.depth {
                let mut b: [__m512; V] = [_mm512_setzero_ps(); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = _mm512_loadu_ps(panel.add(16 * v));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*x.add(m * block.x_stride + k));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_fmadd_ps(a, b, *sum);
                    }
                }
                panel = panel.add(64);
            }
            for (m, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    _mm512_mask_storeu_ps(out.add(m * stride + 16 * v), mask(v), *sum);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Six rows by 16 columns: 12 accumulators of 8 lanes.

    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{Block, Start};

    /// All rows of a block.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA, and the sizes are as [`Block`] says.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn rows(block: &Block<'_>, rows: usize, out: &mut [f32], stride: usize) {
        let mut row = 0;
        // SAFETY: rows `row .. row + M` exist; the rest is promised by the caller.
        unsafe {
            while row + 6 <= rows {
                some_rows::<6>(block, row, out, stride);
                row += 6;
            }
            match rows - row {
                1 => some_rows::<1>(block, row, out, stride),
                2 => some_rows::<2>(block, row, out, stride),
                3 => some_rows::<3>(block, row, out, stride),
                4 => some_rows::<4>(block, row, out, stride),
                5 => some_rows::<5>(block, row, out, stride),
                _ => {}
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn some_rows<const M: usize>(block: &Block<'_>, row: usize, out: &mut [f32], stride: usize) {
        let out = &mut out[row * stride..];
        // Rows of 16, so that a narrow last panel needs no masks.
        let mut edge = [[0.0_f32; 16]; M];
        if block.start == Start::Out {
            for (m, edge) in edge.iter_mut().enumerate() {
                edge[..block.columns].copy_from_slice(&out[m * stride..][..block.columns]);
            }
        }
        // SAFETY: `M` rows of `x` start here, the panel has 16 columns in each of its `depth` rows.
        unsafe {
            let x = block.x.as_ptr().add(row * block.x_stride);
            let mut sums = [[_mm256_setzero_ps(); 2]; M];
            for (sums, edge) in sums.iter_mut().zip(&edge) {
                *sums = [_mm256_loadu_ps(edge.as_ptr()), _mm256_loadu_ps(edge.as_ptr().add(8))];
            }
            let mut panel = block.panel.as_ptr();
            for k in 0..block.depth {
                let b = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8))];
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(*x.add(m * block.x_stride + k));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm256_fmadd_ps(a, b, *sum);
                    }
                }
                panel = panel.add(16);
            }
            for (sums, edge) in sums.iter().zip(&mut edge) {
                _mm256_storeu_ps(edge.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(edge.as_mut_ptr().add(8), sums[1]);
            }
        }
        for (m, edge) in edge.iter().enumerate() {
            out[m * stride..][..block.columns].copy_from_slice(&edge[..block.columns]);
        }
    }
}

mod portable {
    //! Four rows by eight columns, for the compiler to vectorise as the build's target allows.

    use super::{BASELINE_FMA, Block, Start, fma};

    const COLUMNS: usize = 8;

    /// All rows of a block.
    pub fn rows(block: &Block<'_>, rows: usize, out: &mut [f32], stride: usize) {
        let mut row = 0;
        while row + 4 <= rows {
            some_rows::<4>(block, row, out, stride);
            row += 4;
        }
        while row < rows {
            some_rows::<1>(block, row, out, stride);
            row += 1;
        }
    }

    fn some_rows<const M: usize>(block: &Block<'_>, row: usize, out: &mut [f32], stride: usize) {
        let out = &mut out[row * stride..];
        let x: [&[f32]; M] = std::array::from_fn(|m| &block.x[(row + m) * block.x_stride..][..block.depth]);
        let mut sums = [[0.0_f32; COLUMNS]; M];
        if block.start == Start::Out {
            for (m, sums) in sums.iter_mut().enumerate() {
                sums[..block.columns].copy_from_slice(&out[m * stride..][..block.columns]);
            }
        }
        for (k, b) in block.panel.as_chunks::<COLUMNS>().0.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(x) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = fma::<BASELINE_FMA>(x[k], *b, *sum);
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            out[m * stride..][..block.columns].copy_from_slice(&sums[..block.columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, random, to_f64};

    /// Levels that this processor runs.
    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            if level() != Level::Baseline {
                levels.push(Level::Avx2);
            }
            if level() == Level::Avx512 {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// As `packed`, for another level.
    fn at(level: Level, w: &[f32], depth: usize) -> Packed {
        let (width, columns) = (width(level), w.len() / depth);
        let mut data = lease(columns.div_ceil(width) * width * depth);
        data.fill(0.0);
        for c in 0..columns {
            for k in 0..depth {
                data[(c / width * depth + k) * width + c % width] = w[c * depth + k];
            }
        }
        Packed { data, depth, columns, level }
    }

    #[test]
    fn every_level_agrees_with_f64() {
        for (rows, depth, columns) in [
            (1, 1, 1),
            (7, 3, 5),
            (6, 17, 64),
            (13, 40, 70),
            (5, 1100, 33),
            (12, 64, 16),
            (4, 0, 3),
            (9, 9, 130),
        ] {
            let (x, w) = (random(rows * depth, 1), random(columns * depth, 2));
            let (x64, w64) = (to_f64(&x), to_f64(&w));
            let exact = |i: usize| {
                let (r, c) = (i / columns, i % columns);
                (0..depth).map(|k| x64[r * depth + k] * w64[c * depth + k]).sum::<f64>()
            };
            let exact: Vec<f64> = (0..rows * columns).map(exact).collect();
            for level in levels().into_iter().filter(|_| depth > 0) {
                let packed = at(level, &w, depth);
                let mut out = vec![f32::NAN; rows * columns];
                packed.product(&x, &mut out, Write::Overwrite);
                assert_close(&out, &exact, 1e-4);
                packed.product(&x, &mut out, Write::Add);
                assert_close(&out, &exact.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), 1e-4);
            }
        }
    }

    #[test]
    fn packing_puts_elements_where_products_look_for_them() {
        for (depth, columns) in [(1, 1), (3, 70), (70, 3), (17, 64), (40, 9)] {
            let w = random(depth * columns, 1);
            let turned: Vec<f32> = (0..depth * columns).map(|i| w[i % depth * columns + i / depth]).collect();
            let (by_row, by_column) = (random(depth, 2), random(columns, 3));
            let x = random(2 * depth, 4);
            let mut out = [vec![0.0; 2 * columns], vec![0.0; 2 * columns]];
            Packed::straight(&w, columns, None).product(&x, &mut out[0], Write::Overwrite);
            Packed::transposed(&turned, depth, None).product(&x, &mut out[1], Write::Overwrite);
            assert_eq!(out[0], out[1]);
            let scaled = |i: usize| w[i] * by_row[i / columns];
            let expected = Packed::straight(&(0..w.len()).map(scaled).collect::<Vec<_>>(), columns, None);
            assert_eq!(*expected.data, *Packed::straight(&w, columns, Some(&by_row)).data);
            let scaled = |i: usize| turned[i] * by_column[i / depth];
            let expected = Packed::transposed(&(0..w.len()).map(scaled).collect::<Vec<_>>(), depth, None);
            assert_eq!(*expected.data, *Packed::transposed(&turned, depth, Some(&by_column)).data);
        }
    }

    #[test]
    fn avx2_and_avx512_give_the_same_bits_for_any_number_of_rows() {
        let (depth, columns) = (700, 77);
        let (x, w) = (random(20 * depth, 1), random(columns * depth, 2));
        let run = |level: Level, rows: usize| {
            let mut out = vec![0.0; rows * columns];
            at(level, &w, depth).product(&x[..rows * depth], &mut out, Write::Overwrite);
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let fused: Vec<Level> =
            levels().into_iter().filter(|&l| l != Level::Baseline || BASELINE_FMA).collect();
        for level in &fused {
            let all = run(*level, 20);
            assert!(fused.iter().all(|other| run(*other, 20) == all));
            (1..20).for_each(|rows| assert!(run(*level, rows) == all[..rows * columns], "{rows} rows"));
        }
    }
}
