//! Times that cannot be: on files, in records, on a clock that jumps.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value as Json;

use crate::util::{Dir, TINY, files};

const DAY: Duration = Duration::from_secs(86_400);

/// Long before and long after everything that this program will see.
fn impossible() -> [SystemTime; 3] {
    [UNIX_EPOCH - 3_000 * DAY, UNIX_EPOCH, UNIX_EPOCH + 80_000 * DAY]
}

fn touch(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A table that is another one each time and always as long.
fn with_table() -> Dir {
    let dir = Dir::empty();
    dir.write("x.toml", "schema = 1\n[nodes.s]\nkind = \"data.table\"\nfile = \"a.csv\"\nfolder = \"images\"\npath = \"path\"\n");
    dir.write("images/a.png", b"x");
    dir
}

/// The digest of what the only node gave.
fn outcome(dir: &Dir) -> String {
    let arguments = ["run", "x.toml", "-q"];
    dir.done(&arguments);
    dir.digests()[0].1.clone()
}

/// Content counts, whatever the times of a file say: before 1970, in the future, the same as of other content.
#[test]
fn a_changed_file_is_read_again_whatever_its_time() {
    let dir = with_table();
    let write = |caption: &str, time: SystemTime| {
        dir.write("a.csv", format!("path,caption\na.png,{caption}\n"));
        touch(&dir.path().join("a.csv"), time);
    };
    for time in impossible() {
        write("one", time);
        let first = outcome(&dir);
        write("two", time);
        if cfg!(unix) {
            assert_ne!(outcome(&dir), first, "{time:?}");
        }
        write("two", time + Duration::from_millis(7));
        let second = outcome(&dir);
        assert_ne!(second, first, "{time:?}");
        write("one", time - Duration::from_secs(1));
        assert_eq!(outcome(&dir), first, "{time:?}");
    }
}

/// Nothing goes or is made anew because of its age.
#[test]
fn times_of_the_files_of_a_home_do_not_count() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "-q"]);
    let digests = dir.digests();
    for time in impossible() {
        files(&dir.path().join("experiments/.heddle")).iter().for_each(|file| touch(file, time));
        let swept = dir.done(&["cache", "gc", "--json"]).json();
        assert_eq!((&swept["artifacts"], &swept["garbage"]["payloads"]), (&0.into(), &0.into()), "{swept}");
        let again = dir.done(&["run", TINY]);
        assert!(again.stderr.contains("nothing to do"), "{again}");
        assert_eq!(dir.digests(), digests);
    }
}

/// Records of a clock that stood wrong are read and shown, and the newest run stays the one that was made last.
#[test]
fn records_from_the_future_are_records() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe", "-q"]);
    let digests = dir.digests();
    let runs = dir.path().join("experiments/.heddle/runs");
    let first = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(first.join("record.json")).unwrap();
    let moved = "29991231-235959-0000";
    for (started, seconds) in [(u64::MAX, 1e300), (0, -5.0), (32_503_680_000, 0.0)] {
        let mut record: Json = serde_json::from_str(&text).unwrap();
        record["id"] = moved.into();
        record["started_unix"] = started.into();
        record["seconds"] = seconds.into();
        record["nodes"][0]["seconds"] = seconds.into();
        // As an earlier build wrote it.
        record.as_object_mut().unwrap().remove("seal");
        dir.write(&format!("experiments/.heddle/runs/{moved}/record.json"), record.to_string());
        for looks in [&["runs", "ls"][..], &["runs", "ls", "--csv"], &["runs", "show"], &["replay", "last"]] {
            let seen = dir.done(looks);
            assert!(!seen.stderr.contains("WARN"), "{seen}");
        }
        assert_eq!(dir.last_run()["id"], moved);
    }
    dir.done(&["run", TINY, "bpe", "floor", "-q"]);
    let last = dir.last_run();
    assert_ne!(last["id"], moved);
    assert_eq!(last["asked"], serde_json::json!(["bpe", "floor"]), "the newest run is the last");
    assert!(last["started_unix"].as_u64() < Some(32_503_680_000), "its own time is the clock's");
    dir.done(&["diff", moved, "last", "--json"]);
    dir.done(&["run", TINY, "bpe", "-q"]);
    assert_eq!(dir.digests(), digests);
}
