//! Attention and rotary positions.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    backend::QkNorm,
    error::TensorError,
    kernels::{
        attention::{self, Grads, Inputs, Shape},
        norm, rope,
    },
    mask::Mask,
    tensor::Seq,
};

fn borrow(mask: &Mask) -> attention::Mask<'_> {
    match mask {
        Mask::None => attention::Mask::None,
        Mask::Causal => attention::Mask::Causal,
        Mask::Padding { keep, causal } => attention::Mask::KeyPadding { keep, causal: *causal },
        Mask::Pattern(allowed) => attention::Mask::Pattern(allowed),
    }
}

/// See [`crate::Backend::attention`].
pub(super) fn separate(
    backend: &Cpu,
    [q, k, v]: [Seq<Cpu>; 3],
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<Cpu>, TensorError> {
    let (&(batch, q_len, width), &(_, k_len, _)) = (q.shape(), k.shape());
    mask.check(batch, q_len, k_len)?;
    let shape = shape((batch, q_len, k_len), width, heads, scale, [width; 3]);
    let inputs = [read(q)?, read(k)?, read(v)?];
    let [q, k, v] = &inputs;
    let (mut out, mut lse) = (vec![0.0; batch * q_len * width], vec![0.0; batch * heads * q_len]);
    let sources = Inputs { q: &q.data, k: &k.data, v: &v.data, mask: borrow(mask) };
    attention::forward(sources, &mut out, &mut lse, &shape);
    let mask = mask.clone();
    finish(backend, out, (batch, q_len, width), inputs, move |grads, dout, [q, k, v]| {
        with_gradients(grads, [q, k, v], |[dq, dk, dv]| {
            let sources = Inputs { q: &q.data, k: &k.data, v: &v.data, mask: borrow(&mask) };
            attention::backward(sources, &lse, dout, Grads::Separate { dq, dk, dv }, &shape);
        })
    })
}

fn shape(
    (batch, q_len, k_len): (usize, usize, usize),
    width: usize,
    heads: usize,
    scale: f64,
    [q_stride, k_stride, v_stride]: [usize; 3],
) -> Shape {
    let (head_dim, scale) = (width / heads, scale as f32);
    Shape { batch, heads, head_dim, q_len, k_len, q_stride, k_stride, v_stride, out_stride: width, scale }
}

/// See [`crate::Backend::packed_attention`].
pub(super) fn packed(
    backend: &Cpu,
    qkv: Seq<Cpu>,
    qk_norm: Option<QkNorm<Cpu>>,
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<Cpu>, TensorError> {
    match qk_norm {
        None => plain(backend, qkv, heads, scale, mask),
        Some(norm) => normed(backend, qkv, norm, heads, scale, mask),
    }
}

fn plain(
    backend: &Cpu,
    qkv: Seq<Cpu>,
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<Cpu>, TensorError> {
    let &(batch, len, packed) = qkv.shape();
    mask.check(batch, len, len)?;
    let width = packed / 3;
    let shape = shape((batch, len, len), width, heads, scale, [packed; 3]);
    let qkv = read(qkv)?;
    let (mut out, mut lse) = (vec![0.0; batch * len * width], vec![0.0; batch * heads * len]);
    attention::forward(parts(&qkv.data, width, mask), &mut out, &mut lse, &shape);
    let mask = mask.clone();
    finish(backend, out, (batch, len, width), [qkv], move |grads, dout, [qkv]| {
        with_gradients(grads, [qkv], |[dqkv]| {
            if let Some(dqkv) = dqkv {
                let sources = parts(&qkv.data, width, &mask);
                attention::backward(sources, &lse, dout, Grads::Packed(dqkv), &shape);
            }
        })
    })
}

/// Queries, keys and values within rows of `3 width`.
fn parts<'a>(qkv: &'a [f32], width: usize, mask: &'a Mask) -> Inputs<'a> {
    Inputs { q: qkv, k: &qkv[width..], v: &qkv[2 * width..], mask: borrow(mask) }
}

/// Normalised queries or keys with what their norm needs to go backwards.
struct Normed {
    before: Vec<f32>,
    after: Vec<f32>,
    rstd: Vec<f32>,
}

/// Takes part `index` (0 query, 1 key) out of the packed rows and normalises it.
fn norm_part(qkv: &[f32], index: usize, weight: &[f32], eps: f64) -> Normed {
    let width = weight.len();
    let count = qkv.len() / (3 * width);
    let mut before = Vec::with_capacity(count * width);
    for row in qkv.chunks_exact(3 * width) {
        before.extend_from_slice(&row[index * width..][..width]);
    }
    let (mut after, mut rstd) = (vec![0.0; before.len()], vec![0.0; count]);
    norm::rms_forward(&before, weight, eps as f32, &mut after, &mut rstd);
    Normed { before, after, rstd }
}

fn normed(
    backend: &Cpu,
    qkv: Seq<Cpu>,
    norms: QkNorm<Cpu>,
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<Cpu>, TensorError> {
    let &(batch, len, packed) = qkv.shape();
    mask.check(batch, len, len)?;
    let width = packed / 3;
    let shape = shape((batch, len, len), width, heads, scale, [width, width, packed]);
    let inputs = [read(qkv)?, read(norms.query)?, read(norms.key)?];
    let [qkv, query_w, key_w] = &inputs;
    let q = norm_part(&qkv.data, 0, &query_w.data, norms.eps);
    let k = norm_part(&qkv.data, 1, &key_w.data, norms.eps);
    let (mut out, mut lse) = (vec![0.0; batch * len * width], vec![0.0; batch * heads * len]);
    let sources = Inputs { q: &q.after, k: &k.after, v: &qkv.data[2 * width..], mask: borrow(mask) };
    attention::forward(sources, &mut out, &mut lse, &shape);
    let mask = mask.clone();
    finish(backend, out, (batch, len, width), inputs, move |grads, dout, [qkv, query_w, key_w]| {
        let (mut dq, mut dk) = (vec![0.0; q.after.len()], vec![0.0; k.after.len()]);
        with_gradients(grads, [qkv, query_w, key_w], |[mut dqkv, dwq, dwk]| {
            let sources = Inputs { q: &q.after, k: &k.after, v: &qkv.data[2 * width..], mask: borrow(&mask) };
            let dv = dqkv.as_deref_mut().map(|dqkv| &mut dqkv[2 * width..]);
            let separate = Grads::Separate { dq: Some(&mut dq), dk: Some(&mut dk), dv };
            attention::backward(sources, &lse, dout, separate, &shape);
            norm_part_backward(&q, &query_w.data, &dq, dqkv.as_deref_mut(), dwq, 0);
            norm_part_backward(&k, &key_w.data, &dk, dqkv, dwk, 1);
        })
    })
}

/// Adds to part `index` of the packed gradient, and to the weight's.
fn norm_part_backward(
    part: &Normed,
    weight: &[f32],
    dy: &[f32],
    dqkv: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
    index: usize,
) {
    let width = weight.len();
    let Some(dqkv) = dqkv else {
        return norm::rms_backward(&part.before, weight, &part.rstd, dy, None, dw);
    };
    let mut dx = vec![0.0; part.before.len()];
    norm::rms_backward(&part.before, weight, &part.rstd, dy, Some(&mut dx), dw);
    for (row, dx) in dqkv.chunks_exact_mut(3 * width).zip(dx.chunks_exact(width)) {
        row[index * width..][..width].iter_mut().zip(dx).for_each(|(sum, dx)| *sum += dx);
    }
}

/// See [`crate::Backend::rotary`].
pub(super) fn rotary(
    backend: &Cpu,
    x: Seq<Cpu>,
    heads: usize,
    base: f64,
    positions: &[u32],
) -> Result<Seq<Cpu>, TensorError> {
    let shape = *x.shape();
    let layout = rope::Layout { heads, head_dim: shape.2 / heads, row_stride: shape.2, base: base as f32 };
    let positions = positions.to_vec();
    let x = read(x)?;
    let mut out = x.data.clone();
    rope::apply(&mut out, &positions, &layout, rope::Direction::Forward);
    finish(backend, out, shape, [x], move |grads, dy, [x]| {
        with_gradients(grads, [x], |[dx]| {
            if let Some(dx) = dx {
                let mut turned = dy.to_vec();
                rope::apply(&mut turned, &positions, &layout, rope::Direction::Inverse);
                dx.iter_mut().zip(turned).for_each(|(dx, turned)| *dx += turned);
            }
        })
    })
}
