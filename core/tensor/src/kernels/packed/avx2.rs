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
