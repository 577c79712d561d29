//! Six rows by 64 columns of the result: 24 accumulators of 16 lanes.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use super::{Block, Write};

/// `height` rows of a panel of the result.
///
/// # Safety
/// The processor has AVX-512F. Row `rows - 1` of the block's `y` has `height` elements, that of its `x` and row `height - 1` of `out`
/// have `columns`.
#[target_feature(enable = "avx512f")]
pub unsafe fn tiles(block: &Block<'_>, height: usize, out: &mut [f32], out_stride: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        match block.columns.div_ceil(16) {
            1 => vectors::<1>(block, height, out, out_stride),
            2 => vectors::<2>(block, height, out, out_stride),
            3 => vectors::<3>(block, height, out, out_stride),
            _ => vectors::<4>(block, height, out, out_stride),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn vectors<const V: usize>(block: &Block<'_>, height: usize, out: &mut [f32], stride: usize) {
    let mut first = 0;
    // SAFETY: rows `first .. first + M` exist; the rest is promised by the caller.
    unsafe {
        while first + 6 <= height {
            tile::<6, V>(block, first, out, stride);
            first += 6;
        }
        match height - first {
            1 => tile::<1, V>(block, first, out, stride),
            2 => tile::<2, V>(block, first, out, stride),
            3 => tile::<3, V>(block, first, out, stride),
            4 => tile::<4, V>(block, first, out, stride),
            5 => tile::<5, V>(block, first, out, stride),
            _ => {}
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const V: usize>(
    block: &Block<'_>,
    first: usize,
    out: &mut [f32],
    stride: usize,
) {
    let masks: [__mmask16; V] = std::array::from_fn(|v| {
        let left = block.columns - 16 * v;
        if left >= 16 { !0 } else { (1 << left) - 1 }
    });
    // SAFETY: the rows that are read and written exist, and masks keep to the columns.
    unsafe {
        let mut y = block.y.as_ptr().wrapping_add(first);
        let mut x = block.x.as_ptr();
        let mut sums = [[_mm512_setzero_ps(); V]; M];
        for _ in 0..block.rows {
            let mut b: [__m512; V] = [_mm512_setzero_ps(); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = _mm512_maskz_loadu_ps(masks[v], x.wrapping_add(16 * v));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*y.wrapping_add(m));
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
            y = y.wrapping_add(block.y_stride);
            x = x.wrapping_add(block.x_stride);
        }
        let out = out.as_mut_ptr().wrapping_add(first * stride);
        for (m, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let place = out.wrapping_add(m * stride + 16 * v);
                let total = match block.write {
                    Write::Overwrite => *sum,
                    Write::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(masks[v], place), *sum),
                };
                _mm512_mask_storeu_ps(place, masks[v], total);
            }
        }
    }
}
