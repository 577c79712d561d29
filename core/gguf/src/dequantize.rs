//! Stored elements as `f32`.
//!
//! The formulas of `dequantize_row_*` in ggml's `src/ggml-quants.c`. In a block of 32 elements with 4 bits each, byte
//! `j` has element `j` in its lower half and element `j + 16` in its upper half.
//!
//! | type | block | element |
//! |---|---|---|
//! | Q4_0 | `d: f16`, 16 bytes | `(q - 8) * d` |
//! | Q4_1 | `d: f16`, `m: f16`, 16 bytes | `q * d + m` |
//! | Q8_0 | `d: f16`, 32 signed bytes | `q * d` |

use crate::TensorType;

/// All elements; `None` for a type that is not read. Bytes behind the last whole block do not count.
pub(crate) fn dequantize(ty: TensorType, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match ty {
        TensorType::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        TensorType::F16 => bytes.as_chunks().0.iter().map(|&bytes| half(bytes)).collect(),
        TensorType::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
            .collect(),
        TensorType::Q4_0 => blocks(bytes, |[d0, d1, quants @ ..]: &[u8; 18]| {
            let d = half([*d0, *d1]);
            nibbles(quants).map(|q| (f32::from(q) - 8.0) * d)
        }),
        TensorType::Q4_1 => blocks(bytes, |[d0, d1, m0, m1, quants @ ..]: &[u8; 20]| {
            let (d, m) = (half([*d0, *d1]), half([*m0, *m1]));
            nibbles(quants).map(|q| f32::from(q) * d + m)
        }),
        TensorType::Q8_0 => blocks(bytes, |[d0, d1, quants @ ..]: &[u8; 34]| {
            let d = half([*d0, *d1]);
            quants.map(|q| f32::from(q.cast_signed()) * d)
        }),
        TensorType::Other(_) => return None,
    })
}

fn blocks<const N: usize>(bytes: &[u8], elements: impl Fn(&[u8; N]) -> [f32; 32]) -> Vec<f32> {
    bytes.as_chunks().0.iter().flat_map(elements).collect()
}

/// The lower halves of 16 bytes, then the upper ones.
fn nibbles(quants: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|j| if j < 16 { quants[j] & 0xf } else { quants[j - 16] >> 4 })
}

/// IEEE binary16: one sign bit, five of exponent (bias 15), ten of fraction. Every value is exact in single precision.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Below the normal numbers: the fraction counts steps of 2^-24.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let check = |bits: u16, expected: f32| {
            assert_eq!(half(bits.to_le_bytes()).to_bits(), expected.to_bits(), "{bits:#x}");
        };
        check(0x3c00, 1.0);
        check(0xc000, -2.0);
        check(0x8000, -0.0);
        check(0x7bff, 65_504.0);
        check(0x0400, 2_f32.powi(-14));
        check(0x0001, 2_f32.powi(-24));
        check(0x83ff, -1023.0 * 2_f32.powi(-24));
        check(0xfc00, f32::NEG_INFINITY);
        assert!(half(0x7e00_u16.to_le_bytes()).is_nan());
    }

    /// By the table's formulas on paper.
    #[test]
    fn blocks_of_each_type() {
        let mut quants = [0_u8; 16];
        quants[0] = 0x2f;
        quants[15] = 0xf0;
        let check = |ty, head: &[u8], quants: &[u8], expected: [(usize, f32); 4]| {
            let found = dequantize(ty, &[head, quants].concat()).unwrap();
            assert_eq!(found.len(), 32);
            expected.iter().for_each(|&(place, value)| assert_eq!(found[place], value, "{ty} at {place}"));
        };
        // d = 0.5; m = -1.
        let (d, m) = ([0x00, 0x38], [0x00, 0xbc]);
        check(TensorType::Q4_0, &d, &quants, [(0, 3.5), (15, -4.0), (16, -3.0), (31, 3.5)]);
        check(TensorType::Q4_1, &[d, m].concat(), &quants, [(0, 6.5), (15, -1.0), (16, 0.0), (31, 6.5)]);
        let mut signed = [0_u8; 32];
        (signed[0], signed[1], signed[31]) = (0x7f, 0x80, 0xff);
        check(TensorType::Q8_0, &d, &signed, [(0, 63.5), (1, -64.0), (2, 0.0), (31, -0.5)]);
        assert_eq!(dequantize(TensorType::BF16, &[0x80, 0x3f, 0x00, 0xc0]), Some(vec![1.0, -2.0]));
        assert_eq!(dequantize(TensorType::Other(14), &[]), None);
    }
}
