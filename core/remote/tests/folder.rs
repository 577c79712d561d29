//! What a remote promises, in a folder: bytes change, processes race, and nobody reads anything wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use heddle_remote::{Digest, Fetched, Put, Remote, RemoteError};
use proptest::prelude::*;

fn open(folder: &Path) -> Remote {
    Remote::open(&format!("file://{}", folder.display()).parse().unwrap()).unwrap()
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn publish(remote: &Remote, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    remote.publish(&digest, bytes.to_vec().into()).unwrap();
    digest
}

fn fetch(remote: &Remote, digest: &Digest) -> (Fetched, Vec<u8>) {
    let mut bytes = Vec::new();
    (remote.fetch(digest, &mut bytes).unwrap(), bytes)
}

/// The file of an object.
fn file_of(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join("v1/objects").join(&name[..2]).join(name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn what_is_published_is_fetched(bytes: Vec<u8>, other: Vec<u8>) {
        let folder = temp();
        let digest = publish(&open(folder.path()), &bytes);
        let remote = open(folder.path());
        prop_assert!(remote.has(&digest).unwrap());
        prop_assert_eq!(fetch(&remote, &digest), (Fetched::Whole, bytes.clone()));
        let elsewhere = Digest::of(&other);
        let expected = if other == bytes { Fetched::Whole } else { Fetched::Absent };
        prop_assert_eq!(fetch(&remote, &elsewhere).0, expected);
        prop_assert_eq!(remote.has(&elsewhere).unwrap(), other == bytes);
    }

    #[test]
    fn damage_is_absence_and_is_mended(
        bytes in prop::collection::vec(any::<u8>(), 1..5000), at: prop::sample::Index, cut: bool,
    ) {
        let folder = temp();
        let digest = publish(&open(folder.path()), &bytes);
        let mut damaged = bytes.clone();
        match cut {
            true => damaged.truncate(at.index(bytes.len())),
            false => damaged[at.index(bytes.len())] ^= 0x10,
        }
        fs::write(file_of(folder.path(), &digest), &damaged).unwrap();
        let remote = open(folder.path());
        prop_assert!(remote.has(&digest).unwrap(), "nobody has looked yet");
        prop_assert_eq!(fetch(&remote, &digest).0, Fetched::Damaged);
        prop_assert!(!remote.has(&digest).unwrap());
        publish(&remote, &bytes);
        prop_assert!(remote.has(&digest).unwrap());
        prop_assert_eq!(fetch(&open(folder.path()), &digest), (Fetched::Whole, bytes));
    }

    #[test]
    fn values_are_listed_by_the_start_of_their_key(
        values in prop::collection::btree_map((0..3_u8, 0..9_u8), any::<Vec<u8>>(), 0..9), wanted in 0..3_u8,
    ) {
        let folder = temp();
        let remote = open(folder.path());
        let key = |(set, chunk): (u8, u8)| vec![Digest::of(&[set]), Digest::of(&[chunk])];
        for (name, value) in &values {
            remote.put_value("rows", &key(*name), value, Put::IfAbsent).unwrap();
        }
        let listed = remote.values_under("rows", &[Digest::of(&[wanted])]).unwrap();
        let listed: BTreeMap<_, _> = listed.into_iter().collect();
        let of_set = values.iter().filter(|((set, _), _)| *set == wanted);
        prop_assert_eq!(listed, of_set.map(|(name, value)| (key(*name), value.clone())).collect());
        for (name, value) in &values {
            let found = remote.value("rows", &key(*name)).unwrap();
            prop_assert_eq!(found.as_ref(), Some(value));
        }
    }
}

#[test]
fn the_first_one_stays() {
    let folder = temp();
    let (first, second) = (open(folder.path()), open(folder.path()));
    publish(&first, b"weights");
    publish(&second, b"weights");
    assert_eq!((first.traffic().published, second.traffic().published), (7, 0));
    let key = [Digest::of(b"key")];
    first.put_value("trace", &key, b"first", Put::IfAbsent).unwrap();
    second.put_value("trace", &key, b"second", Put::IfAbsent).unwrap();
    assert_eq!(second.value("trace", &key).unwrap().as_deref(), Some(b"first".as_slice()));
    second.put_value("trace", &key, b"third", Put::Replacing).unwrap();
    assert_eq!(first.value("trace", &key).unwrap().as_deref(), Some(b"third".as_slice()));
}

#[test]
fn a_damaged_value_is_replaced_by_the_next() {
    let folder = temp();
    let remote = open(folder.path());
    let key = [Digest::of(b"set"), Digest::of(b"keys")];
    remote.put_value("rows", &key, b"right", Put::IfAbsent).unwrap();
    let file = folder.path().join(format!("v1/values/rows/{}/{}", key[0], key[1]));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::write(file.with_file_name("readme.txt"), "not ours").unwrap();
    assert_eq!(remote.values_under("rows", &key[..1]).unwrap(), []);
    assert_eq!(remote.value("rows", &key).unwrap(), None);
    remote.put_value("rows", &key, b"right", Put::IfAbsent).unwrap();
    assert_eq!(open(folder.path()).value("rows", &key).unwrap().as_deref(), Some(b"right".as_slice()));
}

/// An upload that was killed has left a part under a name of its own.
#[test]
fn a_part_that_was_left_is_nobodys() {
    let folder = temp();
    let remote = open(folder.path());
    let digest = Digest::of(b"the whole of it");
    let file = file_of(folder.path(), &digest);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(format!("{}#1", file.display()), b"the who").unwrap();
    assert!(!remote.has(&digest).unwrap());
    assert_eq!(fetch(&remote, &digest).0, Fetched::Absent);
    publish(&remote, b"the whole of it");
    assert_eq!(fetch(&remote, &digest), (Fetched::Whole, b"the whole of it".to_vec()));
}

/// Longer than what is sent in one request.
#[test]
fn a_large_object_goes_in_parts() {
    let folder = temp();
    let bytes: Vec<u8> =
        (0..(65_u32 << 20) + 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = publish(&open(folder.path()), &bytes);
    let remote = open(folder.path());
    let (fetched, found) = fetch(&remote, &digest);
    assert!(fetched == Fetched::Whole && found == bytes);
    assert_eq!(remote.traffic().fetched, bytes.len() as u64);
}

#[test]
fn a_reader_sees_nothing_or_all_of_it() {
    let folder = temp();
    let objects: Vec<Vec<u8>> = (0..24_u8).map(|i| vec![i; 200_000]).collect();
    let digests: Vec<Digest> = objects.iter().map(|bytes| Digest::of(bytes)).collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let remote = open(folder.path());
                for bytes in &objects {
                    publish(&remote, bytes);
                }
            });
        }
        let remote = open(folder.path());
        for (digest, bytes) in digests.iter().zip(&objects) {
            loop {
                match fetch(&remote, digest) {
                    (Fetched::Absent, _) => thread::yield_now(),
                    found => break assert!(found == (Fetched::Whole, bytes.clone())),
                }
            }
        }
    });
}

#[test]
fn a_folder_that_is_not_there_is_said_so() {
    let folder = temp();
    let missing = folder.path().join("not/mounted");
    let address = format!("file://{}", missing.display()).parse().unwrap();
    assert!(matches!(Remote::open(&address), Err(RemoteError::NoFolder(path)) if path == missing));
    assert!(!missing.exists());
}

/// The scheduler's thread asks too.
#[test]
fn an_asynchronous_caller_may_wait() {
    let folder = temp();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let remote = open(folder.path());
        let digest = publish(&remote, b"weights");
        assert_eq!(fetch(&remote, &digest).0, Fetched::Whole);
    });
}
