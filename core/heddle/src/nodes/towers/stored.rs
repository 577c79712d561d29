//! How the values of a kept row lie in the cache: as they are, or with half of their bits.

use half::{bf16, f16};
use heddle_graph::config::Stored;

/// A number that would be stored as infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TooLarge(pub f32);

/// Appends values as they are stored, little-endian; rounded to the nearest where bits are left out.
///
/// # Errors
/// [`TooLarge`], if rounding would make a number infinite.
pub fn write(values: &[f32], stored: Stored, bytes: &mut Vec<u8>) -> Result<(), TooLarge> {
    let half: fn(f32) -> (bool, [u8; 2]) = match stored {
        Stored::F32 => {
            bytes.extend_from_slice(bytemuck::cast_slice(values));
            return Ok(());
        }
        Stored::F16 => |value| (f16::from_f32(value).is_finite(), f16::from_f32(value).to_le_bytes()),
        Stored::Bf16 => |value| (bf16::from_f32(value).is_finite(), bf16::from_f32(value).to_le_bytes()),
    };
    for value in values {
        let (is_finite, half) = half(*value);
        if value.is_finite() && !is_finite {
            return Err(TooLarge(*value));
        }
        bytes.extend(half);
    }
    Ok(())
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
        write(values, stored, &mut bytes).expect("the values are small");
        assert_eq!(bytes.len(), values.len() * stored.bytes());
        read(&bytes, stored, &mut read_back);
        read_back
    }

    #[test]
    fn numbers_that_f16_does_not_reach_are_refused() {
        let write = |value: f32, stored| write(&[1.0, value], stored, &mut Vec::new());
        assert_eq!(write(7e4, Stored::F16), Err(TooLarge(7e4)));
        assert_eq!((write(7e4, Stored::Bf16), write(7e4, Stored::F32)), (Ok(()), Ok(())));
        // What is infinite already stays so: whoever reads it says so.
        assert_eq!(write(f32::INFINITY, Stored::F16), Ok(()));
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
