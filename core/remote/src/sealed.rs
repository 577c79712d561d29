//! Values with the digest of what they are and where they stand, so that neither a changed byte nor a changed place passes.

use heddle_graph::digest::{Digest, DigestWriter};

const SEAL_BYTES: usize = 32;

/// The bytes of a value's object.
pub(crate) fn seal(space: &str, key: &[Digest], value: &[u8]) -> Vec<u8> {
    [digest(space, key, value).as_bytes().as_slice(), value].concat()
}

/// The value in an object's bytes; none if they are not what was sealed there.
pub(crate) fn open(space: &str, key: &[Digest], bytes: &[u8]) -> Option<Vec<u8>> {
    let (seal, value) = bytes.split_first_chunk::<SEAL_BYTES>()?;
    (Digest::from_bytes(*seal) == digest(space, key, value)).then(|| value.to_vec())
}

fn digest(space: &str, key: &[Digest], value: &[u8]) -> Digest {
    let mut writer = DigestWriter::new("heddle remote value 1");
    writer.str(space).u64(key.len() as u64);
    for part in key {
        writer.digest(part);
    }
    writer.bytes(value).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(parts: &[[u8; 32]]) -> Vec<Digest> {
        parts.iter().map(|part| Digest::from_bytes(*part)).collect()
    }

    proptest! {
        #[test]
        fn a_value_opens_where_it_was_sealed(parts: Vec<[u8; 32]>, value: Vec<u8>) {
            let key = key(&parts);
            let sealed = seal("trace", &key, &value);
            prop_assert_eq!(open("trace", &key, &sealed), Some(value));
            prop_assert_eq!(open("rows", &key, &sealed), None);
            prop_assert_eq!(open("trace", &[key.clone(), vec![Digest::of(b"")]].concat(), &sealed), None);
        }

        #[test]
        fn no_flip_and_no_cut_passes(value: Vec<u8>, at: prop::sample::Index, bit in 0..8u8, cut: prop::sample::Index) {
            let key = key(&[[7; 32]]);
            let sealed = seal("trace", &key, &value);
            let mut flipped = sealed.clone();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(open("trace", &key, &flipped), None);
            prop_assert_eq!(open("trace", &key, &sealed[..cut.index(sealed.len())]), None);
        }
    }
}
