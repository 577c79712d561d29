//! Weights in the order in which the tile kernel reads them.
//!
//! A panel holds [`COLUMNS`] outputs (rows of PyTorch's `[N, K]`). For each pair of inputs `2p, 2p + 1` it has two
//! lines, of 16 outputs each:
//!
//! ```text
//! line 2p       w[0, 2p] w[0, 2p+1]  w[1, 2p] w[1, 2p+1]  ...  w[15, 2p] w[15, 2p+1]
//! line 2p + 1   the same of outputs 16..32, or of the second matrix where two are interleaved
//! ```
//!
//! Missing outputs of the last panel and the missing partner of an odd last input are zeros.
//!
//! Must not know: biases, activations.

use super::element::{Bf16, LINE, Line};

/// Outputs of one line.
pub const LANES: usize = LINE / 2;
/// Lines of a panel for one pair of inputs.
pub const LINES: usize = 2;
/// Outputs of one panel.
pub const COLUMNS: usize = LINES * LANES;

/// What two matrices, or one, have become in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Both lines hold outputs of one matrix.
    Plain,
    /// The first line holds the gate's outputs, the second the same ones of the other matrix.
    Gated,
}

/// Frozen weights of one product, rounded to bf16 and packed.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    lines: Vec<Line>,
    order: Order,
    outputs: usize,
    inputs: usize,
}

impl PackedWeights {
    /// Packs `w: [outputs, inputs]`.
    pub fn pack(w: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(w.len(), outputs * inputs, "weights are [outputs, inputs]");
        Self::stack(&[w], inputs)
    }

    /// Packs several matrices `[outputs_i, inputs]` as one, below each other; three make LLaMA's q, k and v one
    /// product.
    pub fn stack(parts: &[&[f32]], inputs: usize) -> Self {
        assert!(inputs > 0, "weights have inputs");
        let rows: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(inputs)).collect();
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), rows.len() * inputs, "whole rows");
        let row = |lane: usize| rows.get(lane).copied();
        Self { lines: panels(rows.len(), inputs, row), order: Order::Plain, outputs: rows.len(), inputs }
    }

    /// Packs the two matrices of a gated perceptron, both `[outputs, inputs]`, so that a tile has both halves of
    /// `silu(gate x) * (up x)`.
    pub fn pack_gated(gate: &[f32], up: &[f32], outputs: usize, inputs: usize) -> Self {
        assert!(inputs > 0 && gate.len() == outputs * inputs && up.len() == gate.len(), "[outputs, inputs]");
        let row = |lane: usize| {
            let output = lane / COLUMNS * LANES + lane % LANES;
            let matrix = if lane % COLUMNS < LANES { gate } else { up };
            (output < outputs).then(|| &matrix[output * inputs..][..inputs])
        };
        let lanes = outputs.div_ceil(LANES) * COLUMNS;
        Self { lines: panels(lanes, inputs, row), order: Order::Gated, outputs, inputs }
    }

    /// N: numbers per row after the epilogue.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// K: numbers per row that a product reads.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// What a product reads.
    pub(super) fn panels(&self) -> Panels<'_> {
        let step = match self.order {
            Order::Plain => COLUMNS,
            Order::Gated => LANES,
        };
        Panels { step, ..Panels::new(&self.lines, self.outputs, self.inputs) }
    }
}

/// A view of packed panels.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a> {
    lines: &'a [Line],
    /// Lines from one panel to the next.
    stride: usize,
    /// Lines of a panel that are multiplied.
    used: usize,
    /// Outputs of all panels.
    pub outputs: usize,
    /// Outputs of one panel after the epilogue: [`COLUMNS`], or [`LANES`] where two matrices are interleaved.
    pub step: usize,
}

impl<'a> Panels<'a> {
    /// Packed `[outputs, inputs]`.
    pub fn new(lines: &'a [Line], outputs: usize, inputs: usize) -> Self {
        let stride = inputs.div_ceil(2) * LINES;
        Self { lines, stride, used: stride, outputs, step: COLUMNS }
    }

    /// The same without the inputs from `inputs` on, or, where that is odd, from the one after.
    pub fn first_inputs(self, inputs: usize) -> Self {
        Self { used: inputs.div_ceil(2) * LINES, ..self }
    }

    /// The same without the outputs from `outputs` on.
    pub fn first_outputs(self, outputs: usize) -> Self {
        Self { outputs, ..self }
    }

    /// Numbers of a row that a product reads.
    pub fn width(self) -> usize {
        self.used / LINES * 2
    }

    /// Panels with the first output of each.
    pub fn iter(self) -> impl Iterator<Item = (usize, &'a [Line])> {
        let starts = (0..self.outputs).step_by(self.step);
        starts.map(move |first| (first, self.panel(first / self.step)))
    }

    fn panel(self, index: usize) -> &'a [Line] {
        &self.lines[index * self.stride..][..self.used]
    }
}

/// Lines that `outputs` by `inputs` weights take.
pub fn lines_of(outputs: usize, inputs: usize) -> usize {
    outputs.div_ceil(COLUMNS) * inputs.div_ceil(2) * LINES
}

fn panels<'a>(lanes: usize, inputs: usize, row: impl Fn(usize) -> Option<&'a [f32]>) -> Vec<Line> {
    let mut lines = vec![Line::ZERO; lines_of(lanes, inputs)];
    let pairs = inputs.div_ceil(2);
    for lane in 0..lanes {
        let panel = &mut lines[lane / COLUMNS * pairs * LINES..][..pairs * LINES];
        for (k, w) in row(lane).unwrap_or_default().iter().enumerate() {
            let line = &mut panel[k / 2 * LINES + lane % COLUMNS / LANES];
            line.0[lane % LANES * 2 + k % 2] = Bf16::round(*w);
        }
    }
    lines
}

/// Packs rows that are bf16 already, `outputs` of them, each `inputs` long: the keys of one head.
///
/// Every element of `lines` is written; it needs [`lines_of`] that many.
pub fn pack_rows<'a>(lines: &mut [Line], outputs: usize, inputs: usize, row: impl Fn(usize) -> &'a [Bf16]) {
    let pairs = inputs.div_ceil(2);
    for (index, panel) in lines.chunks_exact_mut((pairs * LINES).max(1)).enumerate() {
        for lane in 0..COLUMNS {
            let (half, at) = (lane / LANES, lane % LANES * 2);
            let output = index * COLUMNS + lane;
            let row = if output < outputs { &row(output)[..inputs] } else { &[] };
            let (whole, last) = row.as_chunks::<2>();
            let mut lines = panel[half..].iter_mut().step_by(LINES);
            for (pair, line) in whole.iter().zip(&mut lines) {
                line.0[at] = pair[0];
                line.0[at + 1] = pair[1];
            }
            for line in lines {
                line.0[at] = last.first().copied().unwrap_or_default();
                line.0[at + 1] = Bf16::default();
            }
        }
    }
}

/// Packs the transpose of rows that are bf16 already: `inputs` rows, each `outputs` long. The values of one head.
///
/// Every element of `lines` is written; it needs [`lines_of`] that many.
pub fn pack_columns<'a>(
    lines: &mut [Line],
    outputs: usize,
    inputs: usize,
    row: impl Fn(usize) -> &'a [Bf16],
) {
    let pairs = inputs.div_ceil(2);
    for (index, panel) in lines.chunks_exact_mut((pairs * LINES).max(1)).enumerate() {
        for (at, line) in panel.iter_mut().enumerate() {
            let (pair, first) = (at / LINES, index * COLUMNS + at % LINES * LANES);
            let part = |k: usize| match (k < inputs).then(|| row(k).get(first..outputs)).flatten() {
                Some(row) => first_lanes(row),
                None => [Bf16::default(); LANES],
            };
            let (even, odd) = (part(2 * pair), part(2 * pair + 1));
            for lane in 0..LANES {
                line.0[2 * lane] = even[lane];
                line.0[2 * lane + 1] = odd[lane];
            }
        }
    }
}

/// One line's worth of outputs, padded with zeros.
#[inline(always)]
fn first_lanes(row: &[Bf16]) -> [Bf16; LANES] {
    row.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [Bf16::default(); LANES];
        padded[..row.len()].copy_from_slice(row);
        padded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::random;

    /// The weight of one output and input, read back from the layout that the module's doc draws.
    fn read(lines: &[Line], inputs: usize, lane: usize, k: usize) -> f32 {
        let panel = lane / COLUMNS * inputs.div_ceil(2) * LINES;
        let line = &lines[panel + k / 2 * LINES + lane % COLUMNS / LANES];
        line.0[lane % LANES * 2 + k % 2].widen()
    }

    fn rounded(w: &[f32]) -> Vec<Bf16> {
        w.iter().copied().map(Bf16::round).collect()
    }

    #[test]
    fn every_weight_is_where_the_layout_says_and_the_rest_is_zero() {
        for (outputs, inputs) in [(1, 1), (5, 3), (16, 2), (33, 7), (70, 10)] {
            let w = random(outputs * inputs, 1);
            let packed = PackedWeights::pack(&w, outputs, inputs);
            let w = rounded(&w);
            let mut sum = 0.0;
            for (i, w) in w.iter().enumerate() {
                assert_eq!(read(&packed.lines, inputs, i / inputs, i % inputs), w.widen());
                sum += w.widen().abs();
            }
            let all = packed.lines.iter().flat_map(|line| line.0).map(|w| w.widen().abs());
            assert!((all.sum::<f32>() - sum).abs() < 1e-4 * sum, "padding is zero");
        }
    }

    #[test]
    fn rows_and_columns_of_bf16_pack_as_f32_does_even_over_old_contents() {
        for (outputs, inputs) in [(1, 1), (5, 3), (33, 7), (70, 10), (24, 17)] {
            let w = random(outputs * inputs, 2);
            let expected = PackedWeights::pack(&w, outputs, inputs);
            let rows = rounded(&w);
            let columns: Vec<Bf16> = (0..w.len()).map(|i| rows[i % outputs * inputs + i / outputs]).collect();
            let mut lines = vec![Line([Bf16::round(f32::NAN); LINE]); lines_of(outputs, inputs)];
            pack_rows(&mut lines, outputs, inputs, |o| &rows[o * inputs..][..inputs]);
            let same = |lines: &[Line]| lines.iter().zip(&expected.lines).all(|(a, b)| a.0 == b.0);
            assert!(same(&lines));
            lines.fill(Line([Bf16::round(f32::NAN); LINE]));
            pack_columns(&mut lines, outputs, inputs, |k| &columns[k * outputs..][..outputs]);
            assert!(same(&lines));
        }
    }

    #[test]
    fn stacked_parts_are_one_matrix_and_gates_lie_beside_their_partners() {
        let (a, b) = (random(20 * 5, 1), random(20 * 5, 2));
        let stacked = PackedWeights::stack(&[&a, &b], 5);
        let whole = PackedWeights::pack(&[&a[..], &b[..]].concat(), 40, 5);
        assert!(stacked.lines.iter().zip(&whole.lines).all(|(a, b)| a.0 == b.0));
        assert_eq!((stacked.outputs(), stacked.inputs()), (40, 5));

        let gated = PackedWeights::pack_gated(&a, &b, 20, 5);
        assert_eq!((gated.outputs(), gated.panels().iter().count()), (20, 2));
        for (output, k) in (0..100).map(|i| (i / 5, i % 5)) {
            let lane = output / LANES * COLUMNS + output % LANES;
            assert_eq!(read(&gated.lines, 5, lane, k), Bf16::round(a[output * 5 + k]).widen());
            assert_eq!(read(&gated.lines, 5, lane + LANES, k), Bf16::round(b[output * 5 + k]).widen());
        }
    }
}
