//! Attention and rotary positions.

use dfdx::prelude::{
    Axes3, Axes4, Axis, BroadcastTo, HasShape, MaxTo, PermuteTo, SumTo, TryAdd, TryConcatAlong, TryDiv,
    TryMatMul, TryMul, TrySub,
};

use crate::{
    backend::{Backend, QkNorm},
    element::Element,
    error::{OnDevice, TensorError},
    mask::Mask,
    tensor::{Seq, Tensor, constant, detach, own_copy, reshape},
};

/// What is added to the score of a key that may not be attended to: far below any score, and still finite,
/// so that a row without any allowed key stays finite.
const FORBIDDEN: f64 = -1e9;

type Rank4<B> = Tensor<(usize, usize, usize, usize), B>;

/// See [`Backend::attention`].
pub fn attention<B: Backend>(
    backend: &B,
    [q, k, v]: [Seq<B>; 3],
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<B>, TensorError> {
    let &(batch, q_len, _) = q.shape();
    let &(_, k_len, _) = k.shape();
    mask.check(batch, q_len, k_len)?;
    let (q, k, v) = (split_heads::<B>(q, heads)?, split_heads::<B>(k, heads)?, split_heads::<B>(v, heads)?);
    let q = q.try_mul(B::Elem::of(scale)).on_device()?;
    let k = k.try_permute::<(usize, usize, usize), Axes3<0, 2, 1>>().on_device()?;
    let scores = add_mask(backend, q.try_matmul(k).on_device()?, heads, mask)?;
    let out = softmax_rows::<B>(scores)?.try_matmul(v).on_device()?;
    join_heads::<B>(out, heads)
}

/// Self-attention of queries, keys and values that lie side by side, `[B, N, 3C]` to `[B, N, C]`.
pub(super) fn packed_attention<B: Backend>(
    backend: &B,
    qkv: Seq<B>,
    qk_norm: Option<QkNorm<B>>,
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, packed) = qkv.shape();
    let width = packed / 3;
    let part = |index: usize| {
        let columns = index * width..(index + 1) * width;
        let part = own_copy::<_, B>(qkv.clone())?.try_slice((0..batch, 0..len, columns)).on_device()?;
        reshape::<_, _, B>(part, (batch, len, width))
    };
    let (mut q, mut k, v) = (part(0)?, part(1)?, part(2)?);
    if let Some(norm) = qk_norm {
        q = normalize_heads(backend, q, norm.query, norm.eps)?;
        k = normalize_heads(backend, k, norm.key, norm.eps)?;
    }
    backend.attention([q, k, v], heads, scale, mask)
}

fn normalize_heads<B: Backend>(
    backend: &B,
    x: Seq<B>,
    weight: crate::tensor::Row<B>,
    eps: f64,
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let rows = reshape::<_, _, B>(x, (batch * len, width))?;
    reshape::<_, _, B>(backend.rms_norm(rows, weight, eps)?, (batch, len, width))
}

/// See [`Backend::rotary`].
pub fn rotary<B: Backend>(
    backend: &B,
    x: Seq<B>,
    heads: usize,
    base: f64,
    positions: &[u32],
) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let head_dim = width / heads;
    let half = head_dim / 2;
    let shape = (batch, len, heads, head_dim);
    let x: Rank4<B> = reshape::<_, _, B>(x, shape)?;
    let table = |f: fn(f64) -> f64| -> Result<Rank4<B>, TensorError> {
        let table = angle_table::<B>(positions, half, base, f);
        let table: Seq<B> = constant(backend, table, (1, len, head_dim))?;
        let table = reshape::<_, _, B>(table, (len, head_dim))?;
        table.try_broadcast_like::<_, dfdx::shapes::Axes2<0, 2>>(&shape).on_device()
    };
    let columns = |columns: std::ops::Range<usize>| {
        own_copy::<_, B>(x.clone())?.try_slice((0..batch, 0..len, 0..heads, columns)).on_device()
    };
    let (lower, upper) = (columns(0..half)?, columns(half..head_dim)?);
    let minus_upper = upper.try_negate().on_device()?;
    let turned: Rank4<B> = (minus_upper, lower).try_concat_along(Axis::<3>).on_device()?;
    let cos = x.try_mul(table(f64::cos)?).on_device()?;
    let sin = turned.try_mul(table(f64::sin)?).on_device()?;
    reshape::<_, _, B>(cos.try_add(sin).on_device()?, (batch, len, width))
}

/// `f(position / base^(2i/d))` for each position, frequencies `i` in `0..d/2` written twice, `[T, d]`.
fn angle_table<B: Backend>(positions: &[u32], half: usize, base: f64, f: fn(f64) -> f64) -> Vec<B::Elem> {
    let angle = |position: u32, i: usize| f64::from(position) * base.powf(-(i as f64) / half as f64);
    let row = |&position: &u32| (0..2 * half).map(move |i| B::Elem::of(f(angle(position, i % half))));
    positions.iter().flat_map(row).collect()
}

/// `[B, N, h d]` to `[B h, N, d]`.
fn split_heads<B: Backend>(x: Seq<B>, heads: usize) -> Result<Seq<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let x: Rank4<B> = reshape::<_, _, B>(x, (batch, len, heads, width / heads))?;
    let x: Rank4<B> = x.try_permute::<_, Axes4<0, 2, 1, 3>>().on_device()?;
    reshape::<_, _, B>(x, (batch * heads, len, width / heads))
}

/// `[B h, N, d]` to `[B, N, h d]`.
fn join_heads<B: Backend>(x: Seq<B>, heads: usize) -> Result<Seq<B>, TensorError> {
    let &(rows, len, head_dim) = x.shape();
    let x: Rank4<B> = reshape::<_, _, B>(x, (rows / heads, heads, len, head_dim))?;
    let x: Rank4<B> = x.try_permute::<_, Axes4<0, 2, 1, 3>>().on_device()?;
    reshape::<_, _, B>(x, (rows / heads, len, heads * head_dim))
}

fn add_mask<B: Backend>(
    backend: &B,
    scores: Seq<B>,
    heads: usize,
    mask: &Mask,
) -> Result<Seq<B>, TensorError> {
    if matches!(mask, Mask::None) {
        return Ok(scores);
    }
    let &(rows, q_len, k_len) = scores.shape();
    let mut added = Vec::with_capacity(rows * q_len * k_len);
    for row in 0..rows {
        for i in 0..q_len {
            let allows = |j| mask.allows(row / heads, (i, q_len), (j, k_len));
            added.extend((0..k_len).map(|j| B::Elem::of(if allows(j) { 0.0 } else { FORBIDDEN })));
        }
    }
    scores.try_add(constant(backend, added, (rows, q_len, k_len))?).on_device()
}

/// Softmax over the last dimension.
fn softmax_rows<B: Backend>(x: Seq<B>) -> Result<Seq<B>, TensorError> {
    let shape = *x.shape();
    let largest = detach::<_, B>(x.clone())?.try_max::<_, Axis<2>>().on_device()?;
    let shifted = x.try_sub(largest.try_broadcast_like::<_, Axis<2>>(&shape).on_device()?).on_device()?;
    let exp = shifted.try_exp().on_device()?;
    let sum = exp.clone().try_sum::<_, Axis<2>>().on_device()?;
    exp.try_div(sum.try_broadcast_like::<_, Axis<2>>(&shape).on_device()?).on_device()
}
