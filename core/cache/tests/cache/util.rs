//! A cache in a temporary folder, and bytes to fill it with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use heddle_cache::{Cache, Holder, Wait};
use tempfile::TempDir;

pub fn holder(what: &str) -> Holder {
    Holder { pid: std::process::id(), what: what.to_owned(), since_unix: 1_700_000_000 }
}

pub fn open(dir: &Path) -> Cache {
    Cache::open(dir, &holder("test"), Wait::No).expect("the folder is free and writable")
}

pub fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `len` bytes that depend on `seed` alone and do not repeat (SplitMix64).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let words = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes());
    words.take(len).collect()
}

/// The files of a folder, in order.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Copies a folder with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("writable");
        }
    }
}
