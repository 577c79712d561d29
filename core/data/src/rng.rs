//! Random streams that depend on what they are for, never on who asks first.
//!
//! A seed and the numbers of a stream enter (epoch and record, or step), a generator leaves. A run thus draws
//! the same values with any number of threads, and a resumed run draws what an uninterrupted one would have.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of one stream, such as `rng(seed, &[epoch, record])`. Streams of different length or
/// content are independent.
pub fn rng(seed: u64, stream: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"heddle random stream 1").update(&seed.to_le_bytes());
    for part in stream {
        hasher.update(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn streams_are_fixed_and_distinct() {
        let first = |seed, stream: &[u64]| rng(seed, stream).next_u64();
        assert_eq!(first(7, &[1, 2]), first(7, &[1, 2]));
        let all = [first(7, &[]), first(7, &[0]), first(7, &[0, 0]), first(7, &[1, 0]), first(8, &[0])];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
