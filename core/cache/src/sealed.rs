//! Checksums of what the index holds: a CRC-32 over key and value, stored behind the value.
//!
//! sled has checksums of its own, of pages in its log; these catch a value that ends up under another key, or in
//! another tree, as well.

/// A value as it is stored under `key`: with a checksum over both behind it.
pub(crate) fn seal_value(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &checksum(key, value)].concat()
}

/// The inverse of [`seal_value`]; `None` if the checksum does not fit.
pub(crate) fn open_value<'v>(key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
    let (value, crc) = stored.split_last_chunk::<4>()?;
    (checksum(key, value) == *crc).then_some(value)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_under_its_key_and_unchanged() {
        let stored = seal_value(b"key", b"value");
        assert_eq!(open_value(b"key", &stored), Some(b"value".as_slice()));
        assert_eq!(open_value(b"ke", &seal_value(b"key", b"yvalue")), None);
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_value(b"key", &flipped), None, "bit {bit}");
        }
        assert_eq!(open_value(b"key", b"abc"), None);
    }
}
