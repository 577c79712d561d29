//! Frozen parts of a stage: what runs once for each record, and that nobody can tell from the results.

use std::{collections::BTreeMap, fs};

use heddle_cache::{Cache, Holder, RowChunk, Wait};

use crate::util::{Dir, break_a_picture, filtered, repository};

const FILE: &str = "frozen.toml";

/// A folder with the experiment, its graphs named by their place in the repository.
fn dir() -> Dir {
    let dir = Dir::empty();
    let text = fs::read_to_string(repository().join("tests/experiments").join(FILE)).unwrap();
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
    let graph = fs::read_to_string(repository().join("graphs/internvl-c.toml")).unwrap();
    let graph = graph.replace("[nodes.vit]", "[nodes.seeing] # another name").replace("\"vit.", "\"seeing.");
    dir.write("renamed.toml", graph);
    dir.done(&["run", "other.toml", "again", "-q"]);
    assert_eq!(rows(&dir, "again"), counted(&[("image_embeds", (new, 0))]));
    let again: Vec<String> = digests(&dir, "again").into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(again, embed.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>());
}

#[test]
fn evaluations_read_what_training_kept() {
    let (dir, other) = (dir(), dir());
    let never = ["-S", "params.kept=never"];
    dir.done(&["run", FILE, "stage2", "-q"]);
    let seen = rows(&dir, "stage2")["vit.hidden.2"].1;
    dir.done(&["run", FILE, "matching", "captions", "-q"]);
    let (hit, new) = rows(&dir, "matching")["vit.hidden.2"];
    assert_eq!(hit, seen, "what the stage drew is there, {new} that it did not draw are new");
    assert_eq!(rows(&dir, "captions"), counted(&[("vit.hidden.2", (hit + new, 0))]));
    other.done(&[&["run", FILE, "matching", "captions", "-q"][..], &never].concat());
    assert_eq!(rows(&other, "matching"), BTreeMap::new());
    for node in ["matching", "captions"] {
        assert_eq!(digests(&dir, node), digests(&other, node), "{node}");
    }
}

/// Half of the bits are half of the bytes, and other results: the same ones from the cache and anew.
#[test]
fn values_can_be_kept_in_half_precision() {
    let dir = dir();
    dir.done(&["run", FILE, "stage2", "-q"]);
    let whole = digests(&dir, "stage2");
    for stored in ["f16", "bf16"] {
        let half = format!("nodes.stage2.graph.nodes.vit={{ store = \"{stored}\" }}");
        let run = |more: &[&str]| dir.done(&[&["run", FILE, "stage2", "-q", "-S", &half][..], more].concat());
        run(&[]);
        let (first, (hit, new)) = (digests(&dir, "stage2"), rows(&dir, "stage2")["vit.hidden.2"]);
        assert!(hit == 0 && new > 0, "rows of other bits are other rows");
        run(&["--force", "stage2"]);
        assert_eq!(rows(&dir, "stage2"), counted(&[("vit.hidden.2", (new, 0))]));
        assert_eq!(digests(&dir, "stage2"), first);
        assert_ne!(first, whole);
        let checked = dir.done(&["check", FILE, "-S", &half]);
        assert!(checked.stdout.contains("stage2 keeps vit.hidden.2 (160 bytes a record)"), "{checked}");
    }
    dir.done(&["run", FILE, "stage2", "-q", "--force", "stage2"]);
    assert_eq!((rows(&dir, "stage2")["vit.hidden.2"].1, digests(&dir, "stage2")), (0, whole));
}

/// The last row of every chunk gets bytes that are whole and wrong: no checksum tells.
fn damage_rows(dir: &Dir) {
    let holder = Holder { pid: 1, what: "a test".into(), since_unix: 0 };
    let cache = Cache::open(&dir.path().join(".heddle/cache"), &holder, Wait::No).unwrap();
    for chunk in RowChunk::all(&cache).unwrap() {
        let mut bytes = cache.get(&chunk.rows).unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let rows = cache.put_many(&[&bytes]).unwrap()[0];
        RowChunk::name(&cache, &[RowChunk { rows, ..chunk }]).unwrap();
    }
}

/// The keys of the records that a node gives, in order.
fn keys_of(dir: &Dir, node: &str) -> Vec<String> {
    let shown = dir.done(&["data", "show", FILE, node, "--json"]).stdout;
    let key = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].as_str().unwrap().to_owned()
    };
    shown.lines().map(key).collect()
}

#[test]
fn kept_rows_are_verified() {
    let dir = dir();
    let none = dir.heddle(&["verify", FILE]);
    assert_eq!(none.code, Some(1), "{none}");
    dir.done(&["run", FILE, "stage2", "embed", "-q"]);
    let all = dir.done(&["verify", FILE, "--sample", "100%"]);
    let kept = rows(&dir, "stage2")["vit.hidden.2"].1;
    assert!(
        all.stdout.contains(&format!(
            "stage2: {kept} of {kept} kept rows of vit.hidden.2 computed again, all the same"
        )),
        "{all}"
    );
    assert!(all.stdout.contains("kept rows of image_embeds computed again, all the same"), "{all}");
    let some = dir.done(&["verify", FILE, "stage2", "--sample", "10%", "--seed", "1", "--json"]).json();
    assert_eq!(some["nodes"][0]["computed"].as_u64(), Some((kept as f64 / 10.0).round() as u64), "{some}");
    assert_eq!(
        some,
        dir.done(&["verify", FILE, "stage2", "--sample", "10%", "--seed", "1", "--json"]).json()
    );
    let wrong = dir.heddle(&["verify", FILE, "--sample", "1"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("a share is written with its sign"), "{wrong}");

    damage_rows(&dir);
    assert_eq!(dir.heddle(&["cache", "verify"]).code, Some(0));
    let found = dir.heddle(&["verify", FILE, "--sample", "100%"]);
    assert_eq!(found.code, Some(4), "{found}");
    assert!(found.stdout.contains("1 differ\n  record "), "{found}");
    assert!(found.stdout.contains(": vit.hidden.2 came out otherwise"), "{found}");
}

/// A stage leaves out pictures that do not decode; what differs behind them is still called by its own name.
#[test]
fn differing_records_are_named_behind_a_broken_picture() {
    let dir = dir();
    dir.done(&["init", "lab", "--quiet"]);
    let bytes = fs::read(dir.path().join("lab/data/emoji/train-0000.tar")).unwrap();
    dir.write("data/train-0000.tar", break_a_picture(bytes));
    dir.edit(FILE, "limit = 40", "limit = 40\nshards = \"data/train-*.tar\"\nmax-bad = 1");
    dir.edit(
        FILE,
        "in   = \"all\"\nexpression = \"size(en) > 9\"",
        "in   = \"all\"\nexpression = \"size(en) > 0\"",
    );
    let ran = dir.done(&["run", FILE, "stage2"]);
    assert!(ran.stderr.contains("skipped "), "{ran}");
    let last = keys_of(&dir, "pairs").pop().unwrap();
    damage_rows(&dir);
    let found = dir.heddle(&["verify", FILE, "stage2", "--sample", "100%"]);
    assert_eq!(found.code, Some(4), "{found}");
    assert!(
        found.stdout.contains(&format!("record {last}: vit.hidden.2 came out otherwise")),
        "{last}\n{found}"
    );
}

#[test]
fn why_counts_records_and_follows_one() {
    let dir = dir();
    dir.done(&["run", FILE, "embed", "-q"]);
    let filter = ["-S", "nodes.pairs.expression=size(en) > 0"];
    let why = |more: &[&str]| dir.done(&[&["why", "embed", FILE][..], more].concat());
    let waits = why(&filter);
    assert!(waits.stdout.ends_with("has not seen is known once pairs ran\n"), "{waits}");
    dir.done(&[&["run", FILE, "pairs", "-q"][..], &filter].concat());
    let before = why(&filter);
    dir.done(&[&["run", FILE, "embed", "-q"][..], &filter].concat());
    let after = why(&filter);
    let other = why(&["-S", "nodes.embed.output=image_embeds", "-S", "nodes.embed.precision=f32"]);
    filtered(|| insta::assert_snapshot!([before.stdout, after.stdout, other.stdout].join("\n")));

    let keys = keys_of(&dir, "all");
    let follow = |key: &str| dir.done(&["why", "embed", FILE, "--record", key]).stdout;
    let (there, gone): (Vec<&String>, Vec<&String>) =
        keys.iter().partition(|key| follow(key).contains("reaches embed\n  image_embeds: hit"));
    assert!(!there.is_empty() && !gone.is_empty(), "{keys:?}");
    assert_eq!(follow(gone[0]), format!("record {} does not reach embed: pairs left it out\n", gone[0]));
    let nobody = dir.heddle(&["why", "embed", FILE, "--record", "nobody"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("no record upstream of `embed`"), "{nobody}");
}

/// A classifier learns on rows alone, whatever its rate, and the evaluation reads the same ones.
#[test]
fn a_linear_probe_reads_rows() {
    let dir = dir();
    dir.done(&["run", FILE, "accuracy", "-q"]);
    let name = "pool.output";
    let (hit, new) = rows(&dir, "probe")[name];
    assert!(hit == 0 && new > 20, "{new}");
    assert_eq!(rows(&dir, "accuracy"), counted(&[(name, (new, 0))]));
    let metrics = dir.last_run()["metrics"]["accuracy"]["measurements"].clone();
    let measured = metrics.as_array().unwrap();
    let of =
        |metric: &str| measured.iter().find(|m| m["metric"] == metric).unwrap()["value"].as_f64().unwrap();
    assert!(of("top-1") > 50.0 && of("top-5") >= of("top-1"), "what it learnt from: {metrics}");
    dir.done(&["run", FILE, "accuracy", "-q", "-S", "nodes.probe.optimizer.lr=0.01"]);
    assert_eq!(rows(&dir, "probe"), counted(&[(name, (new, 0))]));

    let wrong = |set: &[&str]| {
        let ended = dir.heddle(&[&["run", FILE, "accuracy", "-q"][..], set].concat());
        assert!(ended.code.is_some_and(|code| code == 1 || code == 3), "{ended}");
        ended.stderr
    };
    let said = [
        wrong(&["-S", "nodes.accuracy.labels={ column = \"grup\" }"]),
        wrong(&["-S", "nodes.accuracy.labels={ column = \"group\" }"]),
        wrong(&["-S", "nodes.accuracy.labels={ column = \"group\", classes = [\"Objects\"] }"]),
        wrong(&["-S", "nodes.stage1.labels={ column = \"group\" }"]),
        wrong(&["-S", "nodes.probe.labels={ column = \"order\" }"]),
    ];
    filtered(|| insta::assert_snapshot!(said.join("\n")));
}

/// Stages of variants side by side need the same rows: one of them computes them.
#[test]
fn rows_are_computed_once_side_by_side() {
    let dir = dir();
    dir.done(&["run", FILE, "stage1", "-q"]);
    let text = dir.read(FILE) + "\n[sweeps.lr]\ngrid = { \"nodes.probe.optimizer.lr\" = [0.1, 0.2, 0.3] }\n";
    dir.write(FILE, text);
    let swept =
        dir.done(&["run", FILE, "probe", "--sweep", "lr", "--max-parallel", "3", "--json", "-q"]).json();
    let mut new = 0;
    for cell in swept["cells"].as_array().unwrap() {
        let record = dir.done(&["runs", "show", cell["run"].as_str().unwrap(), "--json"]).json();
        let nodes = record["nodes"].as_array().unwrap();
        let probe = nodes.iter().find(|node| node["name"] == "probe").unwrap();
        new += probe["rows"]["pool.output"]["new"].as_u64().unwrap();
    }
    let verified = dir.done(&["verify", FILE, "probe", "--sample", "100%", "--json"]).json();
    assert_eq!(Some(new), verified["nodes"][0]["kept"].as_u64());
}

/// Where values are rounded, the graph is cut, whatever else is kept.
#[test]
fn rounding_depends_on_nothing_but_store() {
    let dir = dir();
    let run = |more: &str| {
        let file = "../../graphs/linear-probe.toml"
            .replace("../../graphs", repository().join("graphs").to_str().unwrap());
        let graph = format!(
            "nodes.probe.graph={{ file = \"{file}\", params = {{ classes = 8 }}, nodes = {{ vit = {{ store = \"bf16\" }}{more} }} }}"
        );
        dir.done(&["run", FILE, "probe", "-q", "-S", &graph, "--force", "probe"]);
        (digests(&dir, "probe"), rows(&dir, "probe").into_keys().collect::<Vec<_>>())
    };
    let usual = run("");
    assert_eq!(usual.1, ["vit.hidden.2"]);
    assert_eq!(run(", pool = { cache = \"always\" }"), usual);
    assert_eq!(run(", pool = { cache = \"never\" }"), usual);
}

/// What a plan foretells is held against what came.
#[test]
fn predictions_are_compared() {
    let dir = dir();
    let first = dir.done(&["run", FILE, "embed"]);
    assert!(first.stderr.contains("for it, took "), "only the stage has a cost beforehand\n{first}");
    let second = dir.done(&["run", FILE, "embed", "-S", "nodes.stage1.optimizer.lr=1e-2"]);
    assert!(second.stderr.contains("for 2 of them, took "), "{second}");
    let third = dir.done(&["run", FILE, "embed", "--force", "bpe"]);
    assert!(third.stderr.contains("might have run did not have to"), "{third}");
}
