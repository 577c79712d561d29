use std::{
    fs,
    path::{Path, PathBuf},
};

use heddle_cache::{Cache, Defect, Digest};
use proptest::prelude::*;

use crate::util::{copy_dir, files, noise, open, temp};

const PAYLOADS: u64 = 6;

fn payload(i: u64) -> Vec<u8> {
    noise(i, (i as usize * 37) % 200)
}

/// A closed cache with some payloads and values.
fn filled(dir: &Path) {
    let cache = open(dir);
    for i in 0..PAYLOADS {
        cache.put(&payload(i)).expect("stored");
        cache.set("trace", &i.to_le_bytes(), &payload(i)).expect("set");
    }
}

fn first_pack(dir: &Path) -> PathBuf {
    dir.join("v1/packs/000000.pack")
}

/// Every payload and value is right or absent; gives how many payloads are there. Then all can be stored again.
fn check(dir: &Path) -> u64 {
    let cache = open(dir);
    let mut there = 0;
    for i in 0..PAYLOADS {
        let bytes = payload(i);
        if let Some(payload) = cache.get(&Digest::of(&bytes)).expect("damage is no error") {
            assert_eq!(*payload, *bytes);
            there += 1;
        }
        let value = cache.value("trace", &i.to_le_bytes()).expect("damage is no error");
        assert!(value.is_none_or(|value| value == bytes));
    }
    refill(&cache);
    drop(cache);
    let cache = open(dir);
    assert!((0..PAYLOADS).all(|i| is_there(&cache, i)));
    assert!(cache.verify(&mut |_, _| ()).expect("readable").is_empty());
    there
}

fn is_there(cache: &Cache, i: u64) -> bool {
    cache.get(&Digest::of(&payload(i))).expect("readable").is_some_and(|bytes| *bytes == *payload(i))
}

fn refill(cache: &Cache) {
    for i in 0..PAYLOADS {
        cache.put(&payload(i)).expect("stored");
    }
    assert!((0..PAYLOADS).all(|i| is_there(cache, i)));
}

#[test]
fn a_pack_cut_anywhere_loses_only_its_end() {
    let whole = temp();
    filled(whole.path());
    let len = first_pack(whole.path()).metadata().expect("a pack").len();
    for cut in (0..len).step_by(32).chain([1, 63, 65, len - 1]) {
        for index_too in [false, true] {
            let dir = temp();
            copy_dir(whole.path(), dir.path());
            let pack = fs::OpenOptions::new().write(true).open(first_pack(dir.path())).expect("a pack");
            pack.set_len(cut).expect("writable");
            if index_too {
                fs::remove_dir_all(dir.path().join("v1/index")).expect("removable");
            }
            let there = check(dir.path());
            assert!(there > 0 || cut < 256, "cut at {cut} lost everything");
        }
    }
}

#[test]
fn an_unindexed_tail_is_indexed_and_its_torn_end_dropped() {
    let dir = temp();
    filled(dir.path());
    let before = temp();
    copy_dir(&dir.path().join("v1/index"), &before.path().join("index"));
    let cache = open(dir.path());
    let whole = cache.put(b"synced, but the index was not").expect("stored");
    drop(cache);
    // The index as it was before that put, and half an entry behind it.
    fs::remove_dir_all(dir.path().join("v1/index")).expect("removable");
    copy_dir(&before.path().join("index"), &dir.path().join("v1/index"));
    let mut bytes = fs::read(first_pack(dir.path())).expect("a pack");
    let len = bytes.len();
    bytes.extend_from_within(128..210);
    fs::write(first_pack(dir.path()), bytes).expect("writable");
    let cache = open(dir.path());
    assert_eq!(
        *cache.get(&whole).expect("readable").expect("found again"),
        *b"synced, but the index was not"
    );
    assert_eq!(first_pack(dir.path()).metadata().expect("a pack").len(), len as u64);
    drop(cache);
    assert_eq!(check(dir.path()), PAYLOADS);
}

#[test]
fn verify_names_what_is_damaged_and_drops_it() {
    let dir = temp();
    filled(dir.path());
    let cache = open(dir.path());
    let digest = Digest::of(&payload(5));
    assert!(is_there(&cache, 5), "proven in this process");
    let mut bytes = fs::read(first_pack(dir.path())).expect("a pack");
    let at = bytes.windows(185).position(|window| window == payload(5)).expect("stored there");
    bytes[at + 100] ^= 4;
    fs::write(first_pack(dir.path()), bytes).expect("writable");
    let mut last = (0, 0);
    let damages = cache.verify(&mut |done, total| last = (done, total)).expect("readable");
    assert_eq!(last, (555, 555));
    let [damage] = damages.as_slice() else { panic!("{damages:?}") };
    assert_eq!((damage.offset, damage.digest, damage.what), (at as u64, digest, Defect::Changed));
    assert!(damage.to_string().contains("000000.pack, byte"));
    assert!(!cache.contains(&digest).expect("readable"));
    assert!(cache.get(&digest).expect("readable").is_none());
    refill(&cache);
}

#[test]
fn a_missing_pack_is_a_miss() {
    let dir = temp();
    filled(dir.path());
    fs::remove_file(first_pack(dir.path())).expect("removable");
    assert!(!open(dir.path()).contains(&Digest::of(&payload(1))).expect("readable"));
    assert_eq!(check(dir.path()), 0);
}

#[test]
fn foreign_files_are_left_alone() {
    let dir = temp();
    filled(dir.path());
    let packs = dir.path().join("v1/packs");
    let foreign = [("000007.pack", noise(1, 1000)), ("7.pack", noise(2, 10)), ("notes.txt", noise(3, 10))];
    for (name, bytes) in &foreign {
        fs::write(packs.join(name), bytes).expect("writable");
    }
    assert_eq!(check(dir.path()), PAYLOADS);
    open(dir.path()).put(b"more").expect("stored");
    for (name, bytes) in &foreign {
        assert_eq!(fs::read(packs.join(name)).expect("still there"), *bytes, "{name}");
    }
}

#[test]
fn a_lost_index_is_rebuilt_from_the_packs() {
    let noisy: fn(&Path) = |index| {
        for file in files(index) {
            fs::write(file, noise(7, 5000)).expect("writable");
        }
    };
    let removed: fn(&Path) = |index| fs::remove_dir_all(index).expect("removable");
    let a_file: fn(&Path) = |index| {
        fs::remove_dir_all(index).expect("removable");
        fs::write(index, "not a folder").expect("writable");
    };
    let marked: fn(&Path) = |index| fs::write(index.with_extension("suspect"), "why").expect("writable");
    for damage in [noisy, removed, a_file, marked] {
        let dir = temp();
        filled(dir.path());
        damage(&dir.path().join("v1/index"));
        assert_eq!(check(dir.path()), PAYLOADS);
        assert!(!dir.path().join("v1/index.suspect").exists());
    }
}

#[test]
fn a_lost_snapshot_costs_nothing() {
    let dir = temp();
    filled(dir.path());
    for file in files(&dir.path().join("v1/index")) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap.")) {
            fs::write(file, noise(1, 40)).expect("writable");
        }
    }
    let cache = open(dir.path());
    for i in 0..PAYLOADS {
        assert!(is_there(&cache, i));
        assert_eq!(cache.value("trace", &i.to_le_bytes()).expect("readable"), Some(payload(i)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_in_a_pack_never_give_wrong_bytes(flips in proptest::collection::vec(any::<(u16, u8)>(), 1..8), reopen: bool) {
        let dir = temp();
        filled(dir.path());
        let pack = first_pack(dir.path());
        let mut bytes = fs::read(&pack).expect("a pack");
        for (at, bit) in &flips {
            let at = usize::from(*at) % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        fs::write(&pack, bytes).expect("writable");
        if reopen {
            fs::remove_dir_all(dir.path().join("v1/index")).expect("removable");
        }
        check(dir.path());
    }

    #[test]
    fn flipped_bits_in_the_index_never_give_wrong_bytes(flips in proptest::collection::vec(any::<(u8, u32, u8)>(), 1..6)) {
        let dir = temp();
        filled(dir.path());
        let files = files(&dir.path().join("v1/index"));
        for (file, at, bit) in &flips {
            let file = &files[usize::from(*file) % files.len()];
            let mut bytes = fs::read(file).expect("readable");
            // The end of sled's log is empty, so most flips go to its start.
            let span = if at % 3 == 0 { bytes.len() } else { bytes.len().min(6000) };
            if span > 0 {
                bytes[*at as usize % span] ^= 1 << (bit % 8);
                fs::write(file, bytes).expect("writable");
            }
        }
        check(dir.path());
    }
}
