//! A loss whose gradient is known: for checking gradients.

use dfdx::prelude::{HasShape, Shape};

use crate::{
    backend::Backend,
    error::TensorError,
    module::{Forward, InputSize, Module, PerRecord, wrong_kind},
    parameter::ParameterSpec,
    tensor::{Row, Tensor, reshape},
    value::Value,
};

/// `loss = sum(input * probe)`: the gradient with respect to `input` is `probe`. Both inputs have the same
/// shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probe;

impl Module for Probe {
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn per_record(&self) -> PerRecord {
        PerRecord::Mixes
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let (input, probe) = (cx.any("input")?, cx.any("probe")?);
        if input.shape() != probe.shape() {
            return Err(TensorError::shape("probe", input.shape(), probe.shape()));
        }
        let loss = cx.backend().dot(flat(input)?, flat(probe)?)?;
        cx.put("loss", Value::Scalar(loss));
        Ok(())
    }
}

fn flat<B: Backend>(value: Value<B>) -> Result<Row<B>, TensorError> {
    fn flatten<S: Shape, B: Backend>(x: Tensor<S, B>) -> Result<Row<B>, TensorError> {
        let len = x.shape().num_elements();
        reshape::<_, _, B>(x, (len,))
    }
    match value {
        Value::Image(x) | Value::Map(x) => flatten(x),
        Value::Sequence(x) => flatten(x),
        Value::Vector(x) | Value::Logits(x) => flatten(x),
        Value::Scalar(x) => flatten(x),
        host @ (Value::Text(_) | Value::Targets(_) | Value::Cache(_)) => {
            Err(wrong_kind("input", "a tensor", &host))
        }
    }
}
