//! The perceptron branch of an InternViT block: `out = x + keep gamma (gelu(norm(x) w1^T + b1) w2^T + b2)`.
//!
//! Kept for the backward: each row's norm statistic and `norm(x) w1^T`. The normalised rows and the activations are
//! computed again.
//!
//! Must not know: tensors, tapes, how `keep` was drawn.

use crate::kernels::{
    activation::{bias_gelu, bias_gelu_slope, multiply},
    linear::{self, Dims},
    matmul::Write,
    memory::{Lease, lease},
    norm::{self, Rows},
    packed::Packed,
};

use super::{Closing, Norm, SharedRows, closing::ClosingGrads, for_each_tile, norm_backward};

/// Weights. C is the width of the residual stream, H of the perceptron.
#[derive(Clone, Copy, Debug)]
pub struct VitMlp<'a> {
    /// Before the perceptron.
    pub norm: Norm<'a>,
    /// `[H, C]`
    pub fc1: &'a [f32],
    /// `[H]`
    pub fc1_bias: &'a [f32],
    /// fc2 with its bias, LayerScale and stochastic depth.
    pub closing: Closing<'a>,
}

/// What the backward needs of the forward.
pub struct Saved {
    rstd: Lease,
    before: Lease,
}

/// Where the gradients go; each is added to.
pub struct Grads<'a> {
    /// `[R, C]`
    pub x: Option<&'a mut [f32]>,
    /// As the norm's weight.
    pub norm: Option<&'a mut [f32]>,
    /// As `fc1`.
    pub fc1: Option<&'a mut [f32]>,
    /// As `fc1_bias`.
    pub fc1_bias: Option<&'a mut [f32]>,
    /// fc2's.
    pub closing: ClosingGrads<'a>,
}

impl VitMlp<'_> {
    /// `x, out: [R, C]`. Nothing is kept unless `save`.
    pub fn forward(&self, x: &[f32], out: &mut [f32], save: bool) -> Option<Saved> {
        let (width, hidden) = (self.closing.width, self.fc1_bias.len());
        let rows = x.len() / width.max(1);
        let (fc1, fc2) = (Packed::transposed(self.fc1, width, None), self.closing.ready());
        let mut saved = save.then(|| Saved { rstd: lease(rows), before: lease(rows * hidden) });
        let out = SharedRows::new(out, width);
        let kept =
            saved.as_mut().map(|s| (SharedRows::new(&mut s.rstd, 1), SharedRows::new(&mut s.before, hidden)));
        for_each_tile(rows, |tile| {
            let x = &x[tile.start * width..tile.end * width];
            let (mut rstd, mut normed) = (lease(tile.len()), lease(x.len()));
            let mut after = lease(tile.len() * hidden);
            let mut scratch = lease(if kept.is_some() { 0 } else { after.len() });
            norm::rms_rows(Rows::new(x, width), self.norm.weight, self.norm.eps, &mut normed, &mut rstd);
            let before = match &kept {
                Some((rstds, befores)) => {
                    // SAFETY: tiles are disjoint, and `saved` is borrowed until all are done.
                    let (all, before) = unsafe { (rstds.rows(tile.clone()), befores.rows(tile.clone())) };
                    all.copy_from_slice(&rstd);
                    before
                }
                None => &mut *scratch,
            };
            fc1.product(&normed, before, Write::Overwrite);
            let keep = |row: usize| self.closing.keep(tile.start + row);
            for (row, (before, after)) in
                before.chunks_exact(hidden).zip(after.chunks_exact_mut(hidden)).enumerate()
            {
                bias_gelu(before, self.fc1_bias, keep(row), after);
            }
            // SAFETY: as above, for `out`.
            let out = unsafe { out.rows(tile.clone()) };
            self.closing.forward(&fc2, tile.start, x, &after, out);
        });
        saved
    }

    /// `x, dout: [R, C]`.
    pub fn backward(&self, x: &[f32], mut saved: Saved, dout: &[f32], grads: Grads<'_>) {
        let (width, hidden) = (self.closing.width, self.fc1_bias.len());
        let rows = saved.rstd.len();
        if rows == 0 {
            return;
        }
        let below = grads.x.is_some() || grads.norm.is_some();
        let (fc1, fc2) = (Packed::straight(self.fc1, width, None), self.closing.ready_backward());
        let (mut after, mut normed) = (lease(rows * hidden), lease(rows * width));
        let mut dn = lease(if below { rows * width } else { 0 });
        {
            let before = SharedRows::new(&mut saved.before, hidden);
            let (after, normed) = (SharedRows::new(&mut after, hidden), SharedRows::new(&mut normed, width));
            let dn = SharedRows::new(&mut dn, width);
            let rstd = &saved.rstd;
            for_each_tile(rows, |tile| {
                let span = tile.start * width..tile.end * width;
                // SAFETY: tiles are disjoint, and the buffers are borrowed until all are done.
                let (before, after, normed) = unsafe {
                    (before.rows(tile.clone()), after.rows(tile.clone()), normed.rows(tile.clone()))
                };
                let row_of = Rows::new(&x[span.clone()], width);
                norm::rms_again(row_of, self.norm.weight, &rstd[tile.clone()], normed);
                let pairs = before.chunks_exact_mut(hidden).zip(after.chunks_exact_mut(hidden));
                for (row, (before, after)) in pairs.enumerate() {
                    bias_gelu_slope(before, self.fc1_bias, self.closing.keep(tile.start + row), after);
                }
                let mut dh = lease(before.len());
                fc2.product(&dout[span], &mut dh, Write::Overwrite);
                multiply(&dh, before);
                if below {
                    // SAFETY: as above.
                    let dn = unsafe { dn.rows(tile) };
                    fc1.product(before, dn, Write::Overwrite);
                }
            });
        }
        self.closing.weight_gradients(dout, &after, grads.closing);
        drop(after);
        let dims = Dims { rows, inputs: width, outputs: hidden };
        if let Some(dw) = grads.fc1 {
            linear::weight_gradient(&normed, &saved.before, dw, Write::Add, dims);
        }
        if let Some(db) = grads.fc1_bias {
            linear::bias_gradient(&saved.before, db);
        }
        norm_backward(x, self.norm, &saved.rstd, (&dn, dout), grads.x, grads.norm);
    }
}
