//! Squares of 8 outputs by 8 terms.

use std::arch::x86_64::{
    __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::Dims;

const SIDE: usize = 8;

/// `out += x w^T`.
///
/// # Safety
/// The processor has AVX2 and FMA, and the slices have the sizes of `dims`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn add(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims) {
    // SAFETY: promised by the caller.
    unsafe {
        match dims.rows {
            1 => rows::<1>(x, w, out, dims),
            2 => rows::<2>(x, w, out, dims),
            3 => rows::<3>(x, w, out, dims),
            4 => rows::<4>(x, w, out, dims),
            5 => rows::<5>(x, w, out, dims),
            6 => rows::<6>(x, w, out, dims),
            7 => rows::<7>(x, w, out, dims),
            8 => rows::<8>(x, w, out, dims),
            _ => {}
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const M: usize>(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims) {
    let Dims { inputs, outputs, .. } = dims;
    for first in (0..outputs).step_by(SIDE) {
        let count = SIDE.min(outputs - first);
        let w = &w[first * inputs..][..count * inputs];
        // Rows of 8, so that narrow ones need no masks.
        let mut edge = [[0.0_f32; SIDE]; M];
        for (m, edge) in edge.iter_mut().enumerate() {
            edge[..count].copy_from_slice(&out[m * outputs + first..][..count]);
        }
        let mut sums = [_mm256_setzero_ps(); M];
        for (sum, edge) in sums.iter_mut().zip(&edge) {
            // SAFETY: 8 elements.
            *sum = unsafe { _mm256_loadu_ps(edge.as_ptr()) };
        }
        for from in (0..inputs).step_by(SIDE) {
            let terms = SIDE.min(inputs - from);
            let square = if count == SIDE && terms == SIDE {
                // SAFETY: 8 rows have 8 elements from here on.
                unsafe { turned(w.as_ptr().add(from), inputs) }
            } else {
                let mut square = [0.0_f32; SIDE * SIDE];
                for (square, w) in square.chunks_exact_mut(SIDE).zip(w.chunks_exact(inputs)) {
                    square[..terms].copy_from_slice(&w[from..from + terms]);
                }
                // SAFETY: as above.
                unsafe { turned(square.as_ptr(), SIDE) }
            };
            for (k, terms) in square.into_iter().enumerate().take(terms) {
                for (m, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `from + k` lies in row `m` of `M`.
                    let factor = unsafe { *x.as_ptr().add(m * inputs + from + k) };
                    *sum = _mm256_fmadd_ps(_mm256_set1_ps(factor), terms, *sum);
                }
            }
        }
        for (m, (sum, mut edge)) in sums.into_iter().zip(edge).enumerate() {
            // SAFETY: 8 elements.
            unsafe { _mm256_storeu_ps(edge.as_mut_ptr(), sum) };
            out[m * outputs + first..][..count].copy_from_slice(&edge[..count]);
        }
    }
}

/// A square of 8 by 8 at `w`, by columns.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn turned(w: *const f32, stride: usize) -> [__m256; SIDE] {
    let mut rows = [_mm256_setzero_ps(); SIDE];
    for (r, row) in rows.iter_mut().enumerate() {
        // SAFETY: promised by the caller.
        *row = unsafe { _mm256_loadu_ps(w.add(r * stride)) };
    }
    // Fours of rows: vector `4 i + j` has, in half `l`, column `4 l + j` of rows `4 i ..`.
    let mut fours = [_mm256_setzero_ps(); SIDE];
    for i in 0..2 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(ab, cd);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
        let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(ab, cd);
    }
    let mut columns = [_mm256_setzero_ps(); SIDE];
    for j in 0..4 {
        columns[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        columns[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
    columns
}
