//! `cargo bench -p heddle --bench cache`: artifact bandwidth against plain sequential files, in one run.
//!
//! The same payloads are written to the cache and to one file each way with one sync at the end, then read back
//! from memory that the operating system still holds. Reading through the cache includes the BLAKE3 check of the
//! first read; the second read of a session does not have it.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{
    fs::File,
    io::{Read, Write},
    time::Instant,
};

use heddle_cache::{Cache, Holder, Wait};

const PAYLOADS: usize = 128;
const BYTES: usize = 1_600_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let payloads: Vec<Vec<u8>> = (0..PAYLOADS).map(noise).collect();
    let refs: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let holder = Holder { pid: std::process::id(), what: "bench".into(), since_unix: 0 };
    let cache = Cache::open(&dir.path().join("cache"), &holder, Wait::No).expect("an empty cache");

    let plain = dir.path().join("plain");
    let write_file = seconds(|| {
        let mut file = File::create(&plain).expect("a file");
        refs.iter().for_each(|payload| file.write_all(payload).expect("space on the disk"));
        file.sync_all().expect("a sync");
    });
    let mut digests = Vec::new();
    let write_cache = seconds(|| digests = cache.put_many(&refs).expect("space on the disk"));
    let read_file = seconds(|| {
        let mut bytes = Vec::new();
        File::open(&plain).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the file");
        assert_eq!(sum(&bytes), refs.iter().map(|payload| sum(payload)).sum::<u64>());
    });
    drop(cache);
    let cache = Cache::open(&dir.path().join("cache"), &holder, Wait::No).expect("the cache");
    let read = || {
        digests.iter().map(|digest| sum(&cache.get(digest).expect("no error").expect("a hit"))).sum::<u64>()
    };
    let read_first = seconds(|| assert_ne!(read(), 0));
    let read_again = seconds(|| assert_ne!(read(), 0));
    let rate = |seconds: f64| (PAYLOADS * BYTES) as f64 / seconds / 1e6;
    println!(
        "{PAYLOADS} payloads of {BYTES} bytes; plain file: write {:.0}, read {:.0} MB/s",
        rate(write_file),
        rate(read_file)
    );
    println!("cache write {:.0} MB/s: {:.2} of a plain file", rate(write_cache), write_file / write_cache);
    println!(
        "cache first read {:.0} MB/s (checked): {:.2} of a plain file",
        rate(read_first),
        read_file / read_first
    );
    println!("cache read again {:.0} MB/s: {:.2} of a plain file", rate(read_again), read_file / read_again);
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Touches every byte, so that lazily mapped pages count.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) >> 32)
        .sum()
}

/// Bytes that no filesystem can compress, another sequence for every seed.
fn noise(seed: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed as u64 + 1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BYTES / 8).flat_map(|_| next()).collect()
}
