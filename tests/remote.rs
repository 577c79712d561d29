//! The cache that machines share: two homes and a folder between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use heddle_graph::digest::Digest;
use serde_json::Value as Json;

use crate::util::{Dir, Ended, TINY, finish, program, repository, wait_until};

const SHARED: &str = "shared";

/// The tiny experiment, and an empty folder to share.
fn tiny() -> Dir {
    let dir = Dir::tiny();
    fs::create_dir(dir.path().join(SHARED)).unwrap();
    dir
}

fn url(dir: &Dir) -> String {
    format!("file://{}", dir.path().join(SHARED).display())
}

/// `heddle VERB experiments/tiny.toml --home HOME --remote URL ...`.
fn with_remote(dir: &Dir, verb: &str, home: &str, more: &[&str]) -> Ended {
    dir.heddle(&[&[verb, TINY, "--home", home, "--remote", &url(dir)], more].concat())
}

/// The same, which has to end well.
fn done(dir: &Dir, verb: &str, home: &str, more: &[&str]) -> Ended {
    let ended = with_remote(dir, verb, home, more);
    assert_eq!(ended.code, Some(0), "{verb} in {home}: {ended}");
    ended
}

/// The record of the last run of a home.
fn record(dir: &Dir, home: &str) -> Json {
    dir.done(&["runs", "show", "--json", "--home", home]).json()
}

/// How each node of the last run of a home ended: `ran`, `hit`, or `remote`.
fn states(dir: &Dir, home: &str) -> BTreeMap<String, String> {
    let record = record(dir, home);
    let nodes = record["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| {
            let state = if node["remote"] == true { "remote" } else { node["state"].as_str().unwrap() };
            (node["name"].as_str().unwrap().to_owned(), state.to_owned())
        })
        .collect()
}

/// Whether all nodes ended so.
fn all(dir: &Dir, home: &str, state: &str) -> bool {
    states(dir, home).values().all(|found| found == state)
}

/// The digests of all artifacts of the last run of a home.
fn digests(dir: &Dir, home: &str) -> Vec<(String, String, String)> {
    let record = record(dir, home);
    let mut digests = Vec::new();
    for node in record["nodes"].as_array().unwrap() {
        for (port, artifact) in node["outputs"].as_object().unwrap() {
            let digest = artifact["digest"].as_str().unwrap().to_owned();
            digests.push((node["name"].as_str().unwrap().to_owned(), port.clone(), digest));
        }
    }
    assert!(!digests.is_empty());
    digests
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The files of a part of the shared folder, with what is in them.
fn files(dir: &Dir, part: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = walk(&dir.path().join(SHARED).join(part));
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Objects by name; a name with `#` is of an upload that was killed.
fn objects(dir: &Dir) -> BTreeMap<String, Vec<u8>> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let all = files(dir, "v1/objects").into_iter().map(|(path, bytes)| (name(path), bytes));
    all.filter(|(name, _)| !name.contains('#')).collect()
}

fn assert_whole(dir: &Dir) {
    for (name, bytes) in objects(dir) {
        assert_eq!(Digest::of(&bytes).to_string(), name, "an object is not what its name says");
    }
}

#[test]
fn a_second_home_has_what_the_first_made() {
    let dir = tiny();
    let first = done(&dir, "run", "a", &[]);
    assert!(first.stderr.contains(&format!("remote {}: fetched 0 B, published ", url(&dir))), "{first}");
    let published: usize = files(&dir, "v1").values().map(Vec::len).sum();
    assert_eq!(record(&dir, "a")["remote"]["published_bytes"], published);
    assert_whole(&dir);

    // Planning brings nothing here.
    let plan = done(&dir, "plan", "b", &[]);
    assert_eq!(plan.stdout.matches("hit (remote)  ").count(), 9, "{plan}");
    assert!(!dir.path().join("b").exists());
    let nodes = done(&dir, "plan", "b", &["--json"]).json()["nodes"].as_array().unwrap().clone();
    assert!(nodes.iter().all(|node| node["remote"] == true && node["action"] == "hit"), "{nodes:?}");

    let second = done(&dir, "run", "b", &[]);
    assert!(
        second.stderr.contains("hit   stage1 (remote)") && second.stderr.contains("nothing to do"),
        "{second}"
    );
    assert!(all(&dir, "b", "remote"));
    assert_eq!(digests(&dir, "b"), digests(&dir, "a"));
    // Every object once, although several nodes read it.
    let bytes = |files: BTreeMap<PathBuf, Vec<u8>>| files.values().map(|file| file.len() as u64).sum::<u64>();
    let (objects, values) = (bytes(files(&dir, "v1/objects")), bytes(files(&dir, "v1/values")));
    let remote = record(&dir, "b")["remote"].clone();
    let fetched = remote["fetched_bytes"].as_u64().unwrap();
    assert!((objects..objects + 3 * values).contains(&fetched), "{fetched} of {objects} and {values}");
    assert_eq!(remote["published_bytes"], 0);

    // From now on it is here.
    let plan = dir.done(&["plan", TINY, "--home", "b"]);
    assert!(plan.stdout.contains("9 of 9 nodes in the cache") && !plan.stdout.contains("remote"), "{plan}");
    dir.done(&["cache", "verify", "--home", "b"]);
}

#[test]
fn what_only_another_change_needs_is_shared_too() {
    let dir = tiny();
    done(&dir, "run", "a", &[]);
    let change = ["-S", "nodes.retrieval.splits=[\"test-id\"]"];
    done(&dir, "run", "b", &change);
    let ran: Vec<String> =
        states(&dir, "b").into_iter().filter(|(_, state)| state == "ran").map(|(name, _)| name).collect();
    // The table is the same, so that the report is found.
    assert_eq!(ran, ["retrieval"]);
    done(&dir, "run", "a", &change);
    assert_eq!(states(&dir, "a")["retrieval"], "remote");
    assert_eq!(digests(&dir, "a"), digests(&dir, "b"));
}

#[test]
fn the_environment_and_the_experiment_name_a_remote() {
    let dir = tiny();
    let run = |home: &str, name: &str, value: &str| {
        let mut command = program(dir.path(), &["run", TINY, "bpe", "--home", home]);
        command.env(name, value).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        finish(command.spawn().unwrap())
    };
    assert_eq!(run("a", "HEDDLE_REMOTE", &url(&dir)).code, Some(0));
    assert_eq!(objects(&dir).len(), 2);
    dir.write(TINY, format!("{}\n[cache]\nremote = \"{}\"\n", dir.read(TINY), url(&dir)));
    assert_eq!(run("b", "HEDDLE_CACHE", "remote:none").code, Some(0));
    assert!(["pairs", "bpe"].iter().all(|node| states(&dir, "b")[*node] == "ran"));
    assert_eq!(run("c", "HEDDLE_CACHE", "remote:r").code, Some(0));
    assert!(["pairs", "bpe"].iter().all(|node| states(&dir, "c")[*node] == "remote"));
    // The remote is in no key.
    dir.done(&["plan", TINY, "bpe", "--home", "a", "--cache", "remote:none"]);
    // A variant has no remote of its own.
    let text = dir.read(TINY) + "\n[ablations.other]\n\"cache.remote\" = \"file:///other\"\n";
    dir.write(TINY, text);
    for verb in ["run", "plan"] {
        let other = dir.heddle(&[verb, TINY, "--ablation", "other", "--home", "c"]);
        assert!(other.code == Some(1) && other.stderr.contains("changes `cache.remote`"), "{other}");
    }
}

/// Rows of a frozen tower that another home computed, in a stage of which only the rows are shared.
#[test]
fn rows_are_shared() {
    let dir = Dir::empty();
    fs::create_dir(dir.path().join(SHARED)).unwrap();
    let text = fs::read_to_string(repository().join("tests/experiments/frozen.toml")).unwrap();
    dir.write("frozen.toml", text.replace("../../graphs", repository().join("graphs").to_str().unwrap()));
    let run = |home: &str, more: &[&str]| {
        let target = ["run", "frozen.toml", "stage2", "-q", "--home", home, "--remote", &url(&dir)];
        dir.done(&[&target[..], more].concat())
    };
    let rows = |home: &str| {
        let record = record(&dir, home);
        let nodes = record["nodes"].as_array().unwrap();
        let stage = nodes.iter().find(|node| node["name"] == "stage2").unwrap();
        let count = &stage["rows"]["vit.hidden.2"];
        (count["hit"].as_u64().unwrap(), count["new"].as_u64().unwrap())
    };
    let other = ["-S", "nodes.stage2.optimizer.lr=0.002"];
    run("a", &[]);
    let (hit, new) = rows("a");
    assert!(hit == 0 && new > 0);
    assert!(!files(&dir, "v1/values/rows").is_empty());
    run("b", &other);
    assert_eq!(rows("b"), (new, 0));
    // A value from the remote is the computed one, bit for bit.
    let alone = ["--cache", "remote:none"];
    run("c", &[&other[..], &alone].concat());
    let expected = digests(&dir, "b");
    assert_eq!((rows("c").0, digests(&dir, "c")), (0, expected.clone()));
    // They are in the local cache from now on.
    run("b", &["-S", "nodes.stage2.optimizer.lr=0.003", "--cache", "remote:none", "--paranoid"]);
    assert_eq!(rows("b"), (new, 0));
    // A cache that is only read has them too.
    run("b", &["-S", "nodes.stage2.optimizer.lr=0.004", "--cache", "local:r,remote:none"]);
    assert_eq!(rows("b"), (new, 0));

    // Damaged ones are computed again.
    for (path, mut bytes) in files(&dir, "v1/objects") {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let damaged = run("d", &other);
    assert!(damaged.stderr.contains("is damaged and counts as absent"), "{damaged}");
    assert_eq!((rows("d"), digests(&dir, "d")), ((0, new), expected));
}

/// Whatever happens to the files of a remote, a run ends in the same bits, and mends the remote if it may.
#[test]
fn damage_is_a_miss_and_is_mended() {
    let dir = tiny();
    done(&dir, "run", "a", &[]);
    let expected = digests(&dir, "a");
    let whole = files(&dir, "v1");
    type Damage = fn(&mut Vec<u8>);
    fn flip(bytes: &mut [u8]) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    let damages: [(&str, &str, Damage); 5] = [
        ("objects flipped", "v1/objects", |bytes| flip(bytes)),
        ("objects cut", "v1/objects", |bytes| bytes.truncate(bytes.len() / 2)),
        ("objects emptied", "v1/objects", Vec::clear),
        ("values flipped", "v1/values", |bytes| flip(bytes)),
        ("values cut", "v1/values", |bytes| bytes.truncate(40)),
    ];
    for (place, (what, part, damage)) in damages.into_iter().enumerate() {
        for (path, mut bytes) in files(&dir, part) {
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        let home = format!("b{place}");
        let damaged = done(&dir, "run", &home, &[]);
        assert!(damaged.stderr.contains("is damaged and counts as absent"), "{what}: {damaged}");
        assert!(all(&dir, &home, "ran"), "{what}: {:?}", states(&dir, &home));
        assert_eq!(digests(&dir, &home), expected, "{what}");
        assert_whole(&dir);
        let home = format!("c{place}");
        let mended = done(&dir, "run", &home, &[]);
        assert!(all(&dir, &home, "remote"), "{what}: {mended}");
    }
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&files(&dir, "v1")), names(&whole));
}

/// A trace whose artifacts cannot be had is a miss, also where one of several is gone.
#[test]
fn a_trace_counts_with_all_its_artifacts() {
    let dir = tiny();
    done(&dir, "run", "a", &[]);
    let digest = digests(&dir, "a").into_iter().find(|(node, ..)| node == "stage1").unwrap().2;
    fs::remove_file(dir.path().join(format!("{SHARED}/v1/objects/{}/{digest}", &digest[..2]))).unwrap();
    let plan = with_remote(&dir, "plan", "b", &[]);
    assert!(plan.code == Some(2) && plan.stdout.contains("artifact gone from the cache"), "{plan}");
    done(&dir, "run", "b", &[]);
    assert_eq!(states(&dir, "b")["stage1"], "ran");
    assert_eq!(digests(&dir, "b"), digests(&dir, "a"));
    // It is there again.
    done(&dir, "plan", "c", &[]);
    // And the remote has what a cache has lost.
    dir.done(&["cache", "gc", "--max-size=0", "--home", "a"]);
    done(&dir, "run", "a", &[]);
    assert!(all(&dir, "a", "remote"));
}

#[test]
fn a_remote_that_is_only_read_is_not_written() {
    let dir = tiny();
    done(&dir, "run", "a", &["--cache", "local:rw,remote:r"]);
    assert!(all(&dir, "a", "ran"));
    assert_eq!(fs::read_dir(dir.path().join(SHARED)).unwrap().count(), 0);
    // What is in the local cache already is published by the next run that may.
    done(&dir, "run", "a", &[]);
    assert!(all(&dir, "a", "hit"));
    let before = files(&dir, "");
    assert!(before.len() > 9);
    done(&dir, "run", "b", &["--cache", "remote:r", "-S", "seed=4"]);
    done(&dir, "run", "b", &["--cache", "remote:r"]);
    assert_eq!(states(&dir, "b")["stage1"], "remote");
    done(&dir, "run", "c", &["--cache", "remote:none"]);
    assert!(all(&dir, "c", "ran"));
    assert!(files(&dir, "") == before);
}

#[test]
fn a_local_cache_that_is_only_read_keeps_nothing() {
    let dir = tiny();
    let read_only = ["--cache", "local:r,remote:none"];
    done(&dir, "run", "a", &read_only);
    assert!(all(&dir, "a", "ran"));
    assert!(!dir.path().join("a/cache").exists());
    let left: u64 =
        walk(&dir.path().join("a/scratch/v1/packs")).iter().map(|pack| pack.metadata().unwrap().len()).sum();
    assert!(left <= 64, "{left} bytes are left of what the command made");

    dir.done(&["run", TINY, "bpe", "--home", "a"]);
    let du = || dir.done(&["cache", "du", "--json", "--home", "a"]).json()["artifacts"].clone();
    let before = du();
    done(&dir, "run", "a", &read_only);
    let states = states(&dir, "a");
    assert_eq!((&*states["bpe"], &*states["stage1"]), ("hit", "ran"));
    assert_eq!(du(), before);
    // What it makes can be shared all the same.
    done(&dir, "run", "a", &["--cache", "local:r"]);
    assert_eq!(du(), before);
    done(&dir, "run", "b", &[]);
    assert!(all(&dir, "b", "remote"));
    assert_eq!(digests(&dir, "b"), digests(&dir, "a"));
}

/// The run goes on with the local cache, and says why.
#[test]
fn a_remote_that_cannot_be_reached_is_a_warning() {
    let dir = tiny();
    let run = |home: &str, remote: &str| {
        dir.done(&[
            "run",
            TINY,
            "bpe",
            "--home",
            home,
            "--remote",
            &format!("file://{}/{remote}", dir.path().display()),
        ])
    };
    let missing = run("a", "not/mounted");
    assert!(missing.stderr.contains("is not used: there is no folder"), "{missing}");
    assert!(!dir.path().join("not").exists());
    // A file where a folder has to be: every request fails, and one warning is enough.
    dir.write("shared/v1", "in the way");
    let broken = run("b", SHARED);
    assert_eq!(broken.stderr.matches("for now: ").count(), 2, "reading and writing: {broken}");
    for home in ["a", "b"] {
        assert!(["pairs", "bpe"].iter().all(|node| states(&dir, home)[*node] == "ran"));
    }
    let plan = with_remote(&dir, "plan", "c", &["bpe"]);
    assert!(plan.code == Some(2) && plan.stderr.contains("is not read for now"), "{plan}");
}

/// Ctrl-C does not wait for what a remote does not give.
#[test]
#[cfg(unix)]
fn fetching_can_be_interrupted() {
    let dir = tiny();
    done(&dir, "run", "a", &["bpe"]);
    let object = |wanted: &str| {
        let all = digests(&dir, "a");
        let digest = &all.iter().find(|(node, ..)| node == wanted).unwrap().2;
        dir.path().join(SHARED).join("v1/objects").join(&digest[..2]).join(digest)
    };
    // The first node runs; then the second's key is known, and who opens a pipe waits until somebody writes.
    fs::remove_file(object("pairs")).unwrap();
    let waiting = object("bpe");
    fs::remove_file(&waiting).unwrap();
    assert!(Command::new("mkfifo").arg(&waiting).status().unwrap().success());
    let mut child = dir.start(&["run", TINY, "bpe", "--home", "b", "--remote", &url(&dir)]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("done  pairs")), "the first node has run");
    sleep(Duration::from_millis(500));
    let begun = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "a silent remote is waited for half a minute");
    assert!(!rest.iter().any(|line| line.contains("for now")), "{rest:?}");
}

#[test]
fn mistakes_are_told() {
    let dir = tiny();
    let wrong: [&[&str]; 9] = [
        &["--cache", "local:none"],
        &["--cache", "remote:w"],
        &["--cache", "disk:r"],
        &["--cache", "local:r,local:rw"],
        &["--cache", "remote:r"],
        &["--remote", "/shared/heddle"],
        &["--remote", "file://shared/heddle"],
        &["--remote", "https://host/heddle"],
        &["--remote", "s3://bucket/heddle"],
    ];
    let mut said = Vec::new();
    for arguments in wrong {
        let ended = dir.heddle(&[&["run", TINY], arguments].concat());
        assert!(matches!(ended.code, Some(1 | 2)), "{ended}");
        said.push(format!("$ heddle run tiny.toml {}\n{}", arguments.join(" "), ended.stderr));
    }
    insta::assert_snapshot!(said.join("\n"));
    assert!(!dir.path().join("experiments/.heddle/runs").exists(), "nothing ran");
}

#[test]
fn two_publish_at_once() {
    let dir = tiny();
    let remote = url(&dir);
    let start = |home: &str| dir.start(&["run", TINY, "--home", home, "--remote", &remote, "-q"]);
    let (a, b) = (start("a"), start("b"));
    for ended in [finish(a), finish(b)] {
        assert_eq!(ended.code, Some(0), "{ended}");
        assert!(!ended.stderr.contains("WARN"), "{ended}");
    }
    assert_whole(&dir);
    done(&dir, "run", "c", &[]);
    assert!(all(&dir, "c", "remote"));
    assert_eq!((digests(&dir, "a"), digests(&dir, "b")), (digests(&dir, "c"), digests(&dir, "c")));
}

/// What is under a name in the remote is whole, whenever the publisher is killed.
#[test]
fn killed_publishers_leave_nothing_torn() {
    let dir = tiny();
    let remote = url(&dir);
    let count = || walk(&dir.path().join(SHARED)).len();
    for wanted in [1, 3, 6, 9, 14, 20] {
        let mut child = dir.start(&["run", TINY, "--home", "a", "--remote", &remote, "-q"]);
        wait_until("so much is published", || count() >= wanted || child.try_wait().unwrap().is_some());
        let _ = child.kill();
        child.wait().unwrap();
        assert_whole(&dir);
    }
    done(&dir, "run", "a", &[]);
    done(&dir, "run", "b", &[]);
    assert!(all(&dir, "b", "remote"));
    assert_eq!(digests(&dir, "b"), digests(&dir, "a"));
}

#[test]
fn paranoia_changes_no_result() {
    let dir = tiny();
    done(&dir, "run", "a", &[]);
    done(&dir, "run", "b", &["--paranoid"]);
    assert!(all(&dir, "b", "remote"));
    done(&dir, "run", "b", &["--paranoid", "--force", "embed"]);
    assert_eq!(digests(&dir, "b"), digests(&dir, "a"));
}

/// Commands that read what a run made find it in the remote too.
#[test]
fn results_come_back_from_the_remote() {
    let dir = tiny();
    done(&dir, "run", "a", &[]);
    dir.done(&["cache", "clear", "--home", "a"]);
    let gone = dir.heddle(&["replay", "latest", "--home", "a"]);
    assert_eq!(gone.code, Some(1), "{gone}");
    let back = dir.done(&["replay", "latest", "--home", "a", "--remote", &url(&dir)]);
    assert!(back.stderr.contains("artifacts from the cache, nothing was computed"), "{back}");
    let why = dir.done(&["why", "stage1", TINY, "--home", "b", "--remote", &url(&dir)]);
    assert!(why.stdout.contains("is in the cache"), "{why}");
}
