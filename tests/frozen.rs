//! Frozen parts of a stage: what runs once for each record, and that nobody can tell from the results.

use std::collections::BTreeMap;

use crate::util::{Dir, repository};

const FILE: &str = "frozen.toml";

/// A folder with the experiment, its graphs named by their place in the repository.
fn dir() -> Dir {
    let dir = Dir::empty();
    let text = std::fs::read_to_string(repository().join("tests/experiments").join(FILE)).unwrap();
    dir.write(FILE, text.replace("../../graphs", repository().join("graphs").to_str().unwrap()));
    dir
}

/// Records that a node found in the cache and that it computed, by output, in the newest run.
fn rows(dir: &Dir, node: &str) -> BTreeMap<String, (u64, u64)> {
    let record = dir.last_run();
    let node = record["nodes"].as_array().unwrap().iter().find(|found| found["name"] == node).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let rows = node["rows"].as_object().cloned().unwrap_or_default();
    rows.iter().map(|(name, count)| (name.clone(), (number(&count["hit"]), number(&count["new"])))).collect()
}

fn counted(rows: &[(&str, (u64, u64))]) -> BTreeMap<String, (u64, u64)> {
    rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The digests of a node's artifacts.
fn digests(dir: &Dir, node: &str) -> Vec<(String, String)> {
    let all = dir.digests().into_iter();
    all.filter(|(name, _)| name.starts_with(&format!("{node}."))).collect()
}

#[test]
fn a_frozen_tower_runs_once_for_each_record() {
    let dir = dir();
    dir.done(&["run", FILE, "stage2", "-q"]);
    // Nine steps of eight records are more than two epochs.
    let first = rows(&dir, "stage2")["vit.hidden.2"];
    assert!(first.0 == 0 && (15..40).contains(&first.1), "{first:?}");
    // Another learning rate runs the stage again, and the tower not at all.
    dir.done(&["run", FILE, "stage2", "-q", "-S", "nodes.stage2.optimizer.lr=0.002"]);
    assert_eq!(rows(&dir, "stage2"), counted(&[("vit.hidden.2", (first.1, 0))]));
    // A laxer filter: only the records that it lets through anew.
    dir.done(&["run", FILE, "stage2", "-q", "-S", "nodes.pairs.expression=size(en) > 0"]);
    assert_eq!(rows(&dir, "stage2"), counted(&[("vit.hidden.2", (first.1, 40 - first.1))]));
    // A stricter one: none.
    dir.done(&["run", FILE, "stage2", "-q", "-S", "nodes.pairs.expression=size(en) > 11"]);
    assert_eq!(rows(&dir, "stage2")["vit.hidden.2"].1, 0);
}

#[test]
fn kept_values_change_no_result() {
    let first = dir();
    first.done(&["run", FILE, "stage2", "-q"]);
    let expected = digests(&first, "stage2");
    // The same from what is kept, from one thread, without keeping anything.
    first.done(&["run", FILE, "stage2", "-q", "--force", "stage2"]);
    assert_eq!(rows(&first, "stage2")["vit.hidden.2"].1, 0);
    assert_eq!(digests(&first, "stage2"), expected);
    let other = dir();
    other.done(&["run", FILE, "stage2", "-q", "--threads", "1", "-S", "params.kept=never"]);
    assert_eq!((rows(&other, "stage2"), digests(&other, "stage2")), (BTreeMap::new(), expected));
}

#[test]
fn views_bound_augmentation() {
    let augment = ["-S", "nodes.stage2.augment={ flip = 0.5, brightness = 0.3 }"];
    let (dir, other) = (dir(), dir());
    let run =
        |dir: &Dir, more: &[&str]| dir.done(&[&["run", FILE, "stage2", "-q"], &augment[..], more].concat());
    run(&dir, &[]);
    assert_eq!(rows(&dir, "stage2"), BTreeMap::new());
    run(&dir, &["-S", "nodes.stage2.views=2"]);
    let (hit, new) = rows(&dir, "stage2")["vit.hidden.2"];
    assert!(hit == 0 && new > 40, "two views of each record: {new}");
    let expected = digests(&dir, "stage2");
    run(&other, &["-S", "nodes.stage2.views=2", "-S", "params.kept=never"]);
    assert_eq!((rows(&other, "stage2"), digests(&other, "stage2")), (BTreeMap::new(), expected));
    let wrong = dir.heddle(&["check", FILE, "-S", "nodes.stage2.views=2"]);
    assert!(
        wrong.code == Some(3) && wrong.stderr.contains("one view of a picture without `augment`"),
        "{wrong}"
    );
}

#[test]
fn what_learns_moves_the_cut_by_itself_alone() {
    let dir = dir();
    let train =
        |patterns: &str| format!("nodes.stage2.train=[\"qllama\", \"pool2\", \"itm\", \"itc\"{patterns}]");
    dir.done(&["run", FILE, "stage2", "-q"]);
    let cut = |patterns: &str, file: &str| {
        dir.done(&["run", file, "stage2", "-q", "-S", &train(patterns)]);
        rows(&dir, "stage2").into_iter().map(|(name, (_, new))| (name, new > 0)).collect::<Vec<_>>()
    };
    assert_eq!(cut(", \"vit.encoder.layers.1\"", FILE), [("vit.hidden.1".to_owned(), true)]);
    assert_eq!(cut(", \"vit.encoder\"", FILE), [("vit.hidden.0".to_owned(), true)]);
    assert_eq!(cut(", \"vit\"", FILE), []);
    // The block that is frozen again finds what was kept of it.
    assert_eq!(cut(", \"vit.encoder.layers.1.ls1\"", FILE), [("vit.hidden.1".to_owned(), false)]);
}

#[test]
fn heads_share_a_tower_whatever_it_is_called() {
    let dir = dir();
    dir.done(&["run", FILE, "embed", "-q"]);
    let (hit, new) = rows(&dir, "embed")["image_embeds"];
    assert!(hit == 0 && new > 0);
    let embed = digests(&dir, "embed");
    // Another head on the same tower, another batch, other names in the graph.
    dir.write(
        "other.toml",
        format!(
            "extends = [\"{FILE}\"]\nschema = 1\n[nodes.again]\nkind = \"features\"\n\
        graph = \"renamed.toml\"\nweights = \"stage1\"\nin = \"pairs\"\nbatch = 5\n"
        ),
    );
    let graph = std::fs::read_to_string(repository().join("graphs/internvl-c.toml")).unwrap();
    let graph = graph.replace("[nodes.vit]", "[nodes.seeing] # another name").replace("\"vit.", "\"seeing.");
    dir.write("renamed.toml", graph);
    dir.done(&["run", "other.toml", "again", "-q"]);
    assert_eq!(rows(&dir, "again"), counted(&[("image_embeds", (new, 0))]));
    let again: Vec<String> = digests(&dir, "again").into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(again, embed.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>());
}
