//! [`Near`]: perceptual hashes that are alike.

use std::collections::{HashMap, HashSet};

/// Finds hashes within a distance: cut into `distance + 1` bands, two such hashes agree in at least one of them.
pub struct Near {
    distance: u32,
    hashes: Vec<u64>,
    bands: Vec<HashMap<u64, Vec<u32>>>,
}

impl Near {
    /// Nothing yet; `distance` is the most bits that may differ, below 64.
    pub fn new(distance: u32) -> Self {
        Self { distance, hashes: Vec::new(), bands: (0..=distance).map(|_| HashMap::new()).collect() }
    }

    fn band(&self, place: usize, hash: u64) -> u64 {
        let (bands, place) = (self.bands.len() as u32, place as u32);
        let (from, to) = (64 * place / bands, 64 * (place + 1) / bands);
        if to - from == 64 { hash } else { (hash >> from) & ((1 << (to - from)) - 1) }
    }

    /// The place of the first hash within the distance.
    pub fn find(&self, hash: u64) -> Option<u32> {
        let mut looked = HashSet::new();
        let mut first: Option<u32> = None;
        for (place, band) in self.bands.iter().enumerate() {
            for at in band.get(&self.band(place, hash)).into_iter().flatten() {
                if first.is_none_or(|first| *at < first)
                    && looked.insert(*at)
                    && (self.hashes[*at as usize] ^ hash).count_ones() <= self.distance
                {
                    first = Some(*at);
                }
            }
        }
        first
    }

    /// Adds a hash at the next place.
    pub fn add(&mut self, hash: u64) {
        let at = self.hashes.len() as u32;
        self.hashes.push(hash);
        for place in 0..self.bands.len() {
            let band = self.band(place, hash);
            self.bands[place].entry(band).or_default().push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The first of every group stays, as comparing all with all finds it.
        #[test]
        fn near_hashes_are_found_as_by_comparing_all(
            hashes in proptest::collection::vec((any::<u64>(), 0_u64..16), 0..60),
            distance in 0_u32..=15,
        ) {
            // Few bits differ from a few centres.
            let hashes: Vec<u64> = hashes.iter().map(|(noise, centre)| centre.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (noise & 0x1111_0000_0101)).collect();
            let (mut near, mut kept): (Near, Vec<u64>) = (Near::new(distance), Vec::new());
            for hash in hashes {
                let slow = kept.iter().position(|other| (other ^ hash).count_ones() <= distance);
                prop_assert_eq!(near.find(hash).map(|at| at as usize), slow);
                if slow.is_none() {
                    near.add(hash);
                    kept.push(hash);
                }
            }
        }
    }
}
