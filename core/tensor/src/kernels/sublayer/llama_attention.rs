//! The attention branch of a LLaMA layer: `out = x + attention(rope(n wq^T), rope(n wk^T), n wv^T) wo^T`, `n = norm(x)`.
//!
//! Kept for the backward: each row's norm statistic, the turned queries and keys, the values, the log-sum-exp of the
//! scores and attention's output.
//!
//! Must not know: tensors, tapes.

use crate::kernels::{
    attention::{self, Inputs, Mask, Shape},
    linear::{self, Dims},
    matmul::Write,
    memory::{Lease, lease, zeros},
    norm::{self, Rows},
    packed::Packed,
    rope::{self, Direction, Layout},
};

use super::{Closing, Norm, SharedRows, closing::ClosingGrads, for_each_tile, norm_backward};

/// Weights and sizes. C is the width of the residual stream, T the tokens of a record.
#[derive(Clone, Copy, Debug)]
pub struct LlamaAttention<'a> {
    /// Before the projections.
    pub norm: Norm<'a>,
    /// Queries, keys and values, `[C, C]` each.
    pub qkv: [&'a [f32]; 3],
    /// The last projection; its width and inputs are both C.
    pub closing: Closing<'a>,
    /// B: records.
    pub batch: usize,
    /// h: heads.
    pub heads: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Of each token of a record, `[T]`.
    pub positions: &'a [u32],
    /// Who sees whom.
    pub mask: Mask<'a>,
}

/// What the backward needs of the forward.
pub struct Saved {
    rstd: Lease,
    /// Turned queries, turned keys, values.
    qkv: [Lease; 3],
    lse: Lease,
    attended: Lease,
}

/// Where the gradients go; each is added to.
pub struct Grads<'a> {
    /// `[R, C]`
    pub x: Option<&'a mut [f32]>,
    /// As the norm's weight.
    pub norm: Option<&'a mut [f32]>,
    /// As `qkv`.
    pub qkv: [Option<&'a mut [f32]>; 3],
    /// As the last projection's weight.
    pub out: Option<&'a mut [f32]>,
}

impl LlamaAttention<'_> {
    fn width(&self) -> usize {
        self.closing.width
    }

    /// `x, out: [R, C]` with R = B T. Nothing is kept unless `save`.
    pub fn forward(&self, x: &[f32], out: &mut [f32], save: bool) -> Option<Saved> {
        let width = self.width();
        let rows = x.len() / width.max(1);
        let (mut rstd, mut qkv) = (lease(rows), [0; 3].map(|_| lease(rows * width)));
        self.project(x, &mut rstd, &mut qkv);
        let [q, k, v] = &mut qkv;
        self.turn(q, Direction::Forward);
        self.turn(k, Direction::Forward);
        let (mut attended, mut lse) = (lease(rows * width), lease(self.heads * rows));
        let inputs = Inputs { q, k, v, mask: self.mask };
        attention::forward(inputs, &mut attended, &mut lse, &self.shape(rows));
        let (ready, out) = (self.closing.ready(), SharedRows::new(out, width));
        for_each_tile(rows, |tile| {
            let span = tile.start * width..tile.end * width;
            // SAFETY: tiles are disjoint and `out` is borrowed until all are done.
            let out = unsafe { out.rows(tile.clone()) };
            self.closing.forward(&ready, tile.start, &x[span.clone()], &attended[span], out);
        });
        save.then_some(Saved { rstd, qkv, lse, attended })
    }

    /// Norm and the three projections.
    fn project(&self, x: &[f32], rstd: &mut [f32], qkv: &mut [Lease; 3]) {
        let width = self.width();
        let weights = self.qkv.map(|w| Packed::transposed(w, width, None));
        let parts = qkv.each_mut().map(|part| SharedRows::new(part, width));
        let (rows, rstd) = (rstd.len(), SharedRows::new(rstd, 1));
        for_each_tile(rows, |tile| {
            let x = &x[tile.start * width..tile.end * width];
            let mut normed = lease(x.len());
            // SAFETY: tiles are disjoint, here and below, and the buffers are borrowed until all are done.
            let rstd = unsafe { rstd.rows(tile.clone()) };
            norm::rms_rows(Rows::new(x, width), self.norm.weight, self.norm.eps, &mut normed, rstd);
            for (weight, part) in weights.iter().zip(&parts) {
                // SAFETY: as above.
                let part = unsafe { part.rows(tile.clone()) };
                weight.product(&normed, part, Write::Overwrite);
            }
        });
    }

    fn turn(&self, rows: &mut [f32], direction: Direction) {
        let (heads, head_dim) = (self.heads, self.width() / self.heads);
        let layout = Layout { heads, head_dim, row_stride: self.width(), base: self.rope_base };
        rope::apply(rows, self.positions, &layout, direction);
    }

    /// `x, dout: [R, C]`.
    pub fn backward(&self, x: &[f32], saved: Saved, dout: &[f32], grads: Grads<'_>) {
        let width = self.width();
        let rows = saved.rstd.len();
        if rows == 0 {
            return;
        }
        let mut d_attended = lease(rows * width);
        {
            let out_w = self.closing.ready_backward();
            let d_attended = SharedRows::new(&mut d_attended, width);
            for_each_tile(rows, |tile| {
                let dout = &dout[tile.start * width..tile.end * width];
                // SAFETY: tiles are disjoint and `d_attended` is borrowed until all are done.
                let d_attended = unsafe { d_attended.rows(tile) };
                out_w.product(dout, d_attended, Write::Overwrite);
            });
        }
        let closing = ClosingGrads { weight: grads.out, ..ClosingGrads::default() };
        self.closing.weight_gradients(dout, &saved.attended, closing);
        let mut d_qkv = [0; 3].map(|_| zeros(rows * width));
        let [q, k, v] = &saved.qkv;
        let [dq, dk, dv] = &mut d_qkv;
        let targets = attention::Grads::Separate { dq: Some(dq), dk: Some(dk), dv: Some(dv) };
        let inputs = Inputs { q, k, v, mask: self.mask };
        attention::backward(inputs, &saved.lse, &d_attended, targets, &self.shape(rows));
        drop(d_attended);
        let [dq, dk, _] = &mut d_qkv;
        self.turn(dq, Direction::Inverse);
        self.turn(dk, Direction::Inverse);
        let below = grads.x.is_some() || grads.norm.is_some();
        let mut dn = lease(if below { rows * width } else { 0 });
        if below {
            self.norm_gradient(&d_qkv, &mut dn);
        }
        if grads.qkv.iter().any(Option::is_some) {
            let mut normed = lease(rows * width);
            norm::rms_repeat(x, self.norm.weight, &saved.rstd, &mut normed);
            let dims = Dims { rows, inputs: width, outputs: width };
            for (dw, dy) in grads.qkv.into_iter().zip(&d_qkv) {
                if let Some(dw) = dw {
                    linear::weight_gradient(&normed, dy, dw, Write::Add, dims);
                }
            }
        }
        norm_backward(x, self.norm, &saved.rstd, (&dn, dout), grads.x, grads.norm);
    }

    /// The gradient of the normalised rows.
    fn norm_gradient(&self, d_qkv: &[Lease; 3], dn: &mut [f32]) {
        let width = self.width();
        let weights = self.qkv.map(|w| Packed::straight(w, width, None));
        let (rows, dn) = (dn.len() / width.max(1), SharedRows::new(dn, width));
        for_each_tile(rows, |tile| {
            // SAFETY: tiles are disjoint and `dn` is borrowed until all are done.
            let dn = unsafe { dn.rows(tile.clone()) };
            for (index, (weight, dy)) in weights.iter().zip(d_qkv).enumerate() {
                let write = if index == 0 { Write::Overwrite } else { Write::Add };
                let dy = &dy[tile.start * width..tile.end * width];
                weight.product(dy, dn, write);
            }
        });
    }

    fn shape(&self, rows: usize) -> Shape {
        let width = self.width();
        let (len, head_dim) = (rows / self.batch.max(1), width / self.heads);
        Shape {
            batch: self.batch,
            heads: self.heads,
            head_dim,
            q_len: len,
            k_len: len,
            q_stride: width,
            k_stride: width,
            v_stride: width,
            out_stride: width,
            scale: (head_dim as f32).sqrt().recip(),
        }
    }
}
