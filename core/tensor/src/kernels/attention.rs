//! Scaled dot-product attention (Vaswani et al. 2017) over many heads, without keeping the scores.
//!
//! A task owns some heads, and computes one after the other. It holds the scores of at most [`TILE`] queries
//! at a time; the forward leaves each query's log-sum-exp, from which the backward makes the probabilities
//! again, as in FlashAttention (Dao et al. 2022). A query's keys are never split, so no running maximum is
//! needed. Keys that no query of a tile may see are left out of all sums.
//!
//! ```text
//! head      one head, tile by tile
//!   on:  padded (scratch matrices)  product (their products)  visible (masks)  targets (gradients)
//! ```
//!
//! Must not know: projections, positions, caches of keys.

mod head;
mod padded;
mod product;
mod targets;
mod visible;

use rayon::prelude::*;

use self::{
    head::{Head, Scratch},
    targets::Targets,
};
use super::{matmul::reach, split::SharedMut};

/// Queries whose scores a task holds at a time: the width of the widest block of a product.
const TILE: usize = 32;
/// Multiply-adds of one product, over the heads of a task: some microseconds of work.
const TASK: usize = 128 * 1024;

/// Sizes and strides.
///
/// Element `(b, i, head, c)` of `q` is `q[(b * q_len + i) * q_stride + head * head_dim + c]`, and likewise for
/// the others, so that q, k and v may be views of one packed `[B, N, 3C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// B: records.
    pub batch: usize,
    /// h: heads.
    pub heads: usize,
    /// d: features of one head.
    pub head_dim: usize,
    /// Nq: queries of a record.
    pub q_len: usize,
    /// Nk: keys of a record.
    pub k_len: usize,
    /// From one query to the next.
    pub q_stride: usize,
    /// From one key to the next.
    pub k_stride: usize,
    /// From one value to the next.
    pub v_stride: usize,
    /// From one output row to the next.
    pub out_stride: usize,
    /// Factor of the scores, usually `1 / sqrt(d)`.
    pub scale: f32,
}

/// Which keys a query may see. A query that sees none gets zeros, and a log-sum-exp of minus infinity.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// All.
    None,
    /// Query `i` sees the keys up to `i + (Nk - Nq)`.
    Causal,
    /// Keys that are not padding.
    KeyPadding {
        /// `[B, Nk]`: true where a key may be seen.
        keep: &'a [bool],
        /// Whether [`Mask::Causal`] holds as well.
        causal: bool,
    },
    /// `[B, Nq, Nk]`: true where a query may see a key.
    Pattern(&'a [bool]),
}

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[B, Nq, h, d]` with `q_stride`.
    pub q: &'a [f32],
    /// `[B, Nk, h, d]` with `k_stride`.
    pub k: &'a [f32],
    /// `[B, Nk, h, d]` with `v_stride`.
    pub v: &'a [f32],
    /// Who sees whom.
    pub mask: Mask<'a>,
}

/// Where the gradients go; each is added to.
#[derive(Debug)]
pub enum Grads<'a> {
    /// `[B, N, 3C]`: q, k and v side by side, as the projection made them. All strides of the [`Shape`] for
    /// q, k and v are `3C` then, and `Nq = Nk`.
    Packed(&'a mut [f32]),
    /// One slice each, with the strides of q, k and v.
    Separate {
        /// As `q`.
        dq: Option<&'a mut [f32]>,
        /// As `k`.
        dk: Option<&'a mut [f32]>,
        /// As `v`.
        dv: Option<&'a mut [f32]>,
    },
}

/// `out = softmax(scale q k^T) v`, head by head.
///
/// # Shapes
/// - `out: [B, Nq, h, d]` with `out_stride`; what lies between its rows is untouched
/// - `lse: [B, h, Nq]`: the log-sum-exp of each query's scores, for [`backward`]
pub fn forward(inputs: Inputs<'_>, out: &mut [f32], lse: &mut [f32], shape: &Shape) {
    shape.check(&inputs);
    assert!(shape.out_reach() <= out.len() && lse.len() == shape.batch * shape.heads * shape.q_len);
    if lse.is_empty() || shape.head_dim == 0 {
        return;
    }
    let (out, heads) = (SharedMut::new(out), shape.heads_per_task());
    let tasks = lse.par_chunks_mut(heads * shape.q_len).enumerate();
    tasks.for_each_init(Scratch::default, |scratch, (task, lse)| {
        for (index, lse) in (task * heads..).zip(lse.chunks_exact_mut(shape.q_len)) {
            // SAFETY: `out` was found long enough, and each head's rows are written by one task.
            unsafe { Head::new(inputs, shape, index).forward(scratch, out, lse) };
        }
    });
}

/// Adds the gradients of q, k and v for the output's gradient `dout`.
///
/// With the probabilities `P = exp(scale q k^T - lse)`: `dv += P^T dout`, `dP = dout v^T`,
/// `dS = scale P (dP - sum over keys of P dP)`, `dq += dS k`, `dk += dS^T q`.
///
/// # Shapes
/// - `lse: [B, h, Nq]` from [`forward`], `dout: [B, Nq, h, d]` with `out_stride`
pub fn backward(inputs: Inputs<'_>, lse: &[f32], dout: &[f32], grads: Grads<'_>, shape: &Shape) {
    shape.check(&inputs);
    assert!(shape.out_reach() <= dout.len() && lse.len() == shape.batch * shape.heads * shape.q_len);
    if lse.is_empty() || shape.k_len == 0 || shape.head_dim == 0 {
        return;
    }
    let (targets, heads) = (Targets::new(grads, shape), shape.heads_per_task());
    let tasks = lse.par_chunks(heads * shape.q_len).enumerate();
    tasks.for_each_init(Scratch::default, |scratch, (task, lse)| {
        for (index, lse) in (task * heads..).zip(lse.chunks_exact(shape.q_len)) {
            // SAFETY: the targets were found long enough, and each head's rows are written by one task.
            unsafe { Head::new(inputs, shape, index).backward(scratch, lse, dout, &targets) };
        }
    });
}

impl Shape {
    fn check(&self, inputs: &Inputs<'_>) {
        let width = self.heads * self.head_dim;
        let fits = |data: &[f32], rows: usize, stride: usize| {
            (rows <= 1 || stride >= width) && reach(self.batch * rows, width, stride) <= data.len()
        };
        assert!(fits(inputs.q, self.q_len, self.q_stride), "queries lie in their slice");
        assert!(fits(inputs.k, self.k_len, self.k_stride), "keys lie in their slice");
        assert!(fits(inputs.v, self.k_len, self.v_stride), "values lie in their slice");
        match inputs.mask {
            Mask::None | Mask::Causal => {}
            Mask::KeyPadding { keep, .. } => assert_eq!(keep.len(), self.batch * self.k_len),
            Mask::Pattern(pattern) => assert_eq!(pattern.len(), self.batch * self.q_len * self.k_len),
        }
    }

    fn out_reach(&self) -> usize {
        let width = self.heads * self.head_dim;
        assert!(self.out_stride >= width, "output rows do not overlap");
        reach(self.batch * self.q_len, width, self.out_stride)
    }

    /// Fixed by the sizes of one record, so that the cut does not depend on threads or company.
    fn heads_per_task(&self) -> usize {
        let work = self.q_len * self.k_len * self.head_dim;
        (TASK / work.max(1)).max(1)
    }
}
