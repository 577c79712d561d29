//! Finds near duplicates: pictures whose perceptual hashes differ in few bits.
//!
//! A hash of 64 bits is cut into `distance + 1` bands. Two hashes that differ in at most `distance` bits agree in at least
//! one of them (pigeonholes), so they share a key. Others may share one too: how near they must be is the host's to
//! compare where it matters; with few bands that is rare.

use heddle_plugin_sdk::{Batch, ColumnType, Config, Dedup, Description, Error, Numbers, reads, stateless};
use serde::Deserialize;

/// The number of bits that may differ.
#[derive(Deserialize)]
#[serde(default)]
pub struct PhashDuplicates {
    distance: u32,
}

impl Default for PhashDuplicates {
    fn default() -> Self {
        Self { distance: 3 }
    }
}

impl PhashDuplicates {
    /// A key for every band: its place in the upper bits, mixed with its value.
    pub fn keys(&self, hash: u64) -> Vec<u64> {
        let bands = self.distance + 1;
        let band = |place: u32| {
            let (from, to) = (64 * place / bands, 64 * (place + 1) / bands);
            let bits = if to - from == 64 { hash } else { (hash >> from) & ((1 << (to - from)) - 1) };
            mix(bits ^ (u64::from(place) << 56).wrapping_add(u64::from(bands) << 48))
        };
        (0..bands).map(band).collect()
    }
}

/// The finaliser of SplitMix64: a bijection.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Dedup for PhashDuplicates {
    fn describe() -> Description {
        Description {
            reads: reads(&[("phash", ColumnType::U64s, false, true)]),
            ..stateless(
                "phash-duplicates",
                "finds near duplicates by the bits of a perceptual hash",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<Vec<u64>>, Error> {
        let hashes = Numbers::<u64>::of(batch, "phash")?;
        Ok((0..batch.rows as usize)
            .map(|row| hashes.get(row).map(|hash| self.keys(hash)).unwrap_or_default())
            .collect())
    }
}

heddle_plugin_sdk::export_dedup!(PhashDuplicates);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_within_the_distance_share_a_key() {
        for distance in 0..=15 {
            let rule = PhashDuplicates { distance };
            let mut state = 7_u64;
            for _ in 0..200 {
                state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
                let mut other = state;
                for bit in 0..distance {
                    other ^= 1 << ((state >> bit) % 64);
                }
                let keys = rule.keys(state);
                assert!(
                    rule.keys(other).iter().any(|key| keys.contains(key)),
                    "{distance}: {state:x} {other:x}"
                );
            }
        }
    }
}
