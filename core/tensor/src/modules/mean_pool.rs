//! The mean of a sequence's rows.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::TensorError,
    module::{Forward, InputSize, Module},
    parameter::ParameterSpec,
    tensor::slice_rows,
    value::Value,
};

/// Input `tokens` `[B, N, C]`, output `output` `[B, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeanPool {
    /// Whether to leave the first row, the class token, out.
    pub skip_class: bool,
}

impl Module for MeanPool {
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let x = cx.sequence("tokens")?;
        let &(_, len, _) = x.shape();
        let first = usize::from(self.skip_class);
        if len <= first {
            return Err(TensorError::shape("number of tokens", format!("more than {first}"), len));
        }
        let x = match self.skip_class {
            true => slice_rows(cx.backend(), x, first..len)?,
            false => x,
        };
        let pooled = cx.backend().mean_tokens(x)?;
        cx.put("output", Value::Vector(pooled));
        Ok(())
    }
}
