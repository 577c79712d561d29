//! The number type of operands.

/// What the operands of matrix products and of attention are rounded to. Whatever it is, sums, statistics, softmax,
/// losses, the residual stream, parameters, gradients and optimiser state are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// Single precision, rounded by a GPU's tensor cores to ten bits of fraction in matrix products; attention in full.
    Tf32,
    /// Brain floating point, 16 bits: the range of single precision, eight bits of digits.
    Bf16,
    /// Half precision, 16 bits: eleven bits of digits. Gradients are scaled into its range.
    F16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}
