use std::{collections::BTreeMap, fs};

use heddle_cache::{Cache, Digest, RowChunk, RowSet};
use proptest::prelude::*;

use crate::util::{noise, open, temp};

const ROW: usize = 24;

fn key(i: u64) -> Digest {
    Digest::of(&i.to_le_bytes())
}

fn set(cache: &Cache, name: &str) -> RowSet {
    RowSet::open(cache, Digest::of(name.as_bytes()), ROW).expect("readable")
}

/// Rows that depend on their numbers and a version.
fn insert(rows: &mut RowSet, ids: impl IntoIterator<Item = u64>, version: u64) {
    let ids: Vec<u64> = ids.into_iter().collect();
    let keys: Vec<Digest> = ids.iter().copied().map(key).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|i| row(*i, version)).collect();
    rows.insert(&keys, &bytes, 0.5).expect("stored");
}

fn row(i: u64, version: u64) -> Vec<u8> {
    noise(1000 * version + i, ROW)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is stored in whatever chunks is there, now and after a restart; the last one counts.
    #[test]
    fn a_row_is_what_was_stored_last(
        chunks in prop::collection::vec(prop::collection::btree_set(0_u64..40, 0..12), 0..6),
        reopen in any::<bool>(),
    ) {
        let dir = temp();
        let mut cache = open(dir.path());
        let mut rows = set(&cache, "tokens");
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        for (ids, version) in chunks.into_iter().zip(1..) {
            let new: Vec<u64> = ids.into_iter().filter(|id| !expected.contains_key(id) || !reopen).collect();
            expected.extend(new.iter().map(|id| (*id, version)));
            insert(&mut rows, new, version);
            if reopen {
                drop(rows);
                drop(cache);
                cache = open(dir.path());
                rows = set(&cache, "tokens");
            }
        }
        prop_assert_eq!(rows.len(), expected.len());
        for i in 0..40 {
            let found = rows.get(&key(i)).expect("works").map(|bytes| bytes.to_vec());
            prop_assert_eq!(found, expected.get(&i).map(|version| row(i, *version)));
        }
        let missing = rows.missing((0..40).chain(0..40).map(key)).expect("works");
        prop_assert_eq!(missing.len(), 40 - expected.len());
    }
}

#[test]
fn sets_and_lengths_do_not_mix() {
    let dir = temp();
    let cache = open(dir.path());
    insert(&mut set(&cache, "a"), 0..3, 1);
    insert(&mut set(&cache, "b"), 2..4, 2);
    let (a, b) = (set(&cache, "a"), set(&cache, "b"));
    assert_eq!((a.len(), b.len()), (3, 2));
    assert_eq!(b.get(&key(2)).expect("works").as_deref(), Some(&*row(2, 2)));
    assert!(RowSet::open(&cache, Digest::of(b"a"), ROW + 8).expect("works").is_empty());
}

/// A byte that flips, and a pack that loses its end, take their chunks with them and nothing else; they can be stored again.
#[test]
fn a_damaged_chunk_is_missing() {
    for cut in [false, true] {
        let dir = temp();
        {
            let cache = open(dir.path());
            let mut rows = set(&cache, "tokens");
            insert(&mut rows, 0..10, 1);
            insert(&mut rows, 10..20, 1);
        }
        let pack = dir.path().join("v1/packs/000000.pack");
        let mut bytes = fs::read(&pack).expect("works");
        let last = row(19, 1);
        let at = bytes.windows(ROW).position(|window| window == last).expect("works");
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] ^= 1,
        }
        fs::write(&pack, bytes).expect("works");
        let cache = open(dir.path());
        let mut rows = set(&cache, "tokens");
        let missing = rows.missing((0..20).map(key)).expect("works");
        assert_eq!(missing, (10..20).map(key).collect::<Vec<_>>());
        assert_eq!(rows.get(&key(3)).expect("works").as_deref(), Some(&*row(3, 1)));
        insert(&mut rows, 10..20, 1);
        assert_eq!(rows.get(&key(12)).expect("works").as_deref(), Some(&*row(12, 1)));
        drop(rows);
        let again = set(&cache, "tokens");
        assert!(again.missing((0..20).map(key)).expect("works").is_empty());
    }
}

/// All chunks can be listed with what they cost, and forgotten; values of earlier builds have no cost.
#[test]
fn chunks_are_listed_and_forgotten() {
    let dir = temp();
    let cache = open(dir.path());
    let mut rows = set(&cache, "a");
    insert(&mut rows, 0..3, 1);
    insert(&mut rows, 3..5, 1);
    insert(&mut set(&cache, "b"), 0..1, 2);
    let chunks = RowChunk::all(&cache).expect("works");
    assert_eq!(chunks.len(), 3);
    assert!(chunks.iter().all(|chunk| chunk.seconds == 0.5 && chunk.row_bytes == ROW as u64));
    let (name, used) = rows.chunks_of([3, 4, 9].map(key));
    let used: Vec<&RowChunk> =
        chunks.iter().filter(|chunk| chunk.set == name && used.contains(&chunk.keys)).collect();
    let [chunk] = used.as_slice() else { panic!("{used:?}") };
    assert_eq!(cache.size(&chunk.keys).expect("works").map(RowChunk::count), Some(2));
    RowChunk::forget(&cache, &[**chunk]).expect("works");
    let missing = set(&cache, "a").missing((0..5).map(key)).expect("works");
    assert_eq!(missing, [3, 4].map(key));
    RowChunk::name(&cache, &[**chunk]).expect("works");
    assert!(set(&cache, "a").missing((0..5).map(key)).expect("works").is_empty());

    let (place, value) = cache.entries("rows").next().expect("works").expect("works");
    cache.set("rows", &place, &value[..72]).expect("works");
    let old = RowChunk::all(&cache).expect("works");
    assert_eq!(old.iter().map(|chunk| chunk.seconds).sum::<f64>(), 1.0);
    assert!(set(&cache, "a").missing((0..5).map(key)).expect("works").is_empty());
}
