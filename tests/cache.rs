//! Looking after the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::util::{Dir, TINY};

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Flips one byte of an artifact: the file of the cache that holds it, found by some of its bytes.
fn damage(dir: &Dir, bytes: &[u8]) {
    let holds = |data: &[u8]| data.windows(bytes.len()).position(|window| window == bytes);
    let mut packs = files(&dir.path().join("experiments/.heddle/cache"));
    packs.retain(|path| holds(&fs::read(path).unwrap()).is_some());
    assert_eq!(packs.len(), 1, "{packs:?}");
    let mut data = fs::read(&packs[0]).unwrap();
    let at = holds(&data).unwrap();
    data[at] ^= 1;
    fs::write(&packs[0], data).unwrap();
}

#[test]
fn damage_is_found_and_made_good() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let digests = dir.digests();
    let home = ["--home", "experiments/.heddle"];
    let whole = dir.done(&[&["cache", "verify"][..], &home].concat());
    assert!(whole.stdout.starts_with("all ") && whole.stdout.contains("as they were written"), "{whole}");

    // The features are kept as a safetensors file, whose header names their one tensor.
    damage(&dir, b"{\"__metadata__\":{\"records\":");
    let found = dir.heddle(&[&["cache", "verify"][..], &home].concat());
    assert_eq!(found.code, Some(4), "{found}");
    assert!(found.stdout.contains("1 damaged and dropped"), "{found}");
    dir.done(&[&["cache", "verify"][..], &home].concat());

    let again = dir.done(&["run", TINY]);
    assert_eq!(dir.nodes_that("ran"), ["embed"], "{again}");
    assert!(again.stderr.contains("artifact gone from the cache: features"), "{again}");
    assert_eq!(dir.digests(), digests);
}

/// Damage that nobody looked for is a miss, never a wrong result.
#[test]
fn damage_is_no_wrong_result() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let digests = dir.digests();
    damage(&dir, b"{\"__metadata__\":{\"records\":");
    let arguments = ["run", TINY, "-S", "nodes.retrieval.splits=[\"test-id\"]"];
    let found = dir.done(&arguments);
    assert!(dir.nodes_that("ran").contains(&"embed".to_owned()), "{found}");
    dir.done(&["run", TINY]);
    assert_eq!(dir.digests(), digests);
}

#[test]
fn size_and_emptying() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    let home = ["--home", "experiments/.heddle"];
    let du = || dir.done(&[&["cache", "du", "--json"][..], &home].concat()).json();
    assert_eq!(du()["artifacts"], 2);
    assert!(du()["pack_bytes"].as_u64() >= du()["artifact_bytes"].as_u64());
    let cleared = dir.done(&[&["cache", "clear"][..], &home].concat());
    assert!(cleared.stdout.starts_with("removed 2 artifacts, "), "{cleared}");
    assert_eq!(du()["artifacts"], 0);
    assert_eq!(dir.heddle(&["plan", TINY, "bpe"]).code, Some(2));
    dir.done(&["run", TINY, "bpe"]);
    assert_eq!(dir.nodes_that("ran"), ["pairs", "bpe"]);
}

#[test]
fn no_cache_here() {
    let ended = Dir::empty().heddle(&["cache", "du"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.stderr);
}
