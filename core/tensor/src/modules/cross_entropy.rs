//! Cross-entropy of scores against classes: the loss of language models and of classifiers.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, PerRecord},
    parameter::ParameterSpec,
    value::Value,
};

/// Mean cross-entropy. Inputs `logits` `[R, classes]` and `targets` `[R]`; rows without a target do not count. Output
/// `loss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// Share of each target spread over all classes.
    pub label_smoothing: f64,
}

impl Module for CrossEntropy {
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
        let (logits, targets) = (cx.logits("logits")?, cx.targets("targets")?);
        expect_size("targets, one for each row", logits.shape().0, targets.len())?;
        let loss = cx.backend().cross_entropy(logits, &targets, self.label_smoothing)?;
        cx.put("loss", Value::Scalar(loss));
        Ok(())
    }
}
