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
