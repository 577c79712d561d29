//! Elements of 16 bits: bf16 and IEEE's half precision.

use super::super::simd::multiversion;
use super::by_panels;

/// What shifting a half's bits to the place of an `f32`'s makes too small.
const F16_SHIFT: f32 = f32::from_bits((127 + 112) << 23);

/// `w: [N, K]` by panels of `width`, if `narrow` has every value.
pub fn pack(
    w: &[f32],
    inputs: usize,
    width: usize,
    narrow: impl Fn(f32) -> Option<u16> + Sync,
) -> Option<Vec<u16>> {
    // Most matrices that are none fail here, before anything is allocated.
    w.iter().take(64).all(|&w| narrow(w).is_some()).then(|| by_panels(w, inputs, width, narrow))?
}

/// The value in bf16, if that is exact.
pub fn to_bf16(w: f32) -> Option<u16> {
    let bits = w.to_bits();
    (bits & 0xffff == 0).then_some((bits >> 16) as u16)
}

/// The value in half precision, if that is exact and finite.
pub fn to_f16(w: f32) -> Option<u16> {
    let bits = (w / F16_SHIFT).to_bits();
    let half = (bits >> 16 & 0x8000 | bits >> 13 & 0x7fff) as u16;
    (w.abs() < 65_536.0 && from_f16(half).to_bits() == w.to_bits()).then_some(half)
}

#[inline(always)]
fn from_f16(half: u16) -> f32 {
    let half = u32::from(half);
    f32::from_bits((half & 0x8000) << 16 | (half & 0x7fff) << 13) * F16_SHIFT
}

multiversion! {
    pub fn expand_bf16(halves: &[u16], out: &mut [f32]) {
        for (out, half) in out.iter_mut().zip(halves) {
            *out = f32::from_bits(u32::from(*half) << 16);
        }
    }

    pub fn expand_f16(halves: &[u16], out: &mut [f32]) {
        for (out, half) in out.iter_mut().zip(halves) {
            *out = from_f16(*half);
        }
    }
}
