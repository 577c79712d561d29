//! The perceptron branch of a LLaMA layer: `out = x + (silu(n wg^T) * (n wu^T)) wd^T` with `n = norm(x)` (Shazeer 2020).
//!
//! Kept for the backward: each row's norm statistic and the two projections. The rest is computed again.
//!
//! Must not know: tensors, tapes.

use crate::kernels::{
    activation::{gated_forward, silu_mul, silu_mul_gradients},
    compact::Compact,
    few::FEW,
    linear::{self, Dims},
    matmul::Write,
    memory::{Lease, lease},
    norm::{self, Rows},
    packed::Packed,
};

use super::{Closing, Norm, SharedRows, closing::ClosingGrads, for_each_tile, norm_backward};

/// Weights. C is the width of the residual stream, H of the perceptron.
#[derive(Clone, Copy, Debug)]
pub struct LlamaMlp<'a> {
    /// Before the perceptron.
    pub norm: Norm<'a>,
    /// `[H, C]`
    pub gate: &'a [f32],
    /// `[H, C]`
    pub up: &'a [f32],
    /// The last projection.
    pub closing: Closing<'a>,
}

/// What the backward needs of the forward.
pub struct Saved {
    rstd: Lease,
    gate: Lease,
    up: Lease,
}

/// Where the gradients go; each is added to.
pub struct Grads<'a> {
    /// `[R, C]`
    pub x: Option<&'a mut [f32]>,
    /// As the norm's weight.
    pub norm: Option<&'a mut [f32]>,
    /// As `gate`.
    pub gate: Option<&'a mut [f32]>,
    /// As `up`.
    pub up: Option<&'a mut [f32]>,
    /// As the last projection's weight.
    pub down: Option<&'a mut [f32]>,
}

impl LlamaMlp<'_> {
    /// `x, out: [R, C]`. Nothing is kept unless `save`.
    pub fn forward(&self, x: &[f32], out: &mut [f32], save: bool) -> Option<Saved> {
        let (width, hidden) = (self.closing.width, self.closing.inputs());
        let rows = x.len() / width.max(1);
        if rows <= FEW && !save && self.closing.is_plain() {
            self.few_rows(x, out, [None; 3]);
            return None;
        }
        let (gate_w, up_w) =
            (Packed::transposed(self.gate, width, None), Packed::transposed(self.up, width, None));
        let down_w = self.closing.ready();
        let kept = if save { rows * hidden } else { 0 };
        let mut saved = Saved { rstd: lease(rows), gate: lease(kept), up: lease(kept) };
        let (out, rstd) = (SharedRows::new(out, width), SharedRows::new(&mut saved.rstd, 1));
        let all = [&mut saved.gate, &mut saved.up].map(|all| SharedRows::new(all, hidden));
        for_each_tile(rows, |tile| {
            let x = &x[tile.start * width..tile.end * width];
            let len = tile.len() * hidden;
            let scratch_len = if save { 0 } else { len };
            let (mut gate_scratch, mut up_scratch) = (lease(scratch_len), lease(scratch_len));
            let (mut normed, mut product) = (lease(x.len()), lease(len));
            // SAFETY: tiles are disjoint, here and below, and the buffers are borrowed until all are done.
            let (rstd, out) = unsafe { (rstd.rows(tile.clone()), out.rows(tile.clone())) };
            norm::rms_rows(Rows::new(x, width), self.norm.weight, self.norm.eps, &mut normed, rstd);
            let (gate, up) = match save {
                // SAFETY: as above.
                true => unsafe { (all[0].rows(tile.clone()), all[1].rows(tile.clone())) },
                false => (&mut *gate_scratch, &mut *up_scratch),
            };
            gate_w.product(&normed, gate, Write::Overwrite);
            up_w.product(&normed, up, Write::Overwrite);
            silu_mul(gate, up, &mut product);
            self.closing.forward(&down_w, tile.start, x, &product, out);
        });
        save.then_some(saved)
    }

    /// As [`LlamaMlp::forward`], with the same bits, for few rows, of which a tile would have one thread read all weights: each
    /// step on all threads, by the kept forms of gate, up and the last projection that there are.
    pub fn few_rows(&self, x: &[f32], out: &mut [f32], [gate_w, up_w, down_w]: [Option<&Compact>; 3]) {
        let (width, hidden) = (self.closing.width, self.closing.inputs());
        let rows = x.len() / width.max(1);
        let (mut normed, mut rstd) = (lease(x.len()), lease(rows));
        norm::rms_rows(Rows::new(x, width), self.norm.weight, self.norm.eps, &mut normed, &mut rstd);
        let [mut gate, mut up, mut product] = [0; 3].map(|_| lease(rows * hidden));
        let dims = Dims { rows, inputs: width, outputs: hidden };
        let project = |kept: Option<&Compact>, w: &[f32], out: &mut [f32]| match kept {
            Some(kept) => kept.product(&normed, out, Write::Overwrite),
            None => linear::forward(&normed, w, None, out, dims),
        };
        rayon::join(|| project(gate_w, self.gate, &mut gate), || project(up_w, self.up, &mut up));
        gated_forward(&gate, &up, &mut product);
        out.copy_from_slice(x);
        match down_w {
            Some(kept) => kept.product(&product, out, Write::Add),
            None => {
                let dims = Dims { rows, inputs: hidden, outputs: width };
                linear::add(&product, self.closing.weight, out, dims);
            }
        }
    }

    /// `x, dout: [R, C]`.
    pub fn backward(&self, x: &[f32], mut saved: Saved, dout: &[f32], grads: Grads<'_>) {
        let (width, hidden) = (self.closing.width, self.closing.inputs());
        let rows = saved.rstd.len();
        if rows == 0 {
            return;
        }
        let below = grads.x.is_some() || grads.norm.is_some();
        let (mut product, mut normed) = (lease(rows * hidden), lease(rows * width));
        let mut dn = lease(if below { rows * width } else { 0 });
        let (gate_w, up_w) =
            (Packed::straight(self.gate, width, None), Packed::straight(self.up, width, None));
        let down_w = self.closing.ready_backward();
        {
            let [gate, up, product] =
                [&mut saved.gate, &mut saved.up, &mut product].map(|all| SharedRows::new(all, hidden));
            let [normed, dn] = [&mut normed, &mut dn].map(|all| SharedRows::new(all, width));
            let rstd = &saved.rstd;
            for_each_tile(rows, |tile| {
                let span = tile.start * width..tile.end * width;
                // SAFETY: tiles are disjoint, and the buffers are borrowed until all are done.
                let (gate, up, product, normed) = unsafe {
                    let rows = || tile.clone();
                    (gate.rows(rows()), up.rows(rows()), product.rows(rows()), normed.rows(rows()))
                };
                norm::rms_again(
                    Rows::new(&x[span.clone()], width),
                    self.norm.weight,
                    &rstd[tile.clone()],
                    normed,
                );
                let mut d_product = lease(product.len());
                down_w.product(&dout[span], &mut d_product, Write::Overwrite);
                silu_mul_gradients(gate, up, &d_product, product);
                if below {
                    // SAFETY: as above.
                    let dn = unsafe { dn.rows(tile) };
                    gate_w.product(gate, dn, Write::Overwrite);
                    up_w.product(up, dn, Write::Add);
                }
            });
        }
        let closing = ClosingGrads { weight: grads.down, ..ClosingGrads::default() };
        self.closing.weight_gradients(dout, &product, closing);
        let dims = Dims { rows, inputs: width, outputs: hidden };
        for (dw, dy) in [(grads.gate, &saved.gate), (grads.up, &saved.up)] {
            if let Some(dw) = dw {
                linear::weight_gradient(&normed, dy, dw, Write::Add, dims);
            }
        }
        norm_backward(x, self.norm, &saved.rstd, (&dn, dout), grads.x, grads.norm);
    }
}
