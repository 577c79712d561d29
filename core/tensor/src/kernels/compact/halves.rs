//! Elements of 16 bits: bf16 and IEEE's half precision.

use super::super::simd::multiversion;
use super::by_panels;

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
    let magnitude = w.abs();
    let half = match magnitude < SMALLEST_NORMAL {
        true => (magnitude / LAST_PLACE) as u32,
        false => (magnitude.to_bits() >> 13).wrapping_sub(REBASE >> 13),
    };
    let half = (half & 0x7fff) as u16 | (w.to_bits() >> 16 & 0x8000) as u16;
    (magnitude < 65_536.0 && from_f16(half).to_bits() == w.to_bits()).then_some(half)
}

/// The smallest normal number of half precision, and the distance of those below it.
const SMALLEST_NORMAL: f32 = 1.0 / 16_384.0;
const LAST_PLACE: f32 = SMALLEST_NORMAL / 1_024.0;
/// From the exponents of half precision to those of `f32`.
const REBASE: u32 = (127 - 15) << 23;

/// No step of it has a denormal `f32`, with which processors take their time.
#[inline(always)]
fn from_f16(half: u16) -> f32 {
    let (sign, magnitude) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let normal = (magnitude << 13) + REBASE;
    let small = (magnitude as f32 * LAST_PLACE).to_bits();
    f32::from_bits(sign | if magnitude < 0x400 { small } else { normal })
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
