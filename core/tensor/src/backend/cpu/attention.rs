//! Attention and rotary positions.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    error::TensorError,
    kernels::{
        attention::{self, Grads, Inputs, Shape},
        rope,
    },
    mask::Mask,
    tensor::Seq,
};

pub(super) fn borrow(mask: &Mask) -> attention::Mask<'_> {
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
    let sources = Inputs { q: q.data(), k: k.data(), v: v.data(), mask: borrow(mask) };
    attention::forward(sources, &mut out, &mut lse, &shape);
    let mask = mask.clone();
    finish(backend, out, (batch, q_len, width), inputs, move |grads, dout, [q, k, v]| {
        with_gradients(grads, [q, k, v], |[dq, dk, dv]| {
            let sources = Inputs { q: q.data(), k: k.data(), v: v.data(), mask: borrow(&mask) };
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
    let mut out = x.data().to_vec();
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
