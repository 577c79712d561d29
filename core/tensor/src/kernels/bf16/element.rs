//! The number format: bf16, the upper half of an `f32`, and the cache line of them that kernels load at once.
//!
//! Must not know: what the numbers mean.

use bytemuck::{Pod, Zeroable};

/// A brain floating-point number: sign, 8 bits of exponent and 7 of fraction of an `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// Rounds to the nearest, ties to even; a NaN stays one.
    #[inline(always)]
    pub fn round(x: f32) -> Self {
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        // Rounding could carry a NaN's fraction over to an infinity: set its quiet bit instead.
        let kept = if x.is_nan() { bits | 0x0040_0000 } else { nearest };
        Self((kept >> 16) as u16)
    }

    /// The same number in `f32`.
    #[inline(always)]
    pub fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// Numbers in a [`Line`].
pub const LINE: usize = 32;

/// One cache line, which is also one 512-bit vector: 16 pairs.
///
/// Buffers are made of lines, so that no vector load crosses from one line to the next.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [Bf16; LINE]);

impl Line {
    /// All zeros.
    pub const ZERO: Self = Self([Bf16(0); LINE]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(x: f32, expected: f32) {
        assert_eq!(Bf16::round(x).widen().to_bits(), expected.to_bits(), "{x}");
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_from_ties_to_even() {
        let ulp = 2_f32.powi(-7);
        for (x, expected) in [
            (0.0, 0.0),
            (-0.0, -0.0),
            (1.0 + 0.49 * ulp, 1.0),
            (1.0 + 0.51 * ulp, 1.0 + ulp),
            (1.0 + 0.5 * ulp, 1.0),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (-1.0 - 1.5 * ulp, -1.0 - 2.0 * ulp),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            check(x, expected);
        }
        assert!(Bf16::round(f32::from_bits(0x7f80_0001)).widen().is_nan());
        assert!(Bf16::round(f32::from_bits(0xffff_ffff)).widen().is_nan());
    }

    #[test]
    fn every_bf16_is_its_own_rounding() {
        for bits in 0..=u16::MAX {
            let x = Bf16(bits).widen();
            assert!(x.is_nan() || Bf16::round(x) == Bf16(bits), "{bits:#x}");
        }
    }
}
