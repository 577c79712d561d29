//! Products of few rows with weights that are read as they lie: `x [R, K] w^T`, `w: [N, K]`.
//!
//! A decoder's step has one row for each sequence, and what counts is how fast weights come from memory. Packing would
//! write and read each of them once more. Here squares of the weights are turned in registers, and so a vector has
//! the same term of neighbouring outputs: every output is one chain of fused multiply-adds in the order of `k`, with the
//! bits of [`Packed`].
//!
//! Must not know: layers, bias, gradients, threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::matmul::Write;
use super::packed::Packed;
use super::simd::{Level, level};

/// So many rows are few: their sums stay in registers.
pub const FEW: usize = 8;

/// Sizes of one call: at most [`FEW`] rows.
#[derive(Clone, Copy, Debug)]
struct Dims {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// `out = x w^T` or `out += x w^T`, on the calling thread.
///
/// # Shapes
/// - `x: [R, K]`, `w: [N, K]`, `out: [R, N]`, R at most [`FEW`]
pub fn product(x: &[f32], w: &[f32], out: &mut [f32], inputs: usize, write: Write) {
    product_at(level(), x, w, out, inputs, write);
}

fn product_at(level: Level, x: &[f32], w: &[f32], out: &mut [f32], inputs: usize, write: Write) {
    let dims = Dims { rows: x.len() / inputs.max(1), inputs, outputs: w.len() / inputs.max(1) };
    assert!(dims.rows <= FEW, "few rows");
    assert!(
        x.len() == dims.rows * inputs && w.len() == dims.outputs * inputs,
        "rows have the length of the sum"
    );
    assert!(out.len() == dims.rows * dims.outputs, "rows of a product agree");
    if write == Write::Overwrite {
        out.fill(0.0);
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` found the features; the sizes were checked above.
        Level::Avx512 => unsafe { avx512::add(x, w, out, dims) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2::add(x, w, out, dims) },
        Level::Baseline => Packed::transposed(w, inputs, None).product(x, out, Write::Add),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{bits, random};

    #[test]
    fn the_bits_are_those_of_packed_weights() {
        let mut levels = vec![level()];
        #[cfg(target_arch = "x86_64")]
        if level() == Level::Avx512 {
            levels.push(Level::Avx2);
        }
        for (inputs, outputs) in [(1, 1), (16, 16), (15, 17), (33, 64), (576, 50), (1100, 7), (40, 130)] {
            let w = random(outputs * inputs, 2);
            for rows in 1..=FEW {
                let x = random(rows * inputs, 1);
                for write in [Write::Overwrite, Write::Add] {
                    let mut expected = random(rows * outputs, 3);
                    let start = expected.clone();
                    Packed::transposed(&w, inputs, None).product(&x, &mut expected, write);
                    let expected = bits(&[expected]);
                    for &level in &levels {
                        let mut out = start.clone();
                        product_at(level, &x, &w, &mut out, inputs, write);
                        assert!(bits(&[out]) == expected, "{level:?}: {rows} rows, {inputs} to {outputs}");
                    }
                }
            }
        }
    }
}
