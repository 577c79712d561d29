//! Squares of 16 outputs by 16 terms.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::Dims;

const SIDE: usize = 16;

/// `out += x w^T`.
///
/// # Safety
/// The processor has AVX-512F, and the slices have the sizes of `dims`.
#[target_feature(enable = "avx512f")]
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

#[target_feature(enable = "avx512f")]
unsafe fn rows<const M: usize>(x: &[f32], w: &[f32], out: &mut [f32], dims: Dims) {
    let Dims { inputs, outputs, .. } = dims;
    for first in (0..outputs).step_by(SIDE) {
        let count = SIDE.min(outputs - first);
        // SAFETY: rows `first .. first + count` of `w` and these columns of `out` exist, and `M` rows of `x` and `out`;
        // masks keep to what is left of a row.
        unsafe {
            let (w, out) = (w.as_ptr().add(first * inputs), out.as_mut_ptr().add(first));
            let mut sums = [_mm512_setzero_ps(); M];
            for (m, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_maskz_loadu_ps(low(count), out.add(m * outputs));
            }
            let mut from = 0;
            while from + SIDE <= inputs {
                let square = turned(w.add(from), inputs, count, !0);
                for (k, terms) in square.into_iter().enumerate() {
                    for (m, sum) in sums.iter_mut().enumerate() {
                        let factor = _mm512_set1_ps(*x.as_ptr().add(m * inputs + from + k));
                        *sum = _mm512_fmadd_ps(factor, terms, *sum);
                    }
                }
                from += SIDE;
            }
            let rest = inputs - from;
            if rest > 0 {
                let square = turned(w.add(from), inputs, count, low(rest));
                let mut terms = [0.0_f32; SIDE * SIDE];
                for (k, vector) in square.into_iter().enumerate() {
                    _mm512_storeu_ps(terms.as_mut_ptr().add(k * SIDE), vector);
                }
                for k in 0..rest {
                    let terms = _mm512_loadu_ps(terms.as_ptr().add(k * SIDE));
                    for (m, sum) in sums.iter_mut().enumerate() {
                        let factor = _mm512_set1_ps(*x.as_ptr().add(m * inputs + from + k));
                        *sum = _mm512_fmadd_ps(factor, terms, *sum);
                    }
                }
            }
            for (m, sum) in sums.into_iter().enumerate() {
                _mm512_mask_storeu_ps(out.add(m * outputs), low(count), sum);
            }
        }
    }
}

/// The first `count` lanes, at most 16.
fn low(count: usize) -> __mmask16 {
    if count >= SIDE { !0 } else { (1 << count) - 1 }
}

/// The terms at `w` of `count` rows, those of `mask`, by columns; rows that are not there are zero.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn turned(w: *const f32, stride: usize, count: usize, mask: __mmask16) -> [__m512; SIDE] {
    let mut rows = [_mm512_setzero_ps(); SIDE];
    if count == SIDE {
        for (r, row) in rows.iter_mut().enumerate() {
            // SAFETY: the row is there, and the mask keeps to it.
            *row = unsafe { _mm512_maskz_loadu_ps(mask, w.add(r * stride)) };
        }
    } else {
        for (r, row) in rows.iter_mut().enumerate().take(count) {
            // SAFETY: as above.
            *row = unsafe { _mm512_maskz_loadu_ps(mask, w.add(r * stride)) };
        }
    }
    // Pairs, then fours of rows: vector `4 i + j` has, in quarter `l`, column `4 l + j` of rows `4 i ..`.
    let mut fours = [_mm512_setzero_ps(); SIDE];
    for i in 0..4 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let (ab, cd) =
            (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpacklo_ps(c, d)));
        fours[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        fours[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        let (ab, cd) =
            (_mm512_castps_pd(_mm512_unpackhi_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
        fours[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        fours[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
    }
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xdd;
    let mut columns = [_mm512_setzero_ps(); SIDE];
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (upper, lower) = (_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<EVEN>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<EVEN>(upper, lower);
        columns[8 + j] = _mm512_shuffle_f32x4::<ODD>(upper, lower);
        let (upper, lower) = (_mm512_shuffle_f32x4::<ODD>(a, b), _mm512_shuffle_f32x4::<ODD>(c, d));
        columns[4 + j] = _mm512_shuffle_f32x4::<EVEN>(upper, lower);
        columns[12 + j] = _mm512_shuffle_f32x4::<ODD>(upper, lower);
    }
    columns
}
