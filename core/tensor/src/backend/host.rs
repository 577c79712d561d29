//! Buffers of backends whose device memory is host memory: plain vectors.

use super::AdamWStep;
use crate::{
    backend::Backend,
    element::Element,
    error::{TensorError, expect_size},
    tensor::{Flat, plain_to_vec},
};

/// Moves a gradient of `len` elements out of its slot in dfdx's table. An empty slot stands for zeros: our own
/// operations leave one where they have used a gradient up.
pub(super) fn take_slot<E: Element>(slot: &mut Vec<E>, len: usize) -> Vec<E> {
    let gradient = std::mem::take(slot);
    if gradient.is_empty() { vec![E::default(); len] } else { gradient }
}

/// See [`Backend::adamw`].
pub(super) fn adamw<B: Backend<Buffer = Vec<<B as Backend>::Elem>>>(
    backend: &B,
    param: &mut Flat<B>,
    grad: &[B::Elem],
    [m, v]: [&mut Vec<B::Elem>; 2],
    step: &AdamWStep,
) -> Result<(), TensorError> {
    let mut values = plain_to_vec::<_, B>(param)?;
    expect_size("elements of the gradient", values.len(), grad.len())?;
    for (((p, &g), m), v) in values.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
        let g = g.wide();
        let first = step.betas[0] * m.wide() + (1.0 - step.betas[0]) * g;
        let second = step.betas[1] * v.wide() + (1.0 - step.betas[1]) * g * g;
        let root = (second / step.bias_corrections[1]).sqrt() + step.eps;
        let decayed = p.wide() * (1.0 - step.lr * step.weight_decay);
        *p = B::Elem::of(decayed - step.lr * (first / step.bias_corrections[0]) / root);
        *m = B::Elem::of(first);
        *v = B::Elem::of(second);
    }
    *param = backend.tensor(values)?;
    Ok(())
}
