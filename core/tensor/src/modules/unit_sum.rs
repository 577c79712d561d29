//! The sum of unit vectors: InternVL-G's image feature, an ensemble of two poolings.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module},
    parameter::ParameterSpec,
    tensor::reshape,
    value::Value,
};

/// `a / |a| + b / |b|` for vectors `a` and `b` `[B, C]`. Output `output` `[B, C]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitSum;

impl Module for UnitSum {
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let [a, b] = [cx.vector("a")?, cx.vector("b")?].map(|x| {
            let shape @ (rows, width) = *x.shape();
            let unit = cx.backend().normalize_rows(x)?;
            Ok::<_, TensorError>((reshape::<_, _, B>(unit, (1, rows, width))?, shape))
        });
        let ((a, shape), (b, other)) = (a?, b?);
        expect_size("number of vectors", shape.0, other.0)?;
        expect_size("width of the vectors", shape.1, other.1)?;
        let sum = cx.backend().residual(a, b, None, None)?;
        cx.put("output", Value::Vector(reshape::<_, _, B>(sum, shape)?));
        Ok(())
    }
}
