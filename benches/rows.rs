//! `cargo bench -p heddle --bench rows`: kept rows against plain sequential files, and a million of them in the index, in one run.
//!
//! Rows are those of a small tower (17 tokens of 96 values). They are written in chunks with one sync each, as the file is, and
//! read in the order of writing from memory that the operating system still holds. The first read of a session checks digests.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{
    fs::File,
    io::{Read, Write},
    time::Instant,
};

use heddle_cache::{Cache, Digest, Holder, RowSet, Wait};

const ROW: usize = 17 * 96 * 4;
const ROWS: usize = 40_000;
/// Rows a chunk: 8 MiB.
const CHUNK: usize = (8 << 20) / ROW;
const MILLION: u64 = 1_000_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    bandwidth(dir.path());
    index(dir.path());
}

fn open(dir: &std::path::Path) -> Cache {
    let holder = Holder { pid: std::process::id(), what: "bench".into(), since_unix: 0 };
    Cache::open(&dir.join("cache"), &holder, Wait::Yes).expect("a cache")
}

fn bandwidth(dir: &std::path::Path) {
    let data = noise(ROW * ROWS);
    let keys: Vec<Digest> = (0..ROWS as u64).map(|row| Digest::of(&row.to_le_bytes())).collect();
    let set = Digest::of(b"tokens");
    let plain = dir.join("plain");
    let write_file = seconds(|| {
        let mut file = File::create(&plain).expect("a file");
        for chunk in data.chunks(CHUNK * ROW) {
            file.write_all(chunk).and_then(|()| file.sync_data()).expect("space on the disk");
        }
    });
    let cache = open(dir);
    let write_rows = seconds(|| {
        let mut rows = RowSet::open(&cache, set, ROW).expect("a cache");
        for (keys, chunk) in keys.chunks(CHUNK).zip(data.chunks(CHUNK * ROW)) {
            rows.insert(keys, chunk, 0.0).expect("space on the disk");
        }
        rows.sync().expect("space on the disk");
    });
    drop(cache);
    let read_file = seconds(|| {
        let mut bytes = Vec::new();
        File::open(&plain).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the file");
        assert_ne!(sum(&bytes), 0);
    });
    let cache = open(dir);
    let rows = RowSet::open(&cache, set, ROW).expect("the rows");
    let read = || {
        keys.iter()
            .map(|key| sum(&rows.get(key).expect("no error").expect("a row")))
            .fold(0, u64::wrapping_add)
    };
    let first = seconds(|| assert_ne!(read(), 0));
    let again = seconds(|| assert_ne!(read(), 0));
    let rate = |seconds: f64| (ROW * ROWS) as f64 / seconds / 1e6;
    println!(
        "{ROWS} rows of {ROW} bytes; plain file: write {:.0}, read {:.0} MB/s",
        rate(write_file),
        rate(read_file)
    );
    println!("rows written {:.0} MB/s: {:.2} of the file", rate(write_rows), write_file / write_rows);
    println!("rows read first {:.0} MB/s (checked): {:.2} of the file", rate(first), read_file / first);
    println!("rows read again {:.0} MB/s: {:.2} of the file", rate(again), read_file / again);
}

/// A million rows of 64 bytes in chunks of 4,096.
fn index(dir: &std::path::Path) {
    let set = Digest::of(b"a million");
    let key = |row: u64| Digest::of(&row.to_le_bytes());
    let cache = open(dir);
    let mut rows = RowSet::open(&cache, set, 64).expect("a cache");
    let numbers: Vec<u64> = (0..MILLION).collect();
    for chunk in numbers.chunks(4096) {
        let keys: Vec<Digest> = chunk.iter().copied().map(key).collect();
        rows.insert(&keys, &vec![1; 64 * keys.len()], 0.0).expect("space on the disk");
    }
    drop(rows);
    drop(cache);
    let before = resident();
    let mut opened = None;
    let open_cache = seconds(|| opened = Some(open(dir)));
    let cache = opened.expect("just opened");
    let mut rows = None;
    let open_rows = seconds(|| rows = Some(RowSet::open(&cache, set, 64).expect("the rows")));
    let rows = rows.expect("just opened");
    let grown = resident().saturating_sub(before);
    let keys: Vec<Digest> = (0..MILLION).step_by(3).map(key).collect();
    let found = seconds(|| assert!(keys.iter().all(|key| rows.contains(key))));
    let absent: Vec<Digest> = (MILLION..MILLION + 300_000).map(key).collect();
    let missed = seconds(|| assert!(!absent.iter().any(|key| rows.contains(key))));
    println!(
        "a million rows: cache opened in {:.0} ms, rows in {:.0} ms, resident memory grown by {:.0} MB (mapped keys among it)",
        open_cache * 1e3,
        open_rows * 1e3,
        grown as f64 / 1e6
    );
    println!(
        "{:.1} million lookups/s that find, {:.1} that do not",
        keys.len() as f64 / found / 1e6,
        absent.len() as f64 / missed / 1e6
    );
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    4096 * pages
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Touches every byte, so that lazily mapped pages count.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word) >> 32);
    words.fold(0, u64::wrapping_add)
}

/// Bytes that no filesystem can compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}
