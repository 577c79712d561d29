//! [`Speed`]: what decides whether a value is worth keeping.

use serde::{Deserialize, Serialize};

/// How fast a device computes what is frozen, and how fast its values come from the cache.
///
/// The cache notes what was measured where it took a second or more, so that the first run on a machine decides by the defaults
/// and later ones by what they took. No result depends on it: a value that is kept and one that is computed are the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Multiply-adds a second, with decoding the pictures and all that lies between.
    pub macs_per_second: f64,
    /// Bytes of rows a second.
    pub read_bytes_per_second: f64,
}

impl Default for Speed {
    /// Two cores with AVX-512, and rows in memory that the system holds.
    fn default() -> Self {
        Self { macs_per_second: 6e10, read_bytes_per_second: 1e9 }
    }
}

impl Speed {
    /// Of who keeps everything: values that are a node's very purpose.
    pub const SLOW: Self = Self { macs_per_second: f64::MIN_POSITIVE, read_bytes_per_second: 1e9 };

    /// Whether reading so many bytes takes less time than so many multiply-adds.
    pub fn reads_faster(&self, bytes: usize, macs: u64) -> bool {
        macs as f64 / self.macs_per_second > bytes as f64 / self.read_bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_reading_depends_on_the_machine() {
        let usual = Speed::default();
        // A row of 4 kB: 4 us to read.
        assert!(usual.reads_faster(4096, 1_000_000) && !usual.reads_faster(4096, 100_000));
        let fast = Speed { macs_per_second: 1e13, ..usual };
        assert!(!fast.reads_faster(4096, 1_000_000));
        let slow_disk = Speed { read_bytes_per_second: 1e8, ..usual };
        assert!(!slow_disk.reads_faster(4096, 1_000_000));
    }
}
