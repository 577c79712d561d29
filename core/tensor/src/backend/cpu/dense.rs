//! Linear layers and perceptrons.

use dfdx::prelude::HasShape;

use super::{
    Cpu,
    own_op::{finish, read, with_gradients},
};
use crate::{
    backend::{GatedMlpWeights, MlpWeights},
    error::TensorError,
    kernels::{
        activation,
        linear::{self, Dims},
    },
    tensor::{Matrix, Row},
};

/// See [`crate::Backend::linear`].
pub(super) fn linear(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: Matrix<Cpu>,
    bias: Option<Row<Cpu>>,
) -> Result<Matrix<Cpu>, TensorError> {
    let (&(rows, inputs), &(outputs, _)) = (x.shape(), w.shape());
    let dims = Dims { rows, inputs, outputs };
    let mut out = vec![0.0; rows * outputs];
    let (x, w) = (read(x)?, read(w)?);
    match bias {
        None => {
            linear::forward(&x.data, &w.data, None, &mut out, dims);
            finish(backend, out, (rows, outputs), [x, w], move |grads, dy, [x, w]| {
                with_gradients(grads, [x, w], |[dx, dw]| {
                    linear::backward(&x.data, &w.data, dy, dx, dw, None, dims);
                })
            })
        }
        Some(bias) => {
            let bias = read(bias)?;
            linear::forward(&x.data, &w.data, Some(&bias.data), &mut out, dims);
            finish(backend, out, (rows, outputs), [x, w, bias], move |grads, dy, [x, w, bias]| {
                with_gradients(grads, [x, w, bias], |[dx, dw, db]| {
                    linear::backward(&x.data, &w.data, dy, dx, dw, db, dims);
                })
            })
        }
    }
}

/// See [`crate::Backend::gelu`].
pub(super) fn gelu(backend: &Cpu, x: Matrix<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let shape = *x.shape();
    let x = read(x)?;
    let mut out = vec![0.0; x.data.len()];
    activation::gelu_forward(&x.data, &mut out);
    finish(backend, out, shape, [x], |grads, dy, [x]| {
        with_gradients(grads, [x], |[dx]| {
            if let Some(dx) = dx {
                activation::gelu_backward(&x.data, dy, dx);
            }
        })
    })
}

/// See [`crate::Backend::mlp`].
pub(super) fn mlp(backend: &Cpu, x: Matrix<Cpu>, w: MlpWeights<Cpu>) -> Result<Matrix<Cpu>, TensorError> {
    let (&(rows, width), &(hidden, _)) = (x.shape(), w.fc1.shape());
    let outputs = w.fc2.shape().0;
    let first = Dims { rows, inputs: width, outputs: hidden };
    let second = Dims { rows, inputs: hidden, outputs };
    let inputs = [read(x)?, read(w.fc1)?, read(w.fc1_bias)?, read(w.fc2)?, read(w.fc2_bias)?];
    let [x, fc1, fc1_bias, fc2, fc2_bias] = &inputs;
    let mut before = vec![0.0; rows * hidden];
    linear::forward(&x.data, &fc1.data, Some(&fc1_bias.data), &mut before, first);
    let mut after = vec![0.0; rows * hidden];
    activation::gelu_forward(&before, &mut after);
    let mut out = vec![0.0; rows * outputs];
    linear::forward(&after, &fc2.data, Some(&fc2_bias.data), &mut out, second);
    finish(backend, out, (rows, outputs), inputs, move |grads, dy, [x, fc1, fc1_bias, fc2, fc2_bias]| {
        let mut d_after = vec![0.0; after.len()];
        with_gradients(grads, [fc2, fc2_bias], |[dw, db]| {
            linear::backward(&after, &fc2.data, dy, Some(&mut d_after), dw, db, second);
        })?;
        let mut d_before = vec![0.0; before.len()];
        activation::gelu_backward(&before, &d_after, &mut d_before);
        with_gradients(grads, [x, fc1, fc1_bias], |[dx, dw, db]| {
            linear::backward(&x.data, &fc1.data, &d_before, dx, dw, db, first);
        })
    })
}

/// See [`crate::Backend::gated_mlp`].
pub(super) fn gated_mlp(
    backend: &Cpu,
    x: Matrix<Cpu>,
    w: GatedMlpWeights<Cpu>,
) -> Result<Matrix<Cpu>, TensorError> {
    let (&(rows, width), &(hidden, _)) = (x.shape(), w.gate.shape());
    let outputs = w.down.shape().0;
    let wide = Dims { rows, inputs: width, outputs: hidden };
    let narrow = Dims { rows, inputs: hidden, outputs };
    let inputs = [read(x)?, read(w.gate)?, read(w.up)?, read(w.down)?];
    let [x, gate_w, up_w, down_w] = &inputs;
    let (mut gate, mut up) = (vec![0.0; rows * hidden], vec![0.0; rows * hidden]);
    linear::forward(&x.data, &gate_w.data, None, &mut gate, wide);
    linear::forward(&x.data, &up_w.data, None, &mut up, wide);
    let mut product = vec![0.0; rows * hidden];
    activation::silu_mul_forward(&gate, &up, &mut product);
    let mut out = vec![0.0; rows * outputs];
    linear::forward(&product, &down_w.data, None, &mut out, narrow);
    finish(backend, out, (rows, outputs), inputs, move |grads, dy, [x, gate_w, up_w, down_w]| {
        let mut d_product = vec![0.0; product.len()];
        with_gradients(grads, [down_w], |[dw]| {
            linear::backward(&product, &down_w.data, dy, Some(&mut d_product), dw, None, narrow);
        })?;
        let (mut d_gate, mut d_up) = (vec![0.0; gate.len()], vec![0.0; up.len()]);
        activation::silu_mul_backward(&gate, &up, &d_product, Some(&mut d_gate), Some(&mut d_up));
        with_gradients(grads, [x, gate_w, up_w], |[mut dx, d_gate_w, d_up_w]| {
            linear::backward(&x.data, &gate_w.data, &d_gate, dx.as_deref_mut(), d_gate_w, None, wide);
            linear::backward(&x.data, &up_w.data, &d_up, dx, d_up_w, None, wide);
        })
    })
}
