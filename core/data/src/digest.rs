//! BLAKE3 digests of content, and their hexadecimal form.
//!
//! Bytes enter, `[u8; 32]` leaves. Nothing here knows what the bytes mean.

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// The digest of some bytes.
pub fn of(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

/// Hashes a sequence of fields; each is preceded by its length, so `("ab", "c")` and `("a", "bc")` differ.
#[derive(Default)]
pub(crate) struct FieldHasher(blake3::Hasher);

impl FieldHasher {
    /// A hasher for one kind of value; `domain` keeps the digests of different kinds apart.
    pub(crate) fn new(domain: &str) -> Self {
        Self::default().field(domain.as_bytes())
    }

    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    pub(crate) fn finish(self) -> Digest {
        *self.0.finalize().as_bytes()
    }
}

/// The 64 lower-case hexadecimal digits of a digest.
pub fn to_hex(digest: &Digest) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

/// Reads 64 hexadecimal digits; anything else is `None`.
pub fn from_hex(text: &str) -> Option<Digest> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

/// Serialises a digest as its hexadecimal digits: `#[serde(with = "crate::digest::hex")]`.
pub(crate) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(digest: &super::Digest, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&super::to_hex(digest))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<super::Digest, D::Error> {
        let text = String::deserialize(input)?;
        super::from_hex(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a BLAKE3 digest")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_rejects_noise() {
        let digest = of(b"heddle");
        assert_eq!(from_hex(&to_hex(&digest)), Some(digest));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex(&"g".repeat(64)), None);
    }

    #[test]
    fn field_borders_count() {
        let hash = |fields: [&str; 2]| {
            fields.iter().fold(FieldHasher::new("test"), |h, f| h.field(f.as_bytes())).finish()
        };
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
