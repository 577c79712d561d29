//! The attention branch of an InternViT block: `out = x + keep gamma (attention(norm(x) w_qkv^T + b) w^T + b)`.
//!
//! Every token of a record sees every token of it. Kept for the backward: the statistics of all norms, the packed
//! queries, keys and values before their norms, the log-sum-exp of the scores and attention's output. The normalised
//! rows are computed again.
//!
//! Must not know: tensors, tapes, how `keep` was drawn.

use crate::kernels::{
    attention::{self, Inputs, Mask, Shape},
    linear::{self, Dims},
    matmul::Write,
    memory::{Lease, lease, zeros},
    norm::{self, Rows},
    packed::Packed,
};

use super::{Closing, Norm, SharedRows, closing::ClosingGrads, for_each_tile, norm_backward};

/// Norms of queries and keys over all heads concatenated.
#[derive(Clone, Copy, Debug)]
pub struct QkNorm<'a> {
    /// `[C]`
    pub query: &'a [f32],
    /// `[C]`
    pub key: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// Weights and sizes. C is the width of the residual stream, N the tokens of a record.
#[derive(Clone, Copy, Debug)]
pub struct VitAttention<'a> {
    /// Before the projection.
    pub norm: Norm<'a>,
    /// `[3C, C]`
    pub qkv: &'a [f32],
    /// `[3C]`
    pub qkv_bias: Option<&'a [f32]>,
    /// On queries and keys.
    pub qk_norm: Option<QkNorm<'a>>,
    /// The last projection with its bias, LayerScale and stochastic depth; its width and inputs are both C.
    pub closing: Closing<'a>,
    /// B: records.
    pub batch: usize,
    /// h: heads.
    pub heads: usize,
}

/// What the backward needs of the forward.
pub struct Saved {
    rstd: Lease,
    qkv: Lease,
    /// Of queries and keys.
    qk_rstd: [Lease; 2],
    lse: Lease,
    /// Attention's output, rows scaled by `keep`.
    attended: Lease,
}

/// Where the gradients go; each is added to.
pub struct Grads<'a> {
    /// `[R, C]`
    pub x: Option<&'a mut [f32]>,
    /// As the norm's weight.
    pub norm: Option<&'a mut [f32]>,
    /// As `qkv`.
    pub qkv: Option<&'a mut [f32]>,
    /// As `qkv_bias`.
    pub qkv_bias: Option<&'a mut [f32]>,
    /// As the weights of the norms of queries and keys.
    pub qk_norm: [Option<&'a mut [f32]>; 2],
    /// The last projection's.
    pub closing: ClosingGrads<'a>,
}

/// Queries and keys as attention takes them, where they differ from the packed ones: `[R, C]` each.
type Normed = Option<[Lease; 2]>;

impl VitAttention<'_> {
    fn width(&self) -> usize {
        self.closing.width
    }

    /// `x, out: [R, C]` with R = B N. Nothing is kept unless `save`.
    pub fn forward(&self, x: &[f32], out: &mut [f32], save: bool) -> Option<Saved> {
        let width = self.width();
        let rows = x.len() / width.max(1);
        let mut qkv = lease(rows * 3 * width);
        let (mut rstd, mut qk_rstd) = (lease(rows), [lease(rows), lease(rows)]);
        let mut normed: Normed = self.qk_norm.map(|_| [lease(rows * width), lease(rows * width)]);
        self.project(x, &mut qkv, &mut rstd, &mut qk_rstd, &mut normed);
        let (mut attended, mut lse) = (lease(rows * width), lease(self.heads * rows));
        attention::forward(self.inputs(&qkv, &normed), &mut attended, &mut lse, &self.shape(rows));
        drop(normed);
        self.close(x, &mut attended, out);
        save.then_some(Saved { rstd, qkv, qk_rstd, lse, attended })
    }

    /// Norm, projection and the norms of queries and keys.
    fn project(
        &self,
        x: &[f32],
        qkv: &mut [f32],
        rstd: &mut [f32],
        qk_rstd: &mut [Lease; 2],
        normed: &mut Normed,
    ) {
        let width = self.width();
        let weight = Packed::transposed(self.qkv, width, None);
        let (rows, qkv) = (rstd.len(), SharedRows::new(qkv, 3 * width));
        let [q_rstd, k_rstd] = qk_rstd.each_mut().map(|rstd| SharedRows::new(rstd, 1));
        let rstd = SharedRows::new(rstd, 1);
        let normed = normed.as_mut().map(|parts| parts.each_mut().map(|part| SharedRows::new(part, width)));
        for_each_tile(rows, |tile| {
            let x = &x[tile.start * width..tile.end * width];
            // SAFETY: tiles are disjoint, here and below, and the buffers are borrowed until all are done.
            let (qkv, rstd) = unsafe { (qkv.rows(tile.clone()), rstd.rows(tile.clone())) };
            let mut rows = lease(x.len());
            norm::rms_rows(Rows::new(x, width), self.norm.weight, self.norm.eps, &mut rows, rstd);
            let write = match self.qkv_bias {
                Some(bias) => {
                    qkv.chunks_exact_mut(3 * width).for_each(|row| row.copy_from_slice(bias));
                    Write::Add
                }
                None => Write::Overwrite,
            };
            weight.product(&rows, qkv, write);
            if let (Some(norms), Some([q, k])) = (self.qk_norm, &normed) {
                for (index, weight, part, rstd) in [(0, norms.query, q, q_rstd), (1, norms.key, k, k_rstd)] {
                    let before = Rows { data: &qkv[index * width..], stride: 3 * width };
                    // SAFETY: as above.
                    let (after, rstd) = unsafe { (part.rows(tile.clone()), rstd.rows(tile.clone())) };
                    norm::rms_rows(before, weight, norms.eps, after, rstd);
                }
            }
        });
    }

    /// The last projection onto the residual stream. Leaves `attended` scaled by `keep`.
    fn close(&self, x: &[f32], attended: &mut [f32], out: &mut [f32]) {
        let width = self.width();
        let ready = self.closing.ready();
        let (rows, out) = (x.len() / width.max(1), SharedRows::new(out, width));
        let attended = SharedRows::new(attended, width);
        for_each_tile(rows, |tile| {
            // SAFETY: tiles are disjoint and the buffers are borrowed until all are done.
            let (out, attended) = unsafe { (out.rows(tile.clone()), attended.rows(tile.clone())) };
            scale_rows(&self.closing, tile.start, attended);
            self.closing.forward(&ready, tile.start, &x[tile.start * width..tile.end * width], attended, out);
        });
    }

    /// `x, dout: [R, C]`.
    pub fn backward(&self, x: &[f32], saved: Saved, dout: &[f32], grads: Grads<'_>) {
        let width = self.width();
        let rows = saved.rstd.len();
        if rows == 0 {
            return;
        }
        let (mut d_attended, mut normed) = (lease(rows * width), None);
        self.open_backward(&saved, dout, &mut d_attended, &mut normed);
        self.closing.weight_gradients(dout, &saved.attended, grads.closing);
        let mut dqkv = zeros(rows * 3 * width);
        let mut d_normed: Normed = self.qk_norm.map(|_| [zeros(rows * width), zeros(rows * width)]);
        let targets = match &mut d_normed {
            None => attention::Grads::Packed(&mut dqkv),
            Some([dq, dk]) => {
                attention::Grads::Separate { dq: Some(dq), dk: Some(dk), dv: Some(&mut dqkv[2 * width..]) }
            }
        };
        let inputs = self.inputs(&saved.qkv, &normed);
        attention::backward(inputs, &saved.lse, &d_attended, targets, &self.shape(rows));
        drop((d_attended, normed));
        if let (Some(norms), Some(d_normed)) = (self.qk_norm, &d_normed) {
            self.norms_backward(&saved, norms, d_normed, &mut dqkv, grads.qk_norm);
        }
        drop(d_normed);
        let below = grads.x.is_some() || grads.norm.is_some();
        let mut dn = lease(if below { rows * width } else { 0 });
        if below {
            let weight = Packed::straight(self.qkv, width, None);
            let dn = SharedRows::new(&mut dn, width);
            for_each_tile(rows, |tile| {
                let dqkv = &dqkv[tile.start * 3 * width..tile.end * 3 * width];
                // SAFETY: tiles are disjoint and `dn` is borrowed until all are done.
                let dn = unsafe { dn.rows(tile) };
                weight.product(dqkv, dn, Write::Overwrite);
            });
        }
        if let Some(dw) = grads.qkv {
            let mut normed = lease(rows * width);
            norm::rms_repeat(x, self.norm.weight, &saved.rstd, &mut normed);
            let dims = Dims { rows, inputs: width, outputs: 3 * width };
            linear::weight_gradient(&normed, &dqkv, dw, Write::Add, dims);
        }
        if let Some(db) = grads.qkv_bias {
            linear::bias_gradient(&dqkv, db);
        }
        norm_backward(x, self.norm, &saved.rstd, (&dn, dout), grads.x, grads.norm);
    }

    /// The gradient of attention's output, and the normalised queries and keys once more.
    fn open_backward(&self, saved: &Saved, dout: &[f32], d_attended: &mut [f32], normed: &mut Normed) {
        let width = self.width();
        let rows = saved.rstd.len();
        let ready = self.closing.ready_backward();
        *normed = self.qk_norm.map(|_| [lease(rows * width), lease(rows * width)]);
        let d_attended = SharedRows::new(d_attended, width);
        let normed = normed.as_mut().map(|parts| parts.each_mut().map(|part| SharedRows::new(part, width)));
        for_each_tile(rows, |tile| {
            // SAFETY: tiles are disjoint, here and below, and the buffers are borrowed until all are done.
            let d_attended = unsafe { d_attended.rows(tile.clone()) };
            let dout = &dout[tile.start * width..tile.end * width];
            ready.product(dout, d_attended, Write::Overwrite);
            scale_rows(&self.closing, tile.start, d_attended);
            if let (Some(norms), Some([q, k])) = (self.qk_norm, &normed) {
                let qkv = &saved.qkv[tile.start * 3 * width..tile.end * 3 * width];
                for (index, weight, part) in [(0, norms.query, q), (1, norms.key, k)] {
                    let before = Rows { data: &qkv[index * width..], stride: 3 * width };
                    // SAFETY: as above.
                    let after = unsafe { part.rows(tile.clone()) };
                    norm::rms_again(before, weight, &saved.qk_rstd[index][tile.clone()], after);
                }
            }
        });
    }

    /// Gradients of the packed queries and keys, and of their norms' weights.
    fn norms_backward(
        &self,
        saved: &Saved,
        norms: QkNorm<'_>,
        d_normed: &[Lease; 2],
        dqkv: &mut [f32],
        dw: [Option<&mut [f32]>; 2],
    ) {
        let width = self.width();
        let packed = SharedRows::new(dqkv, 3 * width);
        let weights = [norms.query, norms.key];
        for_each_tile(saved.rstd.len(), |tile| {
            // SAFETY: tiles are disjoint and `dqkv` is borrowed until all are done.
            let dqkv = unsafe { packed.rows(tile.clone()) };
            let qkv = &saved.qkv[tile.start * 3 * width..tile.end * 3 * width];
            for (index, weight) in weights.into_iter().enumerate() {
                let before = Rows { data: &qkv[index * width..], stride: 3 * width };
                let d_after = &d_normed[index][tile.start * width..tile.end * width];
                let (rstd, into) = (&saved.qk_rstd[index][tile.clone()], &mut dqkv[index * width..]);
                norm::rms_input_rows(before, weight, rstd, d_after, into, 3 * width);
            }
        });
        for (index, dw) in dw.into_iter().enumerate() {
            if let Some(dw) = dw {
                let before = Rows { data: &saved.qkv[index * width..], stride: 3 * width };
                norm::rms_weight_gradient(before, &saved.qk_rstd[index], &d_normed[index], dw);
            }
        }
    }

    fn inputs<'a>(&self, qkv: &'a [f32], normed: &'a Normed) -> Inputs<'a> {
        let width = self.width();
        // Nothing to skip in an empty batch.
        let part = |index: usize| &qkv[(index * width).min(qkv.len())..];
        match normed {
            Some([q, k]) => Inputs { q, k, v: part(2), mask: Mask::None },
            None => Inputs { q: qkv, k: part(1), v: part(2), mask: Mask::None },
        }
    }

    fn shape(&self, rows: usize) -> Shape {
        let width = self.width();
        let (len, head_dim) = (rows / self.batch.max(1), width / self.heads);
        let qk_stride = if self.qk_norm.is_some() { width } else { 3 * width };
        Shape {
            batch: self.batch,
            heads: self.heads,
            head_dim,
            q_len: len,
            k_len: len,
            q_stride: qk_stride,
            k_stride: qk_stride,
            v_stride: 3 * width,
            out_stride: width,
            scale: (head_dim as f32).sqrt().recip(),
        }
    }
}

/// Rows from `first` on, each times its `keep`.
fn scale_rows(closing: &Closing<'_>, first: usize, rows: &mut [f32]) {
    if closing.keep.is_some() {
        for (row, data) in rows.chunks_exact_mut(closing.width).enumerate() {
            let keep = closing.keep(first + row);
            data.iter_mut().for_each(|x| *x *= keep);
        }
    }
}
