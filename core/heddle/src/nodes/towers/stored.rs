//! How the values of a kept row lie in the cache: as they are, or with half of their bits.

use half::{bf16, f16};
use heddle_graph::config::Stored;

/// Appends values as they are stored, little-endian; rounded to the nearest where bits are left out.
pub fn write(values: &[f32], stored: Stored, bytes: &mut Vec<u8>) {
    match stored {
        Stored::F32 => bytes.extend_from_slice(bytemuck::cast_slice(values)),
        Stored::F16 => bytes.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
        Stored::Bf16 => bytes.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes())),
    }
}

/// Appends the values of stored bytes.
pub fn read(bytes: &[u8], stored: Stored, values: &mut Vec<f32>) {
    let halves = bytes.as_chunks::<2>().0.iter();
    match stored {
        Stored::F32 => values.extend(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value))),
        Stored::F16 => values.extend(halves.map(|value| f16::from_le_bytes(*value).to_f32())),
        Stored::Bf16 => values.extend(halves.map(|value| bf16::from_le_bytes(*value).to_f32())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[f32], stored: Stored) -> Vec<f32> {
        let (mut bytes, mut read_back) = (Vec::new(), Vec::new());
        write(values, stored, &mut bytes);
        assert_eq!(bytes.len(), values.len() * stored.bytes());
        read(&bytes, stored, &mut read_back);
        read_back
    }

    proptest! {
        #[test]
        fn values_come_back_as_exact_as_they_are_stored(values in prop::collection::vec(-6e4_f32..6e4, 0..40)) {
            let whole = round_trip(&values, Stored::F32);
            prop_assert_eq!(whole.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            for (stored, bits) in [(Stored::F16, 11), (Stored::Bf16, 8)] {
                let rounded = round_trip(&values, stored);
                for (value, rounded) in values.iter().zip(&rounded) {
                    let half_a_step = value.abs() / f32::powi(2.0, bits) + 1e-7;
                    prop_assert!((value - rounded).abs() <= half_a_step, "{value} became {rounded}");
                }
                // What is rounded already stays.
                prop_assert_eq!(round_trip(&rounded, stored), rounded);
            }
        }
    }
}
