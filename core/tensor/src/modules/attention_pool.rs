//! Attention pooling (`clip_projector` of InternVL): the mean token asks all tokens once.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    mask::Mask,
    module::{Forward, InputSize, Module},
    parameter::{Init, ParameterSpec},
    tensor::{Matrix, reshape},
    value::Value,
};

/// Attention pooling. Input `tokens` `[B, N, dim]`, output `output` `[B, out_dim]`. No residual, no
/// positions. The defaults are those of InternVL's first projector.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionPool {
    /// Width of the tokens.
    pub dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the result.
    pub out_dim: usize,
    /// Added to variances in the layer norms.
    pub eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
}

impl Default for AttentionPool {
    fn default() -> Self {
        Self { dim: 3200, heads: 16, out_dim: 768, eps: 1e-5, qkv_bias: true }
    }
}

impl AttentionPool {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`TensorError::Config`] with the reason.
    pub fn check(&self) -> Result<(), TensorError> {
        if self.heads == 0 || self.dim == 0 || !self.dim.is_multiple_of(self.heads) {
            let reason = format!("width {} does not divide into {} heads", self.dim, self.heads);
            return Err(TensorError::Config(reason));
        }
        Ok(())
    }

    /// Norm, then linear: one of query, key and value, `[R, dim]` to `[R, dim]`.
    fn project<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        part: &str,
        x: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        let norm = |what: &str| cx.row(&format!("norm1_{part}.{what}"), self.dim);
        let x = cx.backend().layer_norm(x, norm("weight")?, norm("bias")?, self.eps)?;
        let weight = cx.matrix(&format!("cross_attn.{part}.weight"), self.dim, self.dim)?;
        let bias = self.qkv_bias.then(|| cx.row(&format!("cross_attn.{part}_bias"), self.dim)).transpose()?;
        cx.backend().linear(x, weight, bias)
    }
}

impl Module for AttentionPool {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (d, out) = (self.dim, self.out_dim);
        let matrix = Init::TruncatedNormal { std: 0.02 };
        let mut specs = Vec::new();
        for part in ["q", "k", "v"] {
            specs.push(ParameterSpec::new(format!("norm1_{part}.weight"), [d], Init::Ones));
            specs.push(ParameterSpec::new(format!("norm1_{part}.bias"), [d], Init::Zeros));
            specs.push(ParameterSpec::new(format!("cross_attn.{part}.weight"), [d, d], matrix));
            if self.qkv_bias {
                specs.push(ParameterSpec::new(format!("cross_attn.{part}_bias"), [d], Init::Zeros));
            }
        }
        specs.push(ParameterSpec::new("cross_attn.proj.weight", [out, d], matrix));
        specs.push(ParameterSpec::new("cross_attn.proj.bias", [out], Init::Zeros));
        specs
    }

    fn macs(&self, input: InputSize) -> u64 {
        let InputSize::Tokens(tokens) = input else { return 0 };
        let (n, d, out) = (tokens as u64, self.dim as u64, self.out_dim as u64);
        (1 + 2 * n) * d * d + 2 * n * d + d * out
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        self.check()?;
        let x = cx.sequence("tokens")?;
        let &(batch, len, width) = x.shape();
        expect_size("width of the tokens", self.dim, width)?;
        let mean = cx.backend().mean_tokens(x.clone())?;
        let rows = reshape::<_, _, B>(x, (batch * len, width))?;
        let q = reshape::<_, _, B>(self.project(cx, "q", mean)?, (batch, 1, width))?;
        let k = reshape::<_, _, B>(self.project(cx, "k", rows.clone())?, (batch, len, width))?;
        let v = reshape::<_, _, B>(self.project(cx, "v", rows)?, (batch, len, width))?;
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let pooled = cx.backend().attention([q, k, v], self.heads, scale, &Mask::None)?;
        let pooled = reshape::<_, _, B>(pooled, (batch, width))?;
        let weight = cx.matrix("cross_attn.proj.weight", self.out_dim, width)?;
        let bias = cx.row("cross_attn.proj.bias", self.out_dim)?;
        let output = cx.backend().linear(pooled, weight, Some(bias))?;
        cx.put("output", Value::Vector(output));
        Ok(())
    }
}
