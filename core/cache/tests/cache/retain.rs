use std::collections::HashSet;

use heddle_cache::{Cache, Digest};
use proptest::{collection::vec, prelude::*};

use crate::util::{copy_dir, noise, open, temp};

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is stored, kept, stored again and restarted: exactly what was kept last is there, and equal.
    #[test]
    fn exactly_what_is_kept_is_there(
        rounds in vec((vec((0u64..20, 0usize..400), 0..10), any::<u32>(), any::<bool>()), 1..5),
        lose_index: bool,
    ) {
        let dir = temp();
        let mut cache = open(dir.path());
        let mut there: HashSet<Vec<u8>> = HashSet::new();
        for (stored, keep, reopen) in rounds {
            for (seed, len) in stored {
                let bytes = noise(seed, len);
                cache.put(&bytes).expect("stored");
                there.insert(bytes);
            }
            let before = cache.usage().expect("readable");
            let dead = |bytes: &Vec<u8>| keep >> (bytes.len() % 32) & 1 == 0;
            let (dropped, kept): (HashSet<_>, HashSet<_>) = there.into_iter().partition(dead);
            there = kept;
            let freed = cache.retain(&there.iter().map(|bytes| Digest::of(bytes)).collect()).expect("retained");
            let after = cache.usage().expect("readable");
            prop_assert_eq!(freed.payloads, dropped.len() as u64);
            prop_assert_eq!(freed.payload_bytes, before.payload_bytes - after.payload_bytes);
            prop_assert_eq!(freed.pack_bytes, before.pack_bytes - after.pack_bytes);
            if reopen {
                drop(cache);
                cache = open(dir.path());
            }
            exactly(&cache, &there);
            dropped.iter().for_each(|bytes| assert!(cache.get(&Digest::of(bytes)).expect("readable").is_none()));
        }
        // Nothing that was dropped is in the packs either: they hold headers and what is kept.
        let entries: u64 = there.iter().map(|bytes| Cache::bytes_in_pack(bytes.len() as u64)).sum();
        let usage = cache.usage().expect("readable");
        prop_assert!(usage.pack_bytes >= entries && usage.pack_bytes <= entries + 5 * 64, "{:?}, {}", usage, entries);
        if lose_index {
            drop(cache);
            let copy = temp();
            copy_dir(dir.path(), copy.path());
            std::fs::remove_dir_all(copy.path().join("v1/index")).expect("removable");
            exactly(&open(copy.path()), &there);
        }
    }
}

fn exactly(cache: &Cache, there: &HashSet<Vec<u8>>) {
    let expected: HashSet<Digest> = there.iter().map(|bytes| Digest::of(bytes)).collect();
    let found: HashSet<Digest> =
        cache.payloads().expect("readable").into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(found, expected);
    for bytes in there {
        assert_eq!(**cache.get(&Digest::of(bytes)).expect("readable").as_ref().expect("kept"), **bytes);
    }
}

#[test]
fn payloads_that_are_held_stay_readable() {
    let dir = temp();
    let cache = open(dir.path());
    let [gone, kept] = [noise(1, 5000), noise(2, 5000)].map(|bytes| cache.put(&bytes).expect("stored"));
    let held = [gone, kept].map(|digest| cache.get(&digest).expect("readable").expect("stored"));
    cache.retain(&HashSet::from([kept])).expect("retained");
    cache.put(&noise(3, 5000)).expect("stored");
    assert_eq!([&*held[0], &*held[1]], [noise(1, 5000), noise(2, 5000)]);
    assert_eq!(cache.size(&kept).expect("readable"), Some(5000));
    assert_eq!(cache.size(&gone).expect("readable"), None);
    assert!(cache.verify(&mut |_, _| ()).expect("readable").is_empty());
}

/// Who reads while another compacts finds what is kept, at every moment.
#[test]
fn readers_find_what_moves() {
    let dir = temp();
    let cache = open(dir.path());
    let kept: Vec<Digest> = (0..20).map(|i| cache.put(&noise(i, 2000)).expect("stored")).collect();
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| {
            for i in 100..130 {
                cache.put(&noise(i, 100)).expect("stored");
                cache.retain(&kept.iter().copied().collect()).expect("retained");
            }
        });
        while !compacting.is_finished() {
            for (digest, seed) in kept.iter().zip(0..) {
                assert_eq!(*cache.get(digest).expect("readable").expect("kept"), *noise(seed, 2000));
            }
        }
    });
}

/// A damaged payload is not copied as if it were whole.
#[test]
fn damage_is_dropped() {
    let dir = temp();
    let cache = open(dir.path());
    let [good, bad, gone] = [1, 2, 3].map(|i| cache.put(&noise(i, 1000)).expect("stored"));
    let pack = dir.path().join("v1/packs/000000.pack");
    let mut bytes = std::fs::read(&pack).expect("a pack");
    let at = bytes.windows(1000).position(|window| window == noise(2, 1000)).expect("stored there");
    bytes[at + 7] ^= 1;
    std::fs::write(&pack, bytes).expect("writable");
    cache.retain(&HashSet::from([good, bad])).expect("retained");
    assert!(cache.contains(&good).expect("readable"));
    assert!(!cache.contains(&bad).expect("readable") && !cache.contains(&gone).expect("readable"));
}
