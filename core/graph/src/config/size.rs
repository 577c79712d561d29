//! Amounts of bytes as people write them.

use super::{
    from_value::{FromValue, Wrong},
    value::{Value, ValueKind},
};

/// Bytes, as `20GB` or plainly as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

const EXAMPLE: &str = "for example \"20GB\", \"512MiB\", or plainly bytes";

/// Names of decimal and binary multiples of a byte.
const UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000_u64.pow(2)),
    ("GB", 1000_u64.pow(3)),
    ("TB", 1000_u64.pow(4)),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = UNITS.iter().find(|(name, _)| *name == text[digits..].trim());
        let bytes =
            text[..digits].parse::<u64>().ok().zip(unit).and_then(|(n, (_, unit))| n.checked_mul(*unit));
        bytes.map(Self).ok_or_else(|| format!("`{text}` is no amount of bytes; {EXAMPLE}"))
    }
}

impl FromValue for Size {
    fn ty() -> String {
        "amount of bytes".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        if matches!(value.kind, ValueKind::Int(_)) {
            return u64::from_value(value).map(Self);
        }
        let text = value.as_str().ok_or_else(|| Wrong::ty(value, "amount of bytes").help(EXAMPLE))?;
        text.parse().map_err(|_| Wrong::new(value, format!("`{text}` is no amount of bytes")).help(EXAMPLE))
    }

    fn to_json(&self) -> serde_json::Value {
        self.0.into()
    }

    fn placeholder() -> Self {
        Self(1 << 30)
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+ *(B|[kKMGT]B|[KMGT]iB)?$" },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        let sizes =
            [("0", 0), ("17", 17), ("3 B", 3), ("2kB", 2000), ("20GB", 20_000_000_000), ("1 TiB", 1 << 40)];
        for (text, bytes) in sizes {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "GB", "-1", "1.5GB", "8 gib", "99999999999TiB", "1 GB!"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
