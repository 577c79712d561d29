//! What becomes of a tile of sums: bias, activation, residual connection, rounding.
//!
//! Each epilogue computes whole vectors, padding included, and stores the part that has a meaning, so that an
//! element's bits do not depend on the width of its tile.
//!
//! Must not know: weights, norms, attention.

use super::element::Bf16;
use super::pack::{COLUMNS, LANES};
use super::prefetch;
use super::product::{Epilogue, Span};
use super::tile::{ROWS, Tile};
use crate::kernels::math::{fma, normal, sigmoid};
use crate::kernels::simd::multiversion;

/// `out = y + bias` in `f32`, somewhere in memory.
#[derive(Debug)]
pub struct Float<'a> {
    /// `[rows, stride]`
    pub out: &'a mut [f32],
    /// From one row of the result to the next.
    pub stride: usize,
    /// `[N]`
    pub bias: Option<&'a [f32]>,
}

impl Epilogue for Float<'_> {
    fn expect(&self, span: Span) {
        let out = &self.out[span.row * self.stride + span.column..];
        prefetch::rows(out, self.stride, span.rows, span.columns);
    }

    fn store(&mut self, tile: &Tile, span: Span) {
        let out = &mut self.out[span.row * self.stride + span.column..];
        float(tile, span, self.bias, out, self.stride);
    }
}

/// `out = y` in `f32`, in a buffer so small that it is in the cache.
#[derive(Debug)]
pub struct Sums<'a> {
    /// `[rows, stride]`
    pub out: &'a mut [f32],
    /// From one row of the result to the next.
    pub stride: usize,
}

impl Epilogue for Sums<'_> {
    fn store(&mut self, tile: &Tile, span: Span) {
        sums(tile, span, &mut self.out[span.row * self.stride + span.column..], self.stride);
    }
}

/// What happens to a sum before it is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x Phi(x)`, in its exact form.
    Gelu,
}

/// `out = activation(y + bias)` in bf16.
#[derive(Debug)]
pub struct Rounded<'a> {
    /// `[rows, stride]`
    pub out: &'a mut [Bf16],
    /// From one row of the result to the next.
    pub stride: usize,
    /// `[N]`
    pub bias: Option<&'a [f32]>,
    /// Before rounding.
    pub activation: Activation,
}

impl Epilogue for Rounded<'_> {
    fn store(&mut self, tile: &Tile, span: Span) {
        let out = &mut self.out[span.row * self.stride + span.column..];
        match self.activation {
            Activation::Identity => rounded(tile, span, self.bias, out, self.stride),
            Activation::Gelu => gelu(tile, span, self.bias, out, self.stride),
        }
    }
}

/// `out = silu(gate) up` in bf16, of a product with interleaved weights.
#[derive(Debug)]
pub struct Gated<'a> {
    /// `[rows, stride]`
    pub out: &'a mut [Bf16],
    /// From one row of the result to the next.
    pub stride: usize,
}

impl Epilogue for Gated<'_> {
    fn store(&mut self, tile: &Tile, span: Span) {
        silu_mul(tile, span, &mut self.out[span.row * self.stride + span.column..], self.stride);
    }
}

/// What a sub-layer's branch is multiplied with before it joins the residual stream; what is absent counts as 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Branch<'a> {
    /// `[C]`
    pub bias: Option<&'a [f32]>,
    /// LayerScale, `[C]`.
    pub gamma: Option<&'a [f32]>,
    /// Stochastic depth of the block's record.
    pub keep: Option<f32>,
}

/// `out = x + keep gamma (y + bias)` in `f32`.
#[derive(Debug)]
pub struct Residual<'a> {
    /// `[rows, C]`
    pub x: &'a [f32],
    /// `[rows, C]`
    pub out: &'a mut [f32],
    /// C.
    pub width: usize,
    /// Factors and bias.
    pub branch: Branch<'a>,
}

impl Epilogue for Residual<'_> {
    fn expect(&self, span: Span) {
        let from = span.row * self.width + span.column;
        prefetch::rows(&self.x[from..], self.width, span.rows, span.columns);
        prefetch::rows(&self.out[from..], self.width, span.rows, span.columns);
    }

    fn store(&mut self, tile: &Tile, span: Span) {
        let from = span.row * self.width + span.column;
        residual(tile, span, &self.branch, &self.x[from..], &mut self.out[from..], self.width);
    }
}

/// `out = factor y` in bf16, with one factor per row of a single tile.
#[derive(Debug)]
pub struct Scaled<'a> {
    /// `[rows, stride]`
    pub out: &'a mut [Bf16],
    /// From one row of the result to the next.
    pub stride: usize,
    /// Of each row.
    pub factors: &'a [f32; ROWS],
}

impl Epilogue for Scaled<'_> {
    fn store(&mut self, tile: &Tile, span: Span) {
        scaled(tile, span, self.factors, &mut self.out[span.column..], self.stride);
    }
}

/// A tile's columns of what every row shares; `absent` where there is nothing.
#[inline(always)]
fn columns_of(shared: Option<&[f32]>, span: Span, absent: f32) -> [f32; COLUMNS] {
    shared.map_or([absent; COLUMNS], |shared| part(&shared[span.column..][..span.columns]))
}

/// Up to a tile's width of numbers, padded with zeros.
#[inline(always)]
fn part(from: &[f32]) -> [f32; COLUMNS] {
    from.try_into().unwrap_or_else(|_| {
        let mut padded = [0.0; COLUMNS];
        padded[..from.len()].copy_from_slice(from);
        padded
    })
}

/// Stores the first `out.len()` numbers.
#[inline(always)]
fn put<T: Copy, const N: usize>(y: &[T; N], out: &mut [T]) {
    match <&mut [T; N]>::try_from(&mut *out) {
        Ok(out) => *out = *y,
        Err(_) => out.copy_from_slice(&y[..out.len()]),
    }
}

multiversion! {
    fn sums(tile: &Tile, span: Span, out: &mut [f32], stride: usize) {
        for (y, out) in tile.0.iter().zip(out.chunks_mut(stride)).take(span.rows) {
            put(y, &mut out[..span.columns]);
        }
    }

    fn float(tile: &Tile, span: Span, bias: Option<&[f32]>, out: &mut [f32], stride: usize) {
        let bias = columns_of(bias, span, 0.0);
        for (y, out) in tile.0.iter().zip(out.chunks_mut(stride)).take(span.rows) {
            let mut sums = *y;
            for l in 0..COLUMNS {
                sums[l] += bias[l];
            }
            put(&sums, &mut out[..span.columns]);
        }
    }

    fn rounded(tile: &Tile, span: Span, bias: Option<&[f32]>, out: &mut [Bf16], stride: usize) {
        let bias = columns_of(bias, span, 0.0);
        for (y, out) in tile.0.iter().zip(out.chunks_mut(stride)).take(span.rows) {
            let mut rounded = [Bf16::default(); COLUMNS];
            for l in 0..COLUMNS {
                rounded[l] = Bf16::round(y[l] + bias[l]);
            }
            put(&rounded, &mut out[..span.columns]);
        }
    }

    fn gelu(tile: &Tile, span: Span, bias: Option<&[f32]>, out: &mut [Bf16], stride: usize) {
        let bias = columns_of(bias, span, 0.0);
        for (y, out) in tile.0.iter().zip(out.chunks_mut(stride)).take(span.rows) {
            let mut rounded = [Bf16::default(); COLUMNS];
            for l in 0..COLUMNS {
                let x = y[l] + bias[l];
                rounded[l] = Bf16::round(x * normal::<FMA>(x).0);
            }
            put(&rounded, &mut out[..span.columns]);
        }
    }

    fn silu_mul(tile: &Tile, span: Span, out: &mut [Bf16], stride: usize) {
        for (y, out) in tile.0.iter().zip(out.chunks_mut(stride)).take(span.rows) {
            let mut rounded = [Bf16::default(); LANES];
            for l in 0..LANES {
                rounded[l] = Bf16::round(y[l] * sigmoid::<FMA>(y[l]) * y[LANES + l]);
            }
            put(&rounded, &mut out[..span.columns]);
        }
    }

    fn residual(tile: &Tile, span: Span, branch: &Branch<'_>, x: &[f32], out: &mut [f32], width: usize) {
        let (bias, mut factor) = (columns_of(branch.bias, span, 0.0), columns_of(branch.gamma, span, 1.0));
        let keep = branch.keep.unwrap_or(1.0);
        factor.iter_mut().for_each(|factor| *factor *= keep);
        let rows = x.chunks(width).zip(out.chunks_mut(width));
        for (y, (x, out)) in tile.0.iter().zip(rows).take(span.rows) {
            let mut sums = part(&x[..span.columns]);
            for l in 0..COLUMNS {
                sums[l] = fma::<FMA>(factor[l], y[l] + bias[l], sums[l]);
            }
            put(&sums, &mut out[..span.columns]);
        }
    }

    fn scaled(tile: &Tile, span: Span, factors: &[f32; ROWS], out: &mut [Bf16], stride: usize) {
        let rows = out.chunks_mut(stride).zip(factors);
        for (y, (out, factor)) in tile.0.iter().zip(rows).take(span.rows) {
            let mut rounded = [Bf16::default(); COLUMNS];
            for l in 0..COLUMNS {
                rounded[l] = Bf16::round(factor * y[l]);
            }
            put(&rounded, &mut out[..span.columns]);
        }
    }
}
