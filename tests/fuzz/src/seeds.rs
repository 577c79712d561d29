//! Replays the committed seeds of a target without a fuzzer: what ordinary tests do.

use std::{fs, panic, path::Path};

/// Runs the body of a target on each of its seeds. Those called `valid-*` have to be accepted.
pub fn replay(target: &str, check: fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds").join(target);
    let mut valid = 0;
    for entry in fs::read_dir(&folder).expect("the seeds are committed") {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a seed can be read");
        let accepted =
            panic::catch_unwind(|| check(&bytes)).unwrap_or_else(|_| panic!("seed {target}/{name}"));
        assert!(accepted || !name.starts_with("valid-"), "seed {target}/{name} is no longer accepted");
        valid += usize::from(name.starts_with("valid-"));
    }
    assert!(valid > 0, "{target} has no seed that is accepted");
}
