//! What `init` writes.

use std::fs;

use crate::util::Dir;

#[test]
fn a_new_folder_can_be_checked_and_planned() {
    let dir = Dir::empty();
    let ended = dir.done(&["init", "lab"]);
    assert!(ended.stdout.starts_with("wrote "), "{ended}");
    let lab =
        ["lab/experiments/quickstart.toml", "lab/graphs/internvl-c.toml", "lab/graphs/internvl-c-flat.toml"];
    for file in lab {
        dir.done(&["check", file]);
    }
    let plan = dir.heddle(&["plan", lab[0]]);
    assert_eq!(plan.code, Some(2), "{plan}");
    assert!(!dir.path().join("lab/experiments/.heddle").exists(), "planning made a folder");
}

/// The written data is the embedded data: reading either gives the same artifact.
#[test]
fn files_on_disk_equal_the_embedded_ones() {
    let dir = Dir::tiny();
    dir.done(&["init", "."]);
    dir.done(&["run", "experiments/tiny.toml", "pairs"]);
    let embedded = dir.digests();
    // What `-S` names is relative to the current folder.
    let shards = "nodes.pairs.shards=data/emoji/train-*.tar";
    dir.done(&["run", "experiments/tiny.toml", "pairs", "-S", shards, "--home", "other"]);
    let record = dir.done(&["runs", "show", "--json", "--home", "other"]).json();
    assert!(record["nodes"].to_string().contains(&embedded[0].1), "{record}");
}

#[test]
fn nothing_is_overwritten() {
    let dir = Dir::empty();
    dir.done(&["init", "."]);
    dir.write("experiments/quickstart.toml", "# mine\n");
    fs::remove_file(dir.path().join("graphs/internvl-c.toml")).unwrap();
    let ended = dir.done(&["init", "."]);
    assert_eq!(ended.stdout, "wrote 1 files to .\n");
    assert!(ended.stderr.contains("left alone, since it differs: ./experiments/quickstart.toml"), "{ended}");
    assert_eq!(dir.read("experiments/quickstart.toml"), "# mine\n");
}
