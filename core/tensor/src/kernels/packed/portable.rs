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
