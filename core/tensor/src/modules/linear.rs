//! A linear layer on vectors or on every row of a sequence.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, wrong_kind},
    parameter::{Init, ParameterSpec},
    tensor::{Matrix, reshape},
    value::Value,
};

/// `x W^T + b`. Input `input` `[B, inputs]` or `[B, N, inputs]`, output `output` of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// `weight` `[outputs, inputs]` and, if there is one, `bias` `[outputs]`.
pub(super) fn specs(inputs: usize, outputs: usize, bias: bool) -> Vec<ParameterSpec> {
    let mut specs =
        vec![ParameterSpec::new("weight", [outputs, inputs], Init::TruncatedNormal { std: 0.02 })];
    if bias {
        specs.push(ParameterSpec::new("bias", [outputs], Init::Zeros));
    }
    specs
}

/// Applies the parameters of [`specs`] to rows, `[R, inputs]` to `[R, outputs]`.
pub(super) fn apply<B: Backend>(
    cx: &Forward<'_, B>,
    x: Matrix<B>,
    outputs: usize,
    bias: bool,
) -> Result<Matrix<B>, TensorError> {
    let &(_, inputs) = x.shape();
    let bias = bias.then(|| cx.row("bias", outputs)).transpose()?;
    cx.backend().linear(x, cx.matrix("weight", outputs, inputs)?, bias)
}

impl Module for Linear {
    fn parameters(&self) -> Vec<ParameterSpec> {
        specs(self.inputs, self.outputs, self.bias)
    }

    fn macs(&self, input: InputSize) -> u64 {
        let rows = match input {
            InputSize::Vector => 1,
            InputSize::Tokens(tokens) => tokens as u64,
            InputSize::Image { .. } => return 0,
        };
        rows * self.inputs as u64 * self.outputs as u64
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let output = match cx.any("input")? {
            Value::Vector(x) => {
                expect_size("width of the vector", self.inputs, x.shape().1)?;
                Value::Vector(apply(cx, x, self.outputs, self.bias)?)
            }
            Value::Sequence(x) => {
                let &(batch, len, width) = x.shape();
                expect_size("width of the sequence", self.inputs, width)?;
                let rows = reshape::<_, _, B>(x, (batch * len, width))?;
                let rows = apply(cx, rows, self.outputs, self.bias)?;
                Value::Sequence(reshape::<_, _, B>(rows, (batch, len, self.outputs))?)
            }
            other => return Err(wrong_kind("input", "a vector or a sequence", &other)),
        };
        cx.put("output", output);
        Ok(())
    }
}
