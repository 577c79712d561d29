//! Kills, signals, races and broken data.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    time::Duration,
};

use crate::util::{Dir, Ended, TINY, break_a_picture, finish, wait_until};

/// A stage that a signal finds at work, and that says so little meanwhile that no pipe fills.
const ENDLESS: [&str; 4] = ["-S", "params.steps=1000000", "-S", "nodes.stage1.log-every=1000"];

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether a run has begun: its record is there.
fn has_begun(dir: &Dir) -> bool {
    let runs = dir.path().join("experiments/.heddle/runs");
    let entries = fs::read_dir(runs).into_iter().flatten();
    entries.flatten().any(|run| run.path().join("record.json").is_file())
}

/// A run that is killed at any moment loses what it was doing and nothing else.
#[test]
fn killed_runs_go_on() {
    let whole = Dir::tiny();
    whole.done(&["run", TINY, "--quiet"]);
    let expected = whole.digests();
    let dir = Dir::tiny();
    // Moments from before the cache is made to after the last node, in an order that is not sorted.
    for wait_ms in [3, 160, 40, 320, 90, 240, 600] {
        let mut child = dir.start(&["run", TINY, "--quiet"]);
        std::thread::sleep(Duration::from_millis(wait_ms));
        let _ = child.kill();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
    }
    dir.done(&["run", TINY, "--quiet"]);
    assert_eq!(dir.digests(), expected);
    dir.done(&["cache", "verify", "--home", "experiments/.heddle"]);
    dir.done(&["run", TINY, "--quiet"]);
    assert_eq!(dir.nodes_that("hit").len(), 9);
}

/// What finished before a kill is a hit afterwards.
#[test]
fn finished_nodes_survive_a_kill() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe", "floor"]);
    let mut child = dir.start(&[&["run", TINY][..], &ENDLESS].concat());
    std::thread::sleep(Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    dir.done(&["run", TINY]);
    let hits = dir.nodes_that("hit");
    assert!(
        ["pairs", "heldout", "bpe", "floor"].iter().all(|node| hits.iter().any(|hit| hit == node)),
        "{hits:?}"
    );
}

/// A stage that is killed goes on from its last checkpoint, and nobody can tell from the result.
#[test]
fn a_killed_stage_goes_on_from_its_checkpoint() {
    let long = |more: &'static [&'static str]| {
        let base = ["run", TINY, "stage1", "-S", "params.steps=4000", "-S", "nodes.stage1.ema=0.99"];
        let base = base.into_iter().chain(["-S", "nodes.stage1.log-every=700"]);
        base.chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let whole = Dir::tiny();
    whole.done(&long(&["-q"]));
    let dir = Dir::tiny();
    let often = ["-S", "nodes.stage1.checkpoint-steps=7"];
    for wait_ms in [700, 400, 900] {
        let mut child = dir.start(&[long(&["-q"]), often.to_vec()].concat());
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Which checkpoints there are is in no key.
    let last = dir.done(&long(&[]));
    assert!(last.stderr.contains("goes on after step "), "{last}");
    assert_eq!(dir.digests(), whole.digests());
    // Nothing is left to go on from.
    let forced = dir.done(&long(&["--force", "stage1"]));
    assert!(!forced.stderr.contains("goes on"), "{forced}");
    assert_eq!(dir.digests(), whole.digests());
}

#[test]
fn an_interrupt_stops_at_a_step() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe", "--home", "home"]);
    let child = dir.start(&[&["run", TINY, "stage1", "--home", "home"][..], &ENDLESS].concat());
    let runs = dir.path().join("home/runs");
    wait_until("the second run", || fs::read_dir(&runs).unwrap().count() == 2);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    let ended = finish(child);
    assert_eq!(ended.code, Some(130), "{ended}");
    assert!(ended.stderr.contains("interrupted: "), "{ended}");
    let list = dir.done(&["runs", "ls", "--json", "--home", "home"]).json();
    let states: Vec<&str> =
        list.as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert!(states.contains(&"interrupted"), "{states:?}");
    let next = dir.done(&["run", TINY, "stage1", "--home", "home"]);
    assert!(next.stderr.contains("done: 1 ran, 2 from the cache"), "{next}");
}

#[test]
fn two_processes_share_no_cache() {
    let dir = Dir::tiny();
    let first = dir.start(&[&["run", TINY, "stage1"][..], &ENDLESS].concat());
    wait_until("the first run", || has_begun(&dir));
    let second = dir.heddle(&["run", TINY, "bpe"]);
    assert_eq!(second.code, Some(1), "{second}");
    for said in [first.id().to_string().as_str(), "run experiments/tiny.toml", "--wait"] {
        assert!(second.stderr.contains(said), "`{said}` is not said\n{second}");
    }
    let waiting = dir.start(&["run", TINY, "bpe", "--wait"]);
    std::thread::sleep(Duration::from_millis(200));
    signal(&first, "-INT");
    assert_eq!(finish(first).code, Some(130));
    let waited = finish(waiting);
    assert_eq!(waited.code, Some(0), "{waited}");
}

/// Nobody changes or reads the cache of a run that is at work; looking back at runs is free.
#[test]
fn a_running_process_keeps_others_out() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe", "-q"]);
    dir.done(&["cache", "export", "last", "run.tar"]);
    let before = dir.digests();
    let child = dir.start(&[&["run", TINY, "stage1"][..], &ENDLESS].concat());
    let runs = dir.path().join("experiments/.heddle/runs");
    wait_until("the second run", || fs::read_dir(&runs).unwrap().count() == 2);
    for arguments in [
        &["cache", "gc", "--max-size=0"][..],
        &["cache", "gc", "--dry"],
        &["cache", "import", "run.tar"],
        &["cache", "pin", "last"],
        &["cache", "unpin", "last"],
        &["cache", "export", "last", "other.tar"],
        &["cache", "verify"],
        &["cache", "clear"],
        &["cache", "du"],
        &["plan", TINY],
        &["why", "bpe", TINY],
        &["replay", "last"],
    ] {
        let held = dir.heddle(arguments);
        assert_eq!(held.code, Some(1), "{held}");
        for said in [child.id().to_string().as_str(), "run experiments/tiny.toml", "--wait"] {
            assert!(
                held.stderr.contains(said),
                "`{said}` is not said by heddle {}\n{held}",
                arguments.join(" ")
            );
        }
    }
    dir.done(&["runs", "ls"]);
    // Who waits gets it when the run has ended, and what the run has kept is there then.
    let waiting = dir.start(&["cache", "gc", "--wait"]);
    let importing = dir.start(&["cache", "import", "run.tar", "--wait"]);
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "-INT");
    assert_eq!(finish(child).code, Some(130));
    for waited in [waiting, importing].map(finish) {
        assert_eq!(waited.code, Some(0), "{waited}");
    }
    dir.done(&["cache", "verify"]);
    let again = dir.done(&["run", TINY, "bpe"]);
    assert!(again.stderr.contains("nothing to do"), "{again}");
    assert_eq!(dir.digests(), before);
}

/// The experiment's training data as files, with `damage` done to the first shard.
fn with_shards(damage: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Dir {
    let dir = Dir::tiny();
    dir.done(&["init", "lab", "--quiet"]);
    let bytes = fs::read(dir.path().join("lab/data/emoji/train-0000.tar")).unwrap();
    dir.write("data/train-0000.tar", damage(bytes));
    dir.edit(
        TINY,
        "[nodes.pairs]\nkind  = \"data.webdataset\"\nlimit = 64",
        "[nodes.pairs]\nkind = \"data.webdataset\"\nshards = \"../data/train-*.tar\"\nlimit = 64",
    );
    dir
}

/// The error and the line that names what is broken.
fn error(ended: &Ended) -> String {
    let lines = ended.stderr.lines().skip_while(|line| !line.starts_with("error: ")).take(2);
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_truncated_shard_is_counted_and_named() {
    let dir = with_shards(|bytes| bytes[..100_000].to_vec());
    let ended = dir.heddle(&["run", TINY, "pairs", "-S", "nodes.pairs.max-bad=0"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    insta::assert_snapshot!(error(&ended));
    let tolerant = dir.done(&["run", TINY, "pairs", "-S", "nodes.pairs.max-bad=3"]);
    assert!(tolerant.stderr.contains("skipped "), "{tolerant}");
}

#[test]
fn a_picture_that_does_not_decode_is_named() {
    let dir = with_shards(break_a_picture);
    let ended = dir.heddle(&["run", TINY, "stage1", "-S", "nodes.pairs.max-bad=0"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert_eq!(dir.nodes_that("failed"), ["stage1"]);
    insta::assert_snapshot!(error(&ended));
    let tolerant = dir.done(&["run", TINY, "stage1", "-S", "nodes.pairs.max-bad=1"]);
    // What was left out is in the result, not only on the screen.
    let notes = dir.last_run()["metrics"]["stage1"]["notes"].to_string();
    assert!(notes.contains("skipped "), "{notes}\n{tolerant}");
}

#[test]
fn a_shard_that_is_no_tar_is_named() {
    let dir = with_shards(|bytes| bytes.iter().map(|byte| byte ^ 0x55).collect());
    let ended = dir.heddle(&["run", TINY, "pairs"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("train-0000.tar"), "{ended}");
}

/// A ustar archive of plain files.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        // Written by hand: the builder refuses the unsafe names that are tested here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn shards_without_a_usable_record_are_told_apart() {
    let said = |bytes: &[u8]| {
        let dir = with_shards(|_| bytes.to_vec());
        let ended = dir.heddle(&["run", TINY, "pairs", "-S", "nodes.pairs.max-bad=0"]);
        assert_eq!(ended.code, Some(1), "{ended}");
        error(&ended)
    };
    let told = [
        ("an empty file", said(&[])),
        ("an empty archive", said(&tar_of(&[]))),
        ("no picture", said(&tar_of(&[("a.txt", b"a cat"), ("a.json", b"{}")]))),
        ("a name that climbs", said(&tar_of(&[("../a.png", b"x")]))),
        ("an absolute name", said(&tar_of(&[("/a.png", b"x")]))),
        ("invalid JSON", said(&tar_of(&[("a.png", b"x"), ("a.json", b"{\n  \"en\": oops}")]))),
        ("a key that comes twice", said(&tar_of(&[("a.png", b"x"), ("b.png", b"x"), ("a.png", b"y")]))),
    ];
    let lines: Vec<String> = told.iter().map(|(what, said)| format!("{what}:\n{said}")).collect();
    insta::assert_snapshot!(lines.join("\n\n"));
}

/// A picture that claims 60,000 x 60,000 pixels is dropped like any that does not decode.
#[test]
fn a_picture_that_claims_to_be_huge_is_dropped() {
    let bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x06\0\0\0\x80\xd2\x75\x42";
    let dir = Dir::empty();
    dir.write("a.tar", tar_of(&[("bomb.png", bomb), ("bomb.txt", b"boom")]));
    dir.write(
        "x.toml",
        "schema = 1\n[nodes.s]\nkind = \"data.webdataset\"\nshards = \"a.tar\"\n\
         [nodes.x]\nkind = \"data.decode\"\nin = \"s\"\n",
    );
    let ended = dir.done(&["run", "x.toml"]);
    assert!(ended.stderr.contains("note  x: 0 of 1 records stay"), "{ended}");
}

/// A shard that changes between two runs is another input.
#[test]
fn a_changed_shard_is_read_again() {
    let dir = with_shards(|bytes| bytes);
    dir.done(&["run", TINY, "pairs"]);
    let bytes = fs::read(dir.path().join("data/train-0000.tar")).unwrap();
    dir.write("data/train-0000.tar", break_a_picture(bytes));
    let plan = dir.heddle(&["plan", TINY, "pairs"]);
    assert_eq!(plan.code, Some(2), "{plan}");
    assert!(plan.stdout.contains("files.shards"), "{plan}");
}
