//! Scaled dot-product attention (Vaswani et al. 2017) over many heads, without keeping the scores.
//!
//! A task owns one head of one record. It holds the scores of at most [`TILE`] queries at a time; the forward
//! leaves each query's log-sum-exp, from which the backward makes the probabilities again, as in
//! FlashAttention (Dao et al. 2022). A query's keys are never split, so no running maximum is needed.
//!
//! Must not know: projections, positions, caches of keys.

use rayon::prelude::*;

use super::matmul::{Matrix, MatrixMut, Threads, Write, product, reach};
use super::softmax::{Row, gradient_row, probability_row, softmax_row};
use super::split::SharedMut;

/// Queries whose scores a task holds at a time.
const TILE: usize = 64;

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
    let out = SharedMut::new(out);
    lse.par_chunks_mut(shape.q_len).enumerate().for_each_init(Vec::new, |scores, (index, lse)| {
        let head = Head::new(inputs, shape, index);
        for (first, rows) in tiles(shape.q_len) {
            scores.resize(rows * shape.k_len, 0.0);
            head.scores(first, rows, scores);
            for i in 0..rows {
                let row = &mut scores[i * shape.k_len..][..shape.k_len];
                lse[first + i] = softmax_row(row, head.visible(first + i));
            }
            let weights = Matrix::new(scores, rows, shape.k_len);
            // SAFETY: `out` was found long enough, and no other task writes this head's rows.
            let tile = unsafe { head.tile(out, shape.q_offset(index, first), rows, shape.out_stride) };
            product(1.0, weights, head.v, tile, Write::Overwrite, Threads::One);
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
    let targets = Targets::new(grads, shape);
    lse.par_chunks(shape.q_len).enumerate().for_each_init(Scratch::default, |scratch, (index, lse)| {
        let head = Head::new(inputs, shape, index);
        for (first, rows) in tiles(shape.q_len) {
            scratch.resize(rows * shape.k_len);
            head.scores(first, rows, &mut scratch.p);
            let dout = shape.query_rows(dout, shape.out_stride, index, first, rows);
            let dp = MatrixMut::new(&mut scratch.ds, rows, shape.k_len);
            product(1.0, dout, head.v.t(), dp, Write::Overwrite, Threads::One);
            for i in 0..rows {
                let range = i * shape.k_len..(i + 1) * shape.k_len;
                let (p, ds) = (&mut scratch.p[range.clone()], &mut scratch.ds[range]);
                probability_row(p, lse[first + i], head.visible(first + i));
                gradient_row(p, ds, shape.scale);
            }
            targets.add(&head, (first, rows), scratch, dout);
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

    /// Record, row and head of query `first` of head number `index`, counted over the batch.
    fn q_offset(&self, index: usize, first: usize) -> (usize, usize) {
        (index / self.heads * self.q_len + first, index % self.heads * self.head_dim)
    }

    /// Rows `first..first + rows` of one head in a slice laid out by queries.
    fn query_rows<'a>(
        &self,
        data: &'a [f32],
        stride: usize,
        index: usize,
        first: usize,
        rows: usize,
    ) -> Matrix<'a> {
        let (row, column) = self.q_offset(index, first);
        Matrix::strided(&data[row * stride + column..], rows, self.head_dim, stride)
    }
}

/// The tiles of `rows` queries: first row and number of rows.
fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(TILE).map(move |first| (first, TILE.min(rows - first)))
}

/// One head of one record.
struct Head<'a> {
    inputs: Inputs<'a>,
    shape: &'a Shape,
    index: usize,
    k: Matrix<'a>,
    v: Matrix<'a>,
}

impl<'a> Head<'a> {
    fn new(inputs: Inputs<'a>, shape: &'a Shape, index: usize) -> Self {
        let (row, column) = (index / shape.heads * shape.k_len, index % shape.heads * shape.head_dim);
        let keys = |data: &'a [f32], stride: usize| {
            let from = if shape.k_len == 0 { 0 } else { row * stride + column };
            Matrix::strided(&data[from..], shape.k_len, shape.head_dim, stride)
        };
        Self { inputs, shape, index, k: keys(inputs.k, shape.k_stride), v: keys(inputs.v, shape.v_stride) }
    }

    fn queries(&self, first: usize, rows: usize) -> Matrix<'a> {
        self.shape.query_rows(self.inputs.q, self.shape.q_stride, self.index, first, rows)
    }

    /// `scores = scale q k^T` for a tile: `[rows, Nk]`.
    fn scores(&self, first: usize, rows: usize, scores: &mut [f32]) {
        let out = MatrixMut::new(scores, rows, self.shape.k_len);
        let q = self.queries(first, rows);
        product(self.shape.scale, q, self.k.t(), out, Write::Overwrite, Threads::One);
    }

    /// What query `i` of this record sees.
    fn visible(&self, i: usize) -> Row<'a> {
        let Shape { q_len, k_len, .. } = *self.shape;
        let record = self.index / self.shape.heads;
        let causal = (i + 1 + k_len).saturating_sub(q_len).min(k_len);
        match self.inputs.mask {
            Mask::None => Row { prefix: k_len, keep: None },
            Mask::Causal => Row { prefix: causal, keep: None },
            Mask::KeyPadding { keep, causal: is_causal } => Row {
                prefix: if is_causal { causal } else { k_len },
                keep: Some(&keep[record * k_len..][..k_len]),
            },
            Mask::Pattern(pattern) => {
                Row { prefix: k_len, keep: Some(&pattern[(record * q_len + i) * k_len..][..k_len]) }
            }
        }
    }

    /// This head's part of `rows` rows of a shared slice, from `(row, column)`.
    ///
    /// # Safety
    /// The rows must lie in the slice, and no other task may touch this head's part of them.
    unsafe fn tile(
        &self,
        data: SharedMut,
        (row, column): (usize, usize),
        rows: usize,
        stride: usize,
    ) -> MatrixMut<'static> {
        // SAFETY: promised by the caller.
        unsafe { MatrixMut::from_raw(data.at(row * stride + column), rows, self.shape.head_dim, stride) }
    }
}

/// Probabilities and score gradients of one tile, `[rows, Nk]` each.
#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
}

impl Scratch {
    fn resize(&mut self, len: usize) {
        self.p.resize(len, 0.0);
        self.ds.resize(len, 0.0);
    }
}

/// The gradients' slices, shared by the tasks.
struct Targets {
    dq: Option<SharedMut>,
    dk: Option<SharedMut>,
    dv: Option<SharedMut>,
}

impl Targets {
    fn new(grads: Grads<'_>, shape: &Shape) -> Self {
        let width = shape.heads * shape.head_dim;
        match grads {
            Grads::Packed(packed) => {
                let strides = [shape.q_stride, shape.k_stride, shape.v_stride];
                assert!(strides == [3 * width; 3] && shape.q_len == shape.k_len, "q, k and v are packed");
                assert_eq!(packed.len(), shape.batch * shape.q_len * 3 * width);
                let (dq, rest) = (SharedMut::new(packed), width);
                // SAFETY: the slice holds at least one row of 3 C elements, because `lse` is not empty.
                let (dk, dv) = unsafe { (dq.shifted(rest), dq.shifted(2 * rest)) };
                Self { dq: Some(dq), dk: Some(dk), dv: Some(dv) }
            }
            Grads::Separate { dq, dk, dv } => {
                let share = |slice: Option<&mut [f32]>, rows: usize, stride: usize| {
                    slice.map(|slice| {
                        assert!(reach(shape.batch * rows, width, stride) <= slice.len());
                        SharedMut::new(slice)
                    })
                };
                Self {
                    dq: share(dq, shape.q_len, shape.q_stride),
                    dk: share(dk, shape.k_len, shape.k_stride),
                    dv: share(dv, shape.k_len, shape.v_stride),
                }
            }
        }
    }

    /// Adds what one tile of queries contributes.
    fn add(&self, head: &Head<'_>, (first, rows): (usize, usize), scratch: &Scratch, dout: Matrix<'_>) {
        let shape = head.shape;
        let keys = (head.index / shape.heads * shape.k_len, head.index % shape.heads * shape.head_dim);
        let p = Matrix::new(&scratch.p, rows, shape.k_len);
        let ds = Matrix::new(&scratch.ds, rows, shape.k_len);
        if let Some(dq) = self.dq {
            // SAFETY: lengths were checked in `new`; the rows of this head belong to this task.
            let tile = unsafe { head.tile(dq, shape.q_offset(head.index, first), rows, shape.q_stride) };
            product(1.0, ds, head.k, tile, Write::Add, Threads::One);
        }
        if let Some(dk) = self.dk {
            // SAFETY: as above.
            let tile = unsafe { head.tile(dk, keys, shape.k_len, shape.k_stride) };
            product(1.0, ds.t(), head.queries(first, rows), tile, Write::Add, Threads::One);
        }
        if let Some(dv) = self.dv {
            // SAFETY: as above.
            let tile = unsafe { head.tile(dv, keys, shape.k_len, shape.v_stride) };
            product(1.0, p.t(), dout, tile, Write::Add, Threads::One);
        }
    }
}
