//! The inner product kernel: up to [`ROWS`] rows times one panel of [`COLUMNS`] outputs.
//!
//! In: rows of bf16 and a packed panel. Out: a [`Tile`] of `f32` sums, which fits the first-level cache and which
//! an epilogue reads at once. Sums of one row run over the pairs of inputs in order, whatever the other rows are.
//!
//! Must not know: where the sums go.

use super::element::{Bf16, Line};
use super::pack::{COLUMNS, LANES, LINES};
use crate::kernels::math::fma;
use crate::kernels::simd::multiversion;

/// Rows of a tile. With two vectors per row, 24 of the 32 vector registers hold sums.
pub const ROWS: usize = 12;
/// The number of rows that is computed is a multiple of this; the last ones may be without meaning.
pub const ROW_STEP: usize = 4;

/// Sums of one tile.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tile(pub [[f32; COLUMNS]; ROWS]);

impl Tile {
    /// All zeros.
    pub const ZERO: Self = Self([[0.0; COLUMNS]; ROWS]);
}

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Ordinary Rust on operands rounded in the same way.
    Portable,
    /// `vdpbf16ps` of AVX-512 BF16 (Zen 4, Cooper Lake, Sapphire Rapids and later): 32 products per
    /// instruction. It treats denormal numbers as zeros.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Proof that the processor has the instructions of [`Engine::Avx512`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Engine {
    /// The best one of this processor; the standard library caches the answer.
    #[inline]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            return Self::Avx512(Avx512(()));
        }
        Self::Portable
    }

    /// `tile[m, n] = sum over k of x[m, k] w[n, k]` for `m < rows`; the tile's other rows lose their meaning.
    ///
    /// # Shapes
    /// - `x`: rows of `panel.len() / LINES` pairs each, `stride` apart; `rows` of them, rounded up to
    ///   [`ROW_STEP`], must lie in the slice
    pub fn multiply(self, x: &[Bf16], stride: usize, rows: usize, panel: &[Line], tile: &mut Tile) {
        let computed = rows.next_multiple_of(ROW_STEP);
        let width = panel.len() / LINES * 2;
        assert!(0 < rows && computed <= ROWS && width <= stride, "rows fit the tile");
        assert!((computed - 1) * stride + width <= x.len(), "padded rows lie in their slice");
        match self {
            Self::Portable => portable(x, stride, rows, panel, tile),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx512` exists only where `detect` found the instructions; bounds were checked above.
            Self::Avx512(_) => unsafe {
                match computed {
                    4 => avx512::<4>(x.as_ptr(), stride, panel, tile),
                    8 => avx512::<8>(x.as_ptr(), stride, panel, tile),
                    _ => avx512::<ROWS>(x.as_ptr(), stride, panel, tile),
                }
            },
        }
    }
}

/// # Safety
/// The processor must have AVX-512 F and BF16, and `M` rows of `panel.len() / LINES` pairs, `stride` apart, must be
/// readable from `x`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512<const M: usize>(x: *const Bf16, stride: usize, panel: &[Line], tile: &mut Tile) {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_store_ps,
    };

    let bf16 = |bits: __m512i| -> __m512bh {
        // SAFETY: both are 512 bits that may have any value.
        unsafe { std::mem::transmute(bits) }
    };
    let mut sums = [[_mm512_setzero_ps(); LINES]; M];
    for (pair, lines) in panel.chunks_exact(LINES).enumerate() {
        let mut w = [bf16(_mm512_set1_epi32(0)); LINES];
        for (w, line) in w.iter_mut().zip(lines) {
            // SAFETY: a line is 64 bytes, aligned to 64.
            *w = bf16(unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) });
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `m < M` has this pair, as the caller promises; the read asks for no alignment.
            let pair = unsafe { x.add(m * stride + 2 * pair).cast::<i32>().read_unaligned() };
            let x = bf16(_mm512_set1_epi32(pair));
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_dpbf16_ps(*sum, x, w);
            }
        }
    }
    for (out, sums) in tile.0.iter_mut().zip(sums) {
        for (out, sum) in out.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: 16 numbers, and the tile and its rows are multiples of 64 bytes.
            unsafe { _mm512_store_ps(out.as_mut_ptr(), sum) };
        }
    }
}

multiversion! {
    fn portable(x: &[Bf16], stride: usize, rows: usize, panel: &[Line], tile: &mut Tile) {
        for (x, out) in x.chunks(stride).zip(&mut tile.0).take(rows) {
            let mut sums = [0.0; COLUMNS];
            let (pairs, _) = x.as_chunks::<2>();
            for (pair, lines) in pairs.iter().zip(panel.chunks_exact(LINES)) {
                let [x_even, x_odd] = pair.map(Bf16::widen);
                for (sums, line) in sums.chunks_exact_mut(LANES).zip(lines) {
                    for (sum, w) in sums.iter_mut().zip(line.0.as_chunks::<2>().0) {
                        let odd = fma::<FMA>(x_odd, w[1].widen(), *sum);
                        *sum = fma::<FMA>(x_even, w[0].widen(), odd);
                    }
                }
            }
            *out = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::bf16::pack::PackedWeights;
    use crate::kernels::bf16::tests::{engines, rounded};
    use crate::kernels::reference::random;

    /// Rows of bf16 of `random`, `stride` apart with NaN between them, padded to [`ROW_STEP`].
    fn rows(rows: usize, inputs: usize, stride: usize) -> Vec<Bf16> {
        let mut x = vec![Bf16::round(f32::NAN); rows.next_multiple_of(ROW_STEP) * stride];
        for (row, values) in x.chunks_mut(stride).zip(random(rows * inputs, 1).chunks(inputs)) {
            row[..inputs.next_multiple_of(2)].fill(Bf16::default());
            row.iter_mut().zip(values).for_each(|(x, v)| *x = Bf16::round(*v));
        }
        x
    }

    #[test]
    fn sums_agree_with_f64_for_odd_sizes() {
        for engine in engines() {
            for (count, inputs, outputs) in [(1, 1, 1), (3, 2, 5), (4, 7, 16), (5, 33, 17), (12, 100, 32)] {
                let (x, w) = (rows(count, inputs, inputs + 5), random(outputs * inputs, 2));
                let packed = PackedWeights::pack(&w, outputs, inputs);
                let (_, panel) = packed.panels().iter().next().unwrap();
                let mut tile = Tile::ZERO;
                engine.multiply(&x, inputs + 5, count, panel, &mut tile);
                let (x, w) = (rounded(&random(count * inputs, 1)), rounded(&w));
                for (m, n) in (0..count * COLUMNS).map(|i| (i / COLUMNS, i % COLUMNS)) {
                    let exact: f64 = match n < outputs {
                        true => (0..inputs).map(|k| x[m * inputs + k] * w[n * inputs + k]).sum(),
                        false => 0.0,
                    };
                    assert!((f64::from(tile.0[m][n]) - exact).abs() < 1e-5, "{engine:?} {m} {n}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        for engine in engines() {
            let (x, w) = (rows(12, 150, 150), random(32 * 150, 2));
            let packed = PackedWeights::pack(&w, 32, 150);
            let (_, panel) = packed.panels().iter().next().unwrap();
            let mut all = Tile::ZERO;
            engine.multiply(&x, 150, 12, panel, &mut all);
            for (first, count) in [(0, 1), (0, 8), (3, 5), (7, 4), (8, 1), (5, 3)] {
                let mut part = Tile::ZERO;
                engine.multiply(&x[first * 150..], 150, count, panel, &mut part);
                assert_eq!(part.0[..count], all.0[first..first + count]);
            }
        }
    }
}
