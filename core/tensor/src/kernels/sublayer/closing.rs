//! The last projection of a branch with the residual connection: `out = x + keep gamma (h w^T + b)`.
//!
//! LayerScale (Touvron et al. 2021, CaiT) goes into the weights before the product and stochastic depth (Huang et al.
//! 2016) into `h`, so that the product adds straight to the residual stream and the branch's output is never stored.
//! The gradient of `gamma` then comes from that of the scaled weights: with `G = dout^T (keep h)`,
//! `dw = gamma G`, `dgamma = sum over inputs of w G + b s`, `db = gamma s`, where `s = sum over rows of keep dout`.
//!
//! Must not know: what made `h`.

use rayon::prelude::*;

use crate::kernels::{
    linear::{self, Dims},
    matmul::Write,
    memory::{lease, zeros},
    packed::Packed,
    simd::multiversion,
    split::add_column_sums,
};

/// Weights of the projection and what scales its output.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// `[C, H]`
    pub weight: &'a [f32],
    /// `[C]`
    pub bias: Option<&'a [f32]>,
    /// LayerScale, `[C]`.
    pub gamma: Option<&'a [f32]>,
    /// Factor of each row's branch, `[R]`.
    pub keep: Option<&'a [f32]>,
    /// C: width of the residual stream.
    pub width: usize,
}

/// Where the gradients of [`Closing`] go; each is added to.
#[derive(Debug, Default)]
pub struct ClosingGrads<'a> {
    /// As `weight`.
    pub weight: Option<&'a mut [f32]>,
    /// As `bias`.
    pub bias: Option<&'a mut [f32]>,
    /// As `gamma`.
    pub gamma: Option<&'a mut [f32]>,
}

/// Scaled weights and bias `[C]`, laid out for [`Closing::forward`].
pub struct Ready {
    weight: Packed,
    bias: Option<Vec<f32>>,
}

impl<'a> Closing<'a> {
    /// H: width of the branch.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.width.max(1)
    }

    /// Whether there is nothing but the projection.
    pub fn is_plain(&self) -> bool {
        self.bias.is_none() && self.gamma.is_none() && self.keep.is_none()
    }

    /// Row `row`'s factor.
    pub fn keep(&self, row: usize) -> f32 {
        self.keep.map_or(1.0, |keep| keep[row])
    }

    /// Lays the weights out for [`Closing::forward`].
    pub fn ready(&self) -> Ready {
        let scaled_bias = |bias: &'a [f32]| match self.gamma {
            Some(gamma) => bias.iter().zip(gamma).map(|(bias, gamma)| bias * gamma).collect(),
            None => bias.to_vec(),
        };
        Ready {
            weight: Packed::transposed(self.weight, self.inputs(), self.gamma),
            bias: self.bias.map(scaled_bias),
        }
    }

    /// A tile's rows, from row `first` on. `h` holds `keep h`.
    pub fn forward(&self, ready: &Ready, first: usize, x: &[f32], h: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
        if let Some(bias) = &ready.bias {
            for (row, out) in out.chunks_exact_mut(self.width).enumerate() {
                add_scaled(bias, self.keep(first + row), out);
            }
        }
        ready.weight.product(h, out, Write::Add);
    }

    /// `gamma w` for the backward: its product with rows of `dout` is the gradient of `keep h`.
    pub fn ready_backward(&self) -> Packed {
        Packed::straight(self.weight, self.inputs(), self.gamma)
    }

    /// Adds the gradients of the weights, for all rows. `h` holds `keep h`.
    pub fn weight_gradients(&self, dout: &[f32], h: &[f32], grads: ClosingGrads<'_>) {
        let (inputs, width) = (self.inputs(), self.width);
        let dims = Dims { rows: dout.len() / width.max(1), inputs, outputs: width };
        let sums = (self.bias.is_some() && (grads.bias.is_some() || grads.gamma.is_some())).then(|| {
            let mut sums = zeros(width);
            add_column_sums(&mut sums, dims.rows, |rows, first, acc| {
                for row in rows {
                    add_scaled(&dout[row * width + first..][..acc.len()], self.keep(row), acc);
                }
            });
            sums
        });
        let Some(gamma) = self.gamma else {
            if let Some(dw) = grads.weight {
                linear::weight_gradient(h, dout, dw, Write::Add, dims);
            }
            if let (Some(db), Some(sums)) = (grads.bias, &sums) {
                add_scaled(sums, 1.0, db);
            }
            return;
        };
        if let (Some(db), Some(sums)) = (grads.bias, &sums) {
            db.iter_mut().zip(gamma).zip(sums.iter()).for_each(|((db, gamma), sum)| *db += gamma * sum);
        }
        if grads.weight.is_none() && grads.gamma.is_none() {
            return;
        }
        let mut g = lease(width * inputs);
        linear::weight_gradient(h, dout, &mut g, Write::Overwrite, dims);
        if let Some(dw) = grads.weight {
            let rows = dw.par_chunks_mut(inputs.max(1)).zip(g.par_chunks(inputs.max(1)));
            rows.zip(gamma).for_each(|((dw, g), gamma)| add_scaled(g, *gamma, dw));
        }
        if let Some(dgamma) = grads.gamma {
            dgamma.par_iter_mut().enumerate().for_each(|(c, dgamma)| {
                let row = c * inputs..(c + 1) * inputs;
                *dgamma += inner(&self.weight[row.clone()], &g[row]);
                if let (Some(bias), Some(sums)) = (self.bias, &sums) {
                    *dgamma += bias[c] * sums[c];
                }
            });
        }
    }
}

multiversion! {
    /// `y += a x`
    fn add_scaled(x: &[f32], a: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = crate::kernels::math::fma::<FMA>(a, *x, *y);
        }
    }

    fn inner(x: &[f32], y: &[f32]) -> f32 {
        crate::kernels::math::dot::<FMA>(x, y)
    }
}
