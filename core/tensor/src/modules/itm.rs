//! Image-text matching: does this text go with this image? (ALBEF; BLIP-2, Li et al., 2023, section 3.1; InternVL's
//! stage 2.)

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, PerRecord},
    parameter::{Init, ParameterSpec},
    value::Value,
};

/// Matching loss. Inputs `queries` `[B, Q, C]`, of sequences in which queries and text saw each other, and for the loss
/// `targets` `[B]`, 1 where they match. A linear layer gives two scores a query; their mean counts. Without a `width` the
/// queries are scores already, `[B, Q, 2]`. Outputs `logits` `[B, 2]` and `loss`.
#[derive(Debug, Clone, PartialEq)]
pub struct Itm {
    /// Width of the queries, if there is a linear layer.
    pub width: Option<usize>,
}

impl Module for Itm {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let head = |width| {
            [
                ParameterSpec::new("weight", [2, width], Init::Normal { std: 0.02 }),
                ParameterSpec::new("bias", [2], Init::Zeros),
            ]
        };
        self.width.map(head).into_iter().flatten().collect()
    }

    fn macs(&self, _: InputSize) -> u64 {
        2 * self.width.unwrap_or(0) as u64
    }

    fn per_record(&self) -> PerRecord {
        PerRecord::Mixes
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let queries = cx.sequence("queries")?;
        expect_size("width of the queries", self.width.unwrap_or(2), queries.shape().2)?;
        // The mean of linear scores is the score of the mean.
        let mean = cx.backend().mean_tokens(queries)?;
        let logits = match self.width {
            None => mean,
            Some(width) => {
                cx.backend().linear(mean, cx.matrix("weight", 2, width)?, Some(cx.row("bias", 2)?))?
            }
        };
        if cx.wants("loss") {
            let targets = cx.targets("targets")?;
            expect_size("targets, one for each pair", logits.shape().0, targets.len())?;
            let loss = cx.backend().cross_entropy(logits.clone(), &targets, 0.0)?;
            cx.put("loss", Value::Scalar(loss));
        }
        cx.put("logits", Value::Logits(logits));
        Ok(())
    }
}
