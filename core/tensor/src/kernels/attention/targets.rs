//! Where the gradients of q, k and v go.
//!
//! Must not know: which head writes where.

use super::{
    super::{matmul::reach, split::SharedMut},
    Grads, Shape,
};

/// The gradients' slices, shared by the tasks; each was found long enough for the [`Shape`].
pub struct Targets {
    /// Laid out as q.
    pub dq: Option<SharedMut>,
    /// Laid out as k.
    pub dk: Option<SharedMut>,
    /// Laid out as v.
    pub dv: Option<SharedMut>,
}

impl Targets {
    /// Shares `grads`, of which packed ones are taken apart. There must be at least one query and one key.
    pub fn new(grads: Grads<'_>, shape: &Shape) -> Self {
        let width = shape.heads * shape.head_dim;
        match grads {
            Grads::Packed(packed) => {
                let strides = [shape.q_stride, shape.k_stride, shape.v_stride];
                assert!(strides == [3 * width; 3] && shape.q_len == shape.k_len, "q, k and v are packed");
                assert_eq!(packed.len(), shape.batch * shape.q_len * 3 * width);
                let dq = SharedMut::new(packed);
                // SAFETY: the slice holds at least one row of 3 C elements, because there is a query.
                let (dk, dv) = unsafe { (dq.shifted(width), dq.shifted(2 * width)) };
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

    /// Whether anybody asks for the gradient of the scores.
    pub fn needs_scores(&self) -> bool {
        self.dq.is_some() || self.dk.is_some()
    }
}
