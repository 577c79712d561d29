//! Image-text contrastive loss (CLIP; Radford et al., 2021), InternVL's stage 1.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module},
    parameter::{Init, ParameterSpec},
    tensor::Scalar,
    value::Value,
};

/// Contrastive loss with a learnt temperature. Inputs `image` `[B, C]` and `text` `[B, C]`, normalised here;
/// outputs `loss` and `logits` `[images, texts]`. With `logits` alone the two batches may differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Itc {
    /// Share of each target spread over all classes.
    pub label_smoothing: f64,
    /// What `logit_scale`, the logarithm of the scale, starts with.
    pub init_scale: f64,
    /// The scale itself never exceeds this, if set (CLIP: 100).
    pub max_scale: Option<f64>,
}

impl Default for Itc {
    fn default() -> Self {
        Self { label_smoothing: 0.0, init_scale: (1.0_f64 / 0.07).ln(), max_scale: None }
    }
}

impl Itc {
    fn scale<B: Backend>(&self, cx: &Forward<'_, B>) -> Result<Scalar<B>, TensorError> {
        cx.backend().exp_limited(cx.scalar("logit_scale")?, self.max_scale)
    }
}

impl Module for Itc {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("logit_scale", [], Init::Constant(self.init_scale))]
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let (image, text) = (cx.vector("image")?, cx.vector("text")?);
        let (&(images, width), &(texts, text_width)) = (image.shape(), text.shape());
        expect_size("width of the text vectors", width, text_width)?;
        let image = cx.backend().normalize_rows(image)?;
        let text = cx.backend().normalize_rows(text)?;
        if cx.wants("logits") {
            let logits = cx.backend().similarities(image.clone(), text.clone())?;
            let logits = cx.backend().scale_by(logits, self.scale(cx)?)?;
            cx.put("logits", Value::Logits(logits));
        }
        if cx.wants("loss") {
            expect_size("texts, one for each image", images, texts)?;
            let loss = cx.backend().contrastive(image, text, self.scale(cx)?, self.label_smoothing)?;
            cx.put("loss", Value::Scalar(loss));
        }
        Ok(())
    }
}
