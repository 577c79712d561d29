//! Weights in the fewest bytes that give them back exactly, for products with few rows: `x [R, K] w^T`, `w: [N, K]`.
//!
//! A decoder's step costs what reading its weights costs. Published weights seldom need all bits of an `f32`: bf16 and f16
//! leave half of them empty, and a block of a GGUF file is `base + step * integer`. [`Compact::new`] looks at the values
//! alone, wherever they came from, and keeps a form only if it gives back every bit. Some terms of a panel at a time become
//! `f32` again in the first-level cache, where the micro-kernels of [`packed`](super::packed) read them: every output is
//! the chain of fused multiply-adds that it always is.
//!
//! Must not know: layers, files, tapes.

mod blocks;
mod halves;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::blocks::Blocks;
use super::{
    matmul::Write,
    packed::{self, Block, Packed, Start},
    simd::{Level, level},
    split::for_each_panel,
};

/// Terms that become `f32` again at a time: a panel of them is a third of a first-level cache.
const EXPANDED: usize = 64;

/// A matrix `[N, K]` in panels.
#[derive(Debug)]
pub struct Compact {
    panels: Panels,
    inputs: usize,
    outputs: usize,
    level: Level,
}

/// Panel `p` has columns `p width ..` of the transpose, as `[K, width]`.
#[derive(Debug)]
enum Panels {
    /// `f32`: nothing smaller gives the values back.
    Single(Packed),
    /// The upper half of each `f32`.
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    Blocks(Blocks),
}

impl Compact {
    /// `w: [N, K]` in its smallest form; none if that is `f32` and `room` does not grant the bytes for it.
    pub fn new(w: &[f32], inputs: usize, room: impl FnOnce(usize) -> bool) -> Option<Self> {
        let (outputs, level) = (w.len() / inputs.max(1), level());
        let single = size_of::<f32>() * inputs * outputs.next_multiple_of(packed::width(level));
        Self::smaller(w, inputs, level).or_else(|| {
            let pack = || Panels::Single(Packed::transposed(w, inputs, None));
            room(single).then(|| Self { panels: pack(), inputs, outputs, level })
        })
    }

    /// In a form that is smaller than `f32`, if one gives every value back.
    fn smaller(w: &[f32], inputs: usize, level: Level) -> Option<Self> {
        let (outputs, width) = (w.len() / inputs.max(1), packed::width(level));
        assert_eq!(w.len(), outputs * inputs, "weights are a matrix");
        let panels = Blocks::new(w, inputs, width)
            .map(Panels::Blocks)
            .or_else(|| halves::pack(w, inputs, width, halves::to_bf16).map(Panels::Bf16))
            .or_else(|| halves::pack(w, inputs, width, halves::to_f16).map(Panels::F16))?;
        Some(Self { panels, inputs, outputs, level })
    }

    /// `out = x w^T` or `out += x w^T`, a task for each panel: all threads read weights even for one row.
    ///
    /// # Shapes
    /// - `x: [R, K]`, `out: [R, N]`
    pub fn product(&self, x: &[f32], out: &mut [f32], write: Write) {
        let Self { inputs, outputs, .. } = *self;
        let rows = out.len() / outputs.max(1);
        assert!(
            (x.len() == rows * inputs || outputs == 0) && out.len() == rows * outputs,
            "rows of a product agree"
        );
        if inputs == 0 && write == Write::Overwrite {
            out.fill(0.0);
        }
        if inputs == 0 || rows == 0 {
            return;
        }
        let width = packed::width(self.level);
        let scratch = || vec![0.0; EXPANDED * width];
        for_each_panel(out, [outputs, width], scratch, |expanded, panel, part| {
            let columns = part.len() / rows;
            for from in (0..inputs).step_by(EXPANDED) {
                let depth = EXPANDED.min(inputs - from);
                let start = if from == 0 && write == Write::Overwrite { Start::Zero } else { Start::Out };
                let panel = self.terms(panel, from, &mut expanded[..depth * width]);
                let block = Block { x: &x[from..], x_stride: inputs, panel, depth, columns, start };
                // SAFETY: `new` asked the processor for this level.
                unsafe { packed::rows_of_panel(self.level, &block, rows, part, columns) };
            }
        });
    }

    /// Terms `from ..` of a panel, as many as `expanded` has room for.
    fn terms<'a>(&'a self, panel: usize, from: usize, expanded: &'a mut [f32]) -> &'a [f32] {
        let at = panel * packed::width(self.level) * self.inputs + from * packed::width(self.level);
        let here = at..at + expanded.len();
        match &self.panels {
            Panels::Single(packed) => return packed.terms(here),
            Panels::Bf16(halves) => halves::expand_bf16(&halves[here], expanded),
            Panels::F16(halves) => halves::expand_f16(&halves[here], expanded),
            Panels::Blocks(blocks) => blocks.expand(here, expanded),
        }
        expanded
    }
}

/// The values of `w: [N, K]` by panels, each made by `make`, or none as soon as it gives none for one.
fn by_panels<T: Copy + Default + Send>(
    w: &[f32],
    inputs: usize,
    width: usize,
    make: impl Fn(f32) -> Option<T> + Sync,
) -> Option<Vec<T>> {
    let outputs = w.len() / inputs.max(1);
    let mut panels = vec![T::default(); outputs.div_ceil(width) * width * inputs];
    let filled = panels.par_chunks_exact_mut((width * inputs).max(1)).enumerate().all(|(p, panel)| {
        let rows = w[p * width * inputs..].chunks_exact(inputs).take(width);
        rows.enumerate().all(|(c, row)| {
            let places = panel[c..].iter_mut().step_by(width);
            places.zip(row).all(|(place, w)| make(*w).map(|value| *place = value).is_some())
        })
    });
    filled.then_some(panels)
}
