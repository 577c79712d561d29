//! The number types that a backend may compute in.

use dfdx::dtypes::Dtype;

/// A floating-point element of a tensor.
///
/// dfdx's own bounds convert through `num-traits` and return options; these two conversions cannot fail.
pub trait Element: Dtype + bytemuck::Pod {
    /// The nearest element to `x`.
    fn of(x: f64) -> Self;
    /// The same value with more digits.
    fn wide(self) -> f64;
}

impl Element for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}
