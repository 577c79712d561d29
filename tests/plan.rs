//! What is a hit, what runs, why.

use serde_json::Value as Json;

use crate::util::{Dir, Ended, TINY, filtered};

/// The plan of the tiny experiment with these arguments.
fn plan(dir: &Dir, arguments: &[&str]) -> Ended {
    dir.heddle(&[&["plan", TINY], arguments].concat())
}

/// The names of the nodes whose action is `action`.
fn nodes_that(dir: &Dir, action: &str, arguments: &[&str]) -> Vec<String> {
    let json = plan(dir, &[&["--json"], arguments].concat()).json();
    let of = |node: &Json| (node["action"] == action).then(|| node["name"].as_str().unwrap().to_owned());
    json["nodes"].as_array().unwrap().iter().filter_map(of).collect()
}

/// What the plan has for one node.
fn entry(dir: &Dir, node: &str, arguments: &[&str]) -> Json {
    let json = plan(dir, &[&["--json"], arguments].concat()).json();
    json["nodes"].as_array().unwrap().iter().find(|found| found["name"] == node).unwrap().clone()
}

/// The tiny experiment, run once.
fn after_a_run() -> Dir {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    dir
}

#[test]
fn before_and_after_a_run() {
    let dir = Dir::tiny();
    let before = plan(&dir, &[]);
    assert_eq!(before.code, Some(2), "{before}");
    dir.done(&["run", TINY]);
    let after = plan(&dir, &[]);
    assert_eq!(after.code, Some(0), "{after}");
    let lr = plan(&dir, &["-S", "nodes.stage1.optimizer.lr=2e-3"]);
    assert_eq!(lr.code, Some(2), "{lr}");
    let part = plan(&dir, &["floor", "--force", "pairs"]);
    let texts = [before.stdout, after.stdout, lr.stdout, part.stdout].join("\n");
    filtered(|| insta::assert_snapshot!(texts));
}

#[test]
fn a_change_is_named_with_both_values() {
    let dir = after_a_run();
    let entry = entry(&dir, "stage1", &["-S", "nodes.stage1.optimizer.lr=2e-3"]);
    assert_eq!((&entry["action"], &entry["reason"]), (&"run".into(), &"changed".into()), "{entry}");
    let changes = entry["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{entry}");
    assert_eq!(changes[0]["field"], "config.optimizer.lr");
    assert_eq!((changes[0]["old"].as_str(), changes[0]["new"].as_str()), (Some("0.001"), Some("0.002")));
}

/// What the text of the files says in another way changes nothing.
#[test]
fn form_is_no_part_of_the_key() {
    let dir = after_a_run();
    let hits = |what: &str| {
        let ended = plan(&dir, &[]);
        assert_eq!(ended.code, Some(0), "{what}\n{ended}");
    };
    dir.edit(TINY, "[nodes.stage1]", "# The one stage.\n[nodes.stage1]\n\n");
    hits("a comment");
    dir.edit(TINY, "stage1", "first");
    dir.edit(TINY, "embed]", "exported]");
    dir.edit(TINY, "features = \"embed\"", "features = \"exported\"");
    hits("renamed nodes");
    dir.edit(TINY, "batch     = 16\n", "");
    dir.edit(TINY, "kind      = \"train\"\n", "batch = 16\nkind = \"train\"\n");
    hits("keys in another order");
    dir.edit(
        TINY,
        "in    = \"pairs\"\nvocab = 300",
        "in    = { records = \"pairs\" }\nvocab = 300\nlowercase = true",
    );
    hits("a default written out");
    dir.edit(TINY, "lr = 1e-3", "lr = 0.00100");
    hits("a number in another form");
    dir.edit("graphs/tiny.toml", "[nodes.pool]", "# The head.\n[nodes.pool]");
    hits("a comment in the graph");
    dir.write("graphs/same.toml", dir.read("graphs/tiny.toml"));
    dir.edit(TINY, "graphs/tiny.toml", "graphs/same.toml");
    hits("a graph under another name");
    dir.write(TINY, format!("{}\n[run]\nthreads = 1\n", dir.read(TINY)));
    hits("resources");
}

/// What changes bits changes the key.
#[test]
fn substance_is_part_of_the_key() {
    let dir = after_a_run();
    let misses = |arguments: &[&str], node: &str| {
        let text = arguments.join(" ");
        assert_eq!(nodes_that(&dir, "run", arguments)[0], node, "{text}");
        assert_eq!(plan(&dir, arguments).code, Some(2), "{text}");
    };
    misses(&["-S", "seed=4"], "stage1");
    misses(&["-S", "nodes.stage1.augment.flip=0.25"], "stage1");
    misses(&["-S", "nodes.bpe.vocab=290"], "bpe");
    misses(&["-S", "nodes.pairs.limit=63"], "pairs");
    misses(
        &["-S", "nodes.heldout.image.size=16", "-S", "nodes.heldout.image.background=[0, 0, 0]"],
        "heldout",
    );
    dir.edit("graphs/tiny.toml", "depth       = 1", "depth       = 2");
    misses(&[], "stage1");
}

#[test]
fn only_what_is_asked_for() {
    let dir = Dir::tiny();
    assert_eq!(nodes_that(&dir, "run", &["bpe", "floor"]), ["heldout", "pairs", "bpe", "floor"]);
    assert_eq!(nodes_that(&dir, "skip", &["bpe", "floor"]).len(), 5);
    let unknown = plan(&dir, &["stage2"]);
    assert_eq!(unknown.code, Some(3));
    insta::assert_snapshot!(unknown.stderr);
}

/// Planning leaves no trace.
#[test]
fn nothing_is_written() {
    let dir = Dir::tiny();
    plan(&dir, &[]);
    assert!(!dir.path().join("experiments/.heddle").exists());
}

/// What an evaluation shares with a stage that it depends on is said before its numbers.
#[test]
fn records_that_were_learnt_from_are_counted() {
    let dir = Dir::tiny();
    let clean = dir.done(&["run", TINY, "zero_shot"]);
    assert!(!clean.stderr.contains("leak:"), "{clean}");
    let leaky = ["-S", "nodes.embed.in=pairs", "-S", "nodes.zero_shot.in.records=pairs"];
    let ran = dir.done(&[&["run", TINY, "zero_shot"], &leaky[..]].concat());
    let line = |text: &str| text.lines().find(|line| line.contains("leak:")).map(str::to_owned);
    let said = line(&ran.stderr).unwrap();
    assert!(said.contains("`zero_shot`") && said.contains("`stage1`"), "{said}");
    let planned = dir.heddle(&[&["plan", TINY, "zero_shot"], &leaky[..]].concat());
    assert_eq!(line(&planned.stdout).unwrap().trim(), said.trim());
    let json = dir.heddle(&[&["plan", TINY, "zero_shot", "--json"], &leaky[..]].concat()).json();
    assert_eq!(json["leaks"][0]["shared"], json["leaks"][0]["records"]);
    let checked = dir.done(&[&["check", TINY], &leaky[..]].concat());
    assert_eq!(line(&checked.stdout).unwrap().trim(), said.trim());
    let json = dir.done(&[&["check", TINY, "--json"], &leaky[..]].concat()).json();
    assert_eq!(json[0]["leaks"][0]["shared"], json[0]["leaks"][0]["records"]);
    // A file is correct whatever becomes of the cache.
    let elsewhere = dir.done(&[&["check", TINY, "--home", "nowhere"], &leaky[..]].concat());
    assert!(line(&elsewhere.stdout).is_none() && !dir.path().join("nowhere").exists(), "{elsewhere}");
}
