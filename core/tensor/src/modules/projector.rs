//! The perceptron between an encoder and a language model: LLaVA-1.5's `mlp2x_gelu` (Liu et al., 2024), and InternVL-Chat's,
//! which begins with a layer norm.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module},
    parameter::{Init, ParameterSpec},
    tensor::{Matrix, reshape, slice_rows},
    value::Value,
};

/// `linear(gelu(linear(x)))`, with a layer norm before it if there is one. Input `tokens` `[B, N, in]`, output `output`
/// `[B, N, out]`, without the class token if it is skipped. Parameters have the names of a `torch.nn.Sequential`.
#[derive(Debug, Clone, PartialEq)]
pub struct Projector {
    /// Width of the input.
    pub width: usize,
    /// Width of the output and of the hidden layer.
    pub out: usize,
    /// Whether a layer norm comes first.
    pub norm: bool,
    /// Whether the first token is left out.
    pub skip_class: bool,
    /// Added to variances in the layer norm.
    pub eps: f64,
}

impl Projector {
    /// Places of the linear layers in the sequence.
    fn places(&self) -> [usize; 2] {
        let first = usize::from(self.norm);
        [first, first + 2]
    }

    fn linear<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        place: usize,
        x: Matrix<B>,
    ) -> Result<Matrix<B>, TensorError> {
        let weight = cx.matrix(&format!("{place}.weight"), self.out, x.shape().1)?;
        cx.backend().linear(x, weight, Some(cx.row(&format!("{place}.bias"), self.out)?))
    }
}

impl Module for Projector {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        if self.norm {
            specs.push(ParameterSpec::new("0.weight", [self.width], Init::Ones));
            specs.push(ParameterSpec::new("0.bias", [self.width], Init::Zeros));
        }
        for (place, inputs) in self.places().into_iter().zip([self.width, self.out]) {
            specs.push(ParameterSpec::new(format!("{place}.weight"), [self.out, inputs], Init::FanIn));
            specs.push(ParameterSpec::new(format!("{place}.bias"), [self.out], Init::Zeros));
        }
        specs
    }

    fn macs(&self, input: InputSize) -> u64 {
        let InputSize::Tokens(tokens) = input else { return 0 };
        let tokens = tokens - usize::from(self.skip_class && tokens > 0);
        (tokens * self.out * (self.width + self.out)) as u64
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let tokens = cx.sequence("tokens")?;
        let &(_, len, width) = tokens.shape();
        expect_size("width of the tokens", self.width, width)?;
        let tokens = if self.skip_class { slice_rows(cx.backend(), tokens, 1..len)? } else { tokens };
        let &(batch, len, _) = tokens.shape();
        let mut rows = reshape::<_, _, B>(tokens, (batch * len, width))?;
        if self.norm {
            rows = cx.backend().layer_norm(
                rows,
                cx.row("0.weight", width)?,
                cx.row("0.bias", width)?,
                self.eps,
            )?;
        }
        let [first, second] = self.places();
        let hidden = cx.backend().gelu(self.linear(cx, first, rows)?)?;
        let out = self.linear(cx, second, hidden)?;
        cx.put("output", Value::Sequence(reshape::<_, _, B>(out, (batch, len, self.out))?));
        Ok(())
    }
}
