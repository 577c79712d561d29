use std::{collections::BTreeMap, fs, io::Write};

use heddle_cache::{CacheError, Digest, Usage};
use proptest::{collection::vec, prelude::*};

use crate::util::{files, holder, noise, open, temp};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_payloads_come_back_before_and_after_a_reopen(payloads in vec(vec(any::<u8>(), 0..300), 0..12), cut in 0usize..12) {
        let dir = temp();
        let cache = open(dir.path());
        let (single, many) = payloads.split_at(cut.min(payloads.len()));
        let mut digests: Vec<Digest> = single.iter().map(|bytes| cache.put(bytes).expect("stored")).collect();
        let slices: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        digests.extend(cache.put_many(&slices).expect("stored"));
        let check = |cache: &heddle_cache::Cache| {
            for (digest, bytes) in digests.iter().zip(&payloads) {
                assert_eq!(*digest, Digest::of(bytes));
                assert!(cache.contains(digest).expect("readable"));
                let payload = cache.get(digest).expect("readable").expect("stored");
                assert_eq!(*payload, **bytes);
                assert_eq!(payload.as_ptr() as usize % 64, 0);
            }
        };
        check(&cache);
        drop(cache);
        check(&open(dir.path()));
    }

    #[test]
    fn values_are_a_sorted_map_per_space(steps in vec((0u8..2, vec(any::<u8>(), 0..3), proptest::option::of(vec(any::<u8>(), 0..40))), 0..40)) {
        let dir = temp();
        let cache = open(dir.path());
        let mut model = [BTreeMap::new(), BTreeMap::new()];
        let name = |space: u8| if space == 0 { "trace" } else { "latest" };
        for (space, key, value) in &steps {
            match value {
                Some(value) => {
                    cache.set(name(*space), key, value).expect("set");
                    model[*space as usize].insert(key.clone(), value.clone());
                }
                None => {
                    cache.remove(name(*space), key).expect("removed");
                    model[*space as usize].remove(key);
                }
            }
            prop_assert_eq!(&cache.value(name(*space), key).expect("readable"), value);
        }
        drop(cache);
        let cache = open(dir.path());
        for space in [0, 1] {
            let entries: BTreeMap<_, _> = cache.entries(name(space)).map(|row| row.expect("readable")).collect();
            prop_assert_eq!(&entries, &model[space as usize]);
        }
    }
}

#[test]
fn the_same_bytes_are_stored_once() {
    let dir = temp();
    let cache = open(dir.path());
    let bytes = noise(1, 10_000);
    cache.put(&bytes).expect("stored");
    let once = cache.usage().expect("readable");
    cache.put(&bytes).expect("stored");
    cache.put_many(&[&bytes, &bytes]).expect("stored");
    let mut writer = cache.writer().expect("a writer");
    writer.write_all(&bytes).expect("writable");
    writer.finish().expect("stored");
    assert_eq!(cache.usage().expect("readable").pack_bytes, once.pack_bytes);
    assert_eq!((once.payloads, once.payload_bytes), (1, 10_000));
}

#[test]
fn a_writer_stores_what_was_written_in_pieces() {
    let dir = temp();
    let cache = open(dir.path());
    for len in [0, 1, 1 << 20, (1 << 20) + 1, 5_000_003] {
        let bytes = noise(2, len);
        let mut writer = cache.writer().expect("a writer");
        bytes.chunks(70_001).for_each(|piece| writer.write_all(piece).expect("writable"));
        let digest = writer.finish().expect("stored");
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(*cache.get(&digest).expect("readable").expect("stored"), *bytes);
    }
    let mut dropped = cache.writer().expect("a writer");
    dropped.write_all(&noise(3, 3_000_000)).expect("writable");
    drop(dropped);
    assert!(files(&dir.path().join("v1/tmp")).is_empty());
    drop(cache);
    assert_eq!(open(dir.path()).usage().expect("readable").payloads, 5);
}

#[test]
fn payloads_outlive_growth_clearing_and_the_cache() {
    let dir = temp();
    let cache = open(dir.path());
    let digest = cache.put(b"held").expect("stored");
    let held = cache.get(&digest).expect("readable").expect("stored");
    cache.put(&noise(4, 3_000_000)).expect("stored");
    cache.set("trace", b"k", b"v").expect("set");
    let freed = cache.clear().expect("cleared");
    assert_eq!((freed.payloads, freed.values["trace"]), (2, 1));
    assert!(!cache.contains(&digest).expect("readable"));
    assert_eq!(cache.value("trace", b"k").expect("readable"), None);
    let empty = cache.usage().expect("readable");
    assert_eq!(empty, Usage { index_bytes: empty.index_bytes, ..Usage::default() });
    cache.put(b"new").expect("a cleared cache can be used");
    drop(cache);
    assert_eq!(*held, *b"held");
    let cache = open(dir.path());
    assert!(cache.contains(&Digest::of(b"new")).expect("readable"));
    assert_eq!(cache.usage().expect("readable").payloads, 1);
}

#[test]
fn what_a_killed_writer_left_in_tmp_is_removed() {
    let dir = temp();
    drop(open(dir.path()));
    let left = dir.path().join("v1/tmp/0.payload");
    fs::write(&left, "half").expect("writable");
    drop(open(dir.path()));
    assert!(!left.exists());
}

#[test]
fn an_impossible_folder_is_named_with_advice() {
    let dir = temp();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writable");
    let error = heddle_cache::Cache::open(&file.join("cache"), &holder("test"), heddle_cache::Wait::No);
    let error = error.expect_err("a file is no folder");
    assert!(matches!(error, CacheError::Io { .. }));
    let text = error.to_string();
    assert!(text.contains("file/cache") && text.contains("name another folder with `--home`"), "{text}");
}
