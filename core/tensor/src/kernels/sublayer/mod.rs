//! Whole sub-layers of a transformer: norm, projections, what lies between them, and the residual connection.
//!
//! Rows are cut into tiles of [`TILE`]: a tile goes through all steps on one thread while it is in the cache, so that
//! only what the backward needs is ever written out. Gradients of weights, which sum over rows, follow as whole matrix
//! products. Row tiles start at multiples of [`TILE`] whatever the batch, and a row's sums do not depend on its tile.
//!
//! ```text
//! closing        out = x + keep gamma (h w^T + b)         the last projection with the residual connection
//! vit_mlp        norm, fc1, GELU, closing
//! vit_attention  norm, qkv, q/k norm, attention, closing
//! llama_mlp      norm, gate and up, SiLU, closing
//! llama_attention norm, q, k, v, rotary, attention, closing
//! ```
//!
//! Must not know: tensors, tapes.

mod closing;
mod llama_attention;
mod llama_mlp;
mod vit_attention;
mod vit_mlp;

use std::ops::Range;

use rayon::prelude::*;

use super::{
    memory::Lease,
    norm::{self, Rows},
};

pub use closing::{Closing, ClosingGrads};
pub use llama_attention::{Grads as LlamaAttentionGrads, LlamaAttention};
pub use llama_mlp::{Grads as LlamaMlpGrads, LlamaMlp};
pub use vit_attention::{Grads as AttentionGrads, QkNorm, VitAttention};
pub use vit_mlp::{Grads as MlpGrads, VitMlp};

/// Rows that go through a sub-layer together.
const TILE: usize = 128;

/// An RMS norm's weight `[C]` and epsilon.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// `[C]`
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// Calls `work` for every tile of `rows` rows, on the pool.
fn for_each_tile(rows: usize, work: impl Fn(Range<usize>) + Sync) {
    let tiles = rows.div_ceil(TILE);
    (0..tiles).into_par_iter().for_each(|tile| work(tile * TILE..rows.min((tile + 1) * TILE)));
}

/// A matrix that tasks share, each of which writes rows of its own.
#[derive(Clone, Copy)]
struct SharedRows {
    data: super::split::SharedMut,
    rows: usize,
    width: usize,
}

impl SharedRows {
    /// Shares `data`, rows of `width` elements, for as long as it stays borrowed.
    fn new(data: &mut [f32], width: usize) -> Self {
        let rows = data.len() / width.max(1);
        Self { data: super::split::SharedMut::new(data), rows, width }
    }

    /// Rows `rows`.
    ///
    /// # Safety
    /// The shared slice is still borrowed, and no other task uses these rows.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    unsafe fn rows(&self, rows: Range<usize>) -> &mut [f32] {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows lie in the matrix");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.at(rows.start * self.width), rows.len() * self.width)
        }
    }
}

/// Gradients of an RMS norm's input, and of its weight, whose input `x` also takes the gradient around the branch:
/// `dx += dout + norm'(dn)`, `dw += ...`.
fn norm_backward(
    x: &[f32],
    norm: Norm<'_>,
    rstd: &[f32],
    (dn, dout): (&Lease, &[f32]),
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
) {
    let width = norm.weight.len();
    if let Some(dx) = dx {
        let dx = SharedRows::new(dx, width);
        for_each_tile(rstd.len(), |rows| {
            // SAFETY: tiles are disjoint and `dx` is borrowed until all are done.
            let dx = unsafe { dx.rows(rows.clone()) };
            let span = rows.start * width..rows.end * width;
            dx.iter_mut().zip(&dout[span.clone()]).for_each(|(dx, dout)| *dx += dout);
            let x = Rows::new(&x[span.clone()], width);
            norm::rms_input_rows(x, norm.weight, &rstd[rows], &dn[span], dx, width);
        });
    }
    if let Some(dw) = dw {
        norm::rms_weight_gradient(Rows::new(x, width), rstd, dn, dw);
    }
}
