//! Infinities and NaNs among stored weights, found without converting them.

use safetensors::Dtype;

use super::WeightsError;

/// Checks that the elements `data` of the tensor `key` are floating-point numbers and all finite. An IEEE number is
/// not finite where all bits of its exponent are set.
///
/// # Errors
/// [`WeightsError::NotFinite`] with the first such element; [`WeightsError::Dtype`] for elements of another type.
pub fn check_finite(key: &str, dtype: Dtype, data: &[u8]) -> Result<(), WeightsError> {
    let found = match dtype {
        Dtype::F64 => {
            let mut bits = data.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes));
            bits.position(|bits| bits << 1 >> 53 == 0x7ff)
        }
        Dtype::F32 => {
            let mut bits = data.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
            bits.position(|bits| bits << 1 >> 24 == 0xff)
        }
        Dtype::BF16 => position_of_half(data, 0x7f80),
        Dtype::F16 => position_of_half(data, 0x7c00),
        other => {
            return Err(WeightsError::Dtype { key: key.to_owned(), dtype: other.to_string() });
        }
    };
    match found {
        Some(index) => {
            Err(WeightsError::NotFinite { key: key.to_owned(), index, value: at(dtype, data, index) })
        }
        None => Ok(()),
    }
}

fn position_of_half(data: &[u8], exponent: u16) -> Option<usize> {
    data.as_chunks().0.iter().position(|&bytes| u16::from_le_bytes(bytes) & exponent == exponent)
}

/// An element that is not finite: an infinity with its sign, or NaN.
fn at(dtype: Dtype, data: &[u8], index: usize) -> f64 {
    let size = dtype.bitsize() / 8;
    let bytes = data.get(index * size..(index + 1) * size).unwrap_or_default();
    let fraction = match dtype {
        Dtype::F64 => 52,
        Dtype::F32 => 23,
        Dtype::BF16 => 7,
        _ => 10,
    };
    let bits = bytes.iter().rev().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    match (bits & ((1 << fraction) - 1), bits >> (8 * size - 1)) {
        (0, 0) => f64::INFINITY,
        (0, _) => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dtype: Dtype, data: &[u8], expected: &str) {
        let said = check_finite("k", dtype, data).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(said, expected, "{dtype}");
    }

    #[test]
    fn the_first_element_that_is_not_finite_is_named() {
        let single: Vec<u8> = [1.0, f32::MAX, f32::NEG_INFINITY, f32::NAN].map(f32::to_le_bytes).concat();
        check(Dtype::F32, &single, "`k` holds -inf at element 2");
        check(Dtype::F32, &single[..8], "");
        let double: Vec<u8> = [f64::MIN_POSITIVE, f64::NAN].map(f64::to_le_bytes).concat();
        check(Dtype::F64, &double, "`k` holds NaN at element 1");
        check(Dtype::BF16, &[0x80, 0x3f, 0x80, 0x7f], "`k` holds inf at element 1");
        check(Dtype::BF16, &[0x7f, 0x7f], "");
        check(Dtype::F16, &[0xff, 0x7b, 0x01, 0xfc], "`k` holds NaN at element 1");
        check(Dtype::I64, &[0; 8], "`k` holds I64; weights are F64, F32, F16 or BF16");
    }
}
