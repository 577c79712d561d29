//! Blocks of 32 terms of a column that are `base + step * integer`: what GGUF's Q4_0, Q4_1 and Q8_0 hold.

use std::ops::Range;

use rayon::prelude::*;

use super::super::{
    math::fma,
    simd::{BASELINE_FMA, multiversion},
};

/// Terms that share a step and a base, as in ggml.
const BLOCK: usize = 32;

/// A matrix by panels.
#[derive(Debug)]
pub struct Blocks {
    /// `[panels, K, width]`
    integers: Vec<i8>,
    /// `[panels, K / BLOCK, 2, width]`: steps, then bases.
    scales: Vec<f32>,
    width: usize,
}

impl Blocks {
    /// `w: [N, K]`, if its blocks have such a form.
    pub fn new(w: &[f32], inputs: usize, width: usize) -> Option<Self> {
        if inputs == 0 || !inputs.is_multiple_of(BLOCK) {
            return None;
        }
        // Most matrices that have no such form fail here, before anything is allocated.
        w.as_chunks::<BLOCK>().0.iter().take(4).all(|block| fit(block).is_some()).then_some(())?;
        let panels = (w.len() / inputs).div_ceil(width);
        let mut integers = vec![0; panels * width * inputs];
        let mut scales = vec![0.0; panels * width * inputs / BLOCK * 2];
        let of_panels = integers.par_chunks_exact_mut(width * inputs);
        let of_panels = of_panels.zip(scales.par_chunks_exact_mut(2 * width * inputs / BLOCK));
        let filled = of_panels.enumerate().all(|(p, (integers, scales))| {
            let rows = &w[p * width * inputs..w.len().min((p + 1) * width * inputs)];
            fill(rows, inputs, integers, scales, width)
        });
        filled.then_some(Self { integers, scales, width })
    }

    #[cfg(test)]
    pub fn size(&self) -> usize {
        size_of_val(self.integers.as_slice()) + size_of_val(self.scales.as_slice())
    }

    /// The elements at `at`: whole blocks of a panel.
    pub fn expand(&self, at: Range<usize>, out: &mut [f32]) {
        let scales = &self.scales[at.start / BLOCK * 2..at.end / BLOCK * 2];
        let integers = &self.integers[at];
        match self.width {
            64 => expand_64(integers, scales, out),
            16 => expand_16(integers, scales, out),
            _ => expand::<BASELINE_FMA, 8>(integers, scales, out),
        }
    }
}

/// Step, base and integers of a block. Rounded once or twice, `step * integer + base` is the same number: the product is exact
/// where there is a base (eleven digits times eight), and else it is all.
#[inline(always)]
fn fit(block: &[f32; BLOCK]) -> Option<(f32, f32, [i8; BLOCK])> {
    let least = block.iter().fold(f32::INFINITY, |least, w| least.min(*w));
    let most = block.iter().fold(f32::NEG_INFINITY, |most, w| most.max(*w));
    let farthest = most.max(-least);
    // Q8_0 has integers to 127, Q4_0 from -8 with a step of either sign, whose zero has its sign; Q4_1 from 0 to 15 above
    // the least. Steps of files have the eleven bits of half precision.
    let candidates = [
        (farthest / 127.0, 0.0),
        (eleven_bits((most - least) / 15.0), least),
        (farthest / 8.0, 0.0),
        (farthest / -8.0, -0.0),
    ];
    candidates.into_iter().find_map(|(step, base)| {
        let mut integers = [0; BLOCK];
        let mut exact = true;
        for (integer, &w) in integers.iter_mut().zip(block) {
            *integer = if step == 0.0 { 0 } else { ((w - base) / step).round() as i8 };
            exact &= (step * f32::from(*integer) + base).to_bits() == w.to_bits();
        }
        exact.then_some((step, base, integers))
    })
}

/// The nearest number with eleven binary digits.
#[inline(always)]
fn eleven_bits(x: f32) -> f32 {
    f32::from_bits(x.to_bits().wrapping_add(0x1000) & !0x1fff)
}

#[inline(always)]
fn expand<const FMA: bool, const W: usize>(integers: &[i8], scales: &[f32], out: &mut [f32]) {
    let (integers, out) = (integers.as_chunks::<W>().0, out.as_chunks_mut::<W>().0);
    let blocks = integers.chunks(BLOCK).zip(out.chunks_mut(BLOCK));
    for ((integers, out), scales) in blocks.zip(scales.as_chunks::<W>().0.chunks_exact(2)) {
        let (steps, bases) = (scales[0], scales[1]);
        for (integers, out) in integers.iter().zip(out) {
            for c in 0..W {
                out[c] = fma::<FMA>(steps[c], f32::from(integers[c]), bases[c]);
            }
        }
    }
}

multiversion! {
    fn expand_64(integers: &[i8], scales: &[f32], out: &mut [f32]) {
        expand::<FMA, 64>(integers, scales, out);
    }

    fn expand_16(integers: &[i8], scales: &[f32], out: &mut [f32]) {
        expand::<FMA, 16>(integers, scales, out);
    }

    /// Rows of `w` as the columns of a panel; false as soon as a block has no such form.
    fn fill(w: &[f32], inputs: usize, integers: &mut [i8], scales: &mut [f32], width: usize) -> bool {
        for (column, row) in w.chunks_exact(inputs).enumerate() {
            for (index, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                let Some((step, base, all)) = fit(block) else { return false };
                scales[2 * index * width + column] = step;
                scales[(2 * index + 1) * width + column] = base;
                let places = integers[index * BLOCK * width + column..].iter_mut().step_by(width);
                places.zip(all).for_each(|(place, integer)| *place = integer);
            }
        }
        true
    }
}
