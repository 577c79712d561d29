//! One linear map of all tokens of a sequence laid end to end.

use dfdx::prelude::HasShape;

use super::linear;
use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module},
    parameter::ParameterSpec,
    tensor::{reshape, slice_rows},
    value::Value,
};

/// Input `tokens` `[B, N, width]`, output `output` `[B, outputs]`. Unlike pooling it keeps where things are,
/// which small models trained from scratch need.
#[derive(Debug, Clone, PartialEq)]
pub struct FlattenLinear {
    /// Number of tokens that the map takes, without a skipped class token.
    pub tokens: usize,
    /// Width of a token.
    pub width: usize,
    /// Width of the result.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the input starts with a class token to leave out.
    pub skip_class: bool,
}

impl Module for FlattenLinear {
    fn parameters(&self) -> Vec<ParameterSpec> {
        linear::specs(self.tokens * self.width, self.outputs, self.bias)
    }

    fn macs(&self, _: InputSize) -> u64 {
        (self.tokens * self.width) as u64 * self.outputs as u64
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let x = cx.sequence("tokens")?;
        let &(batch, len, width) = x.shape();
        let skipped = usize::from(self.skip_class);
        expect_size("number of tokens", self.tokens + skipped, len)?;
        expect_size("width of the tokens", self.width, width)?;
        let x = match self.skip_class {
            true => slice_rows(cx.backend(), x, 1..len)?,
            false => x,
        };
        let x = reshape::<_, _, B>(x, (batch, self.tokens * width))?;
        let output = linear::apply(cx, x, self.outputs, self.bias)?;
        cx.put("output", Value::Vector(output));
        Ok(())
    }
}
