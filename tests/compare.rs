//! Past runs: lists by metric, differences, replays, reasons.

use std::fs;

use serde_json::Value as Json;

use crate::util::{Dir, Ended, TINY, filtered};

/// The changed learning rate that most tests compare with.
const FASTER: [&str; 2] = ["-S", "nodes.stage1.optimizer.lr=1e-2"];

/// The tiny experiment, run as it is and with a larger learning rate.
fn two_runs() -> (Dir, [String; 2]) {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "--quiet"]);
    dir.done(&[&["run", TINY, "--quiet"][..], &FASTER].concat());
    let ids = ids(&dir);
    let [a, b] = ids.as_slice() else { panic!("{ids:?}") };
    let runs = [a.clone(), b.clone()];
    (dir, runs)
}

fn ids(dir: &Dir) -> Vec<String> {
    let list = dir.done(&["runs", "ls", "--json"]).json();
    list.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

/// Widths of columns and numbers differ between machines.
fn words(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn numbers_filtered(check: impl FnOnce()) {
    filtered(|| {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"[+-]?\d+\.\d+", "NUMBER");
        settings.bind(check);
    });
}

#[test]
fn runs_by_metric() {
    let (dir, [a, b]) = two_runs();
    dir.done(&["run", TINY, "bpe", "--quiet"]);
    let order = |sort: &str| {
        let list = dir.done(&["runs", "ls", "--sort-by", sort, "--json"]).json();
        let runs = list.as_array().unwrap().clone();
        (runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), runs)
    };
    let (ids, runs) = order("stage1/loss");
    let loss = |run: &Json| run["metrics"]["stage1/loss"].as_f64();
    assert!(loss(&runs[0]).unwrap() <= loss(&runs[1]).unwrap(), "the smallest loss is first");
    assert_eq!(loss(&runs[2]), None, "who has none is last");
    let (by_time, _) = order("time");
    assert_eq!(by_time[..2], [a, b]);
    assert_eq!(ids[2], by_time[2]);
    let (_, runs) = order("retrieval*i2t R@10");
    let found: Vec<f64> = runs[..2]
        .iter()
        .map(|run| run["metrics"]["retrieval/test-id/en/i2t R@10"].as_f64().unwrap())
        .collect();
    assert!(found[0] >= found[1], "{found:?}");

    let table = dir.done(&["runs", "ls", "--sort-by", "loss", "--metric", "floor"]);
    let csv = dir.done(&["runs", "ls", "--csv", "--metric", "loss"]).stdout;
    assert!(csv.starts_with("run,state,ran,hits,time,seed,cell,file,stage1/loss\n"), "{csv}");
    assert!(csv.lines().nth(3).unwrap().ends_with("tiny.toml,"), "{csv}");
    let markdown = dir.done(&["runs", "ls", "--md", "--metric", "loss"]).stdout;
    let unknown = dir.heddle(&["runs", "ls", "--sort-by", "top1"]);
    assert_eq!(unknown.code, Some(1));
    numbers_filtered(|| {
        insta::assert_snapshot!([words(&table.stdout), markdown, unknown.stderr].join("\n\n"));
    });
}

#[test]
fn two_runs_side_by_side() {
    let (dir, [a, b]) = two_runs();
    let ended = dir.heddle(&["diff", &a, "latest"]);
    assert_eq!(ended.code, Some(4), "{ended}");
    // Which metrics happen to agree differs between machines.
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| !line.contains("retrieval/")).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.contains("zero_shot/")).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.contains("metrics are the same")).collect();
    numbers_filtered(|| insta::assert_snapshot!(words(&lines.join("\n"))));
    let json = dir.heddle(&["diff", &a, &b, "--json"]).json();
    assert_eq!(json["first"]["node"], "stage1");
    assert_eq!(json["first"]["inputs_equal"], true);
    assert_eq!(json["first"]["key_equal"], false);
    assert_eq!(json["config"][0]["field"], "nodes.stage1.optimizer.lr");
    assert_eq!(json["equal"], serde_json::json!(["heldout", "pairs", "bpe", "floor"]));

    let same = dir.done(&["diff", &a, &a]);
    assert!(same.stdout.contains("artifacts are the same: "), "{same}");
    assert!(!same.stdout.contains("differ"), "{same}");
}

/// Model graphs are compared by the nodes that run them.
#[test]
fn models_side_by_side() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "stage1", "--quiet"]);
    dir.edit("graphs/tiny.toml", "depth       = 1", "depth       = 2");
    dir.done(&["run", TINY, "stage1", "--quiet"]);
    let ids = ids(&dir);
    let json = dir.heddle(&["diff", &ids[0], &ids[1], "--json"]).json();
    let model = &json["models"][0];
    assert_eq!(model["nodes"], serde_json::json!(["embed", "retrieval", "stage1", "zero_shot"]));
    assert_eq!((&model["changes"][0]["old"], &model["changes"][0]["new"]), (&"1".into(), &"2".into()));
    // The same again, with what differs and what is there in one only.
    dir.done(&["run", TINY, "bpe", "--quiet"]);
    let part = dir.done(&["diff", &ids[1], "latest"]);
    assert!(part.stdout.contains("only in a: stage1"), "{part}");
    dir.done(&["run", TINY, "heldout", "--quiet"]);
    let nothing = dir.heddle(&["diff", &ids[1], "latest"]);
    assert_eq!(nothing.code, Some(4));
    assert!(nothing.stdout.contains("no artifacts in common"), "{nothing}");
}

#[test]
fn runs_that_are_not_there() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "pairs", "--quiet"]);
    let said: Vec<Ended> = vec![
        dir.heddle(&["diff", "latest", "1999"]),
        dir.heddle(&["replay", "1999"]),
        dir.heddle(&["why", "pairs", TINY, "--vs", "1999"]),
        dir.heddle(&["why", "paris", TINY]),
        dir.heddle(&["why", "bpe", TINY, "--vs", "latest"]),
    ];
    let codes: Vec<Option<i32>> = said.iter().map(|ended| ended.code).collect();
    assert_eq!(codes, [Some(1), Some(1), Some(1), Some(3), Some(1)]);
    let said: String = said.iter().map(|ended| ended.stderr.as_str()).collect();
    filtered(|| insta::assert_snapshot!(said));
}

/// Results come back from the cache: the same files, the same report.
#[test]
fn a_replay_brings_results_back() {
    let dir = Dir::tiny();
    let first = dir.done(&["run", TINY]);
    let id = ids(&dir)[0].clone();
    let folder = dir.path().join("experiments/.heddle/runs").join(&id).join("artifacts");
    let files = || {
        let entries = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    fs::remove_dir_all(&folder).unwrap();
    // The experiment is not needed for it.
    fs::remove_file(dir.path().join(TINY)).unwrap();
    let replay = dir.done(&["replay", "latest"]);
    assert_eq!(replay.stdout, first.stdout);
    assert!(replay.stderr.contains("nothing was computed"), "{replay}");
    assert_eq!(files(), before);
    assert_eq!(ids(&dir), [id], "looking back is no run");

    dir.done(&["cache", "clear", "--home", "experiments/.heddle"]);
    fs::remove_dir_all(&folder).unwrap();
    let gone = dir.heddle(&["replay", "latest"]);
    assert_eq!(gone.code, Some(1));
    filtered(|| insta::assert_snapshot!(gone.stderr));
    assert!(!folder.exists());
}

/// The record keeps the experiment and its graph: a run can be done again when the files say something else.
#[test]
fn a_replay_computes_again() {
    let dir = Dir::tiny();
    let more = "\n[ablations.short]\n\"params.steps\" = 2\n";
    dir.write(TINY, dir.read(TINY) + more);
    dir.done(&["run", TINY, "--ablation", "short", "--quiet", "-S", "seed=5"]);
    let id = ids(&dir)[0].clone();
    fs::remove_file(dir.path().join("graphs/tiny.toml")).unwrap();
    dir.write(TINY, "schema = 1\n");
    // From another folder too.
    let home = dir.path().join("experiments/.heddle");
    let elsewhere = Dir::empty();
    let arguments = ["replay", &id, "--recompute", "--home", home.to_str().unwrap()];
    let same = elsewhere.done(&arguments);
    assert_eq!(same.stdout, "every artifact of 9 nodes is the same\n");
    let again = dir.last_run();
    assert_eq!((&again["replays"], &again["seed"]), (&id.as_str().into(), &5.into()));
    let states = dir.states();
    assert!(states.iter().all(|(_, state)| state == "ran"), "{states:?}");
    assert_eq!(fs::read_dir(home.join("replays")).unwrap().count(), 0);

    // A record that says something else than what comes out.
    let path = home.join("runs").join(&id).join("record.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Json = serde_json::from_str(&text).unwrap();
    let nodes = record["nodes"].as_array_mut().unwrap();
    let bpe = nodes.iter_mut().find(|node| node["name"] == "bpe").unwrap();
    let other = bpe["key"].clone();
    bpe["outputs"]["tokenizer"]["digest"] = other;
    fs::write(&path, record.to_string()).unwrap();
    let different = dir.heddle(&["replay", &id, "--recompute", "--quiet"]);
    assert_eq!(different.code, Some(4), "{different}");
    filtered(|| insta::assert_snapshot!(different.stdout));
}

#[test]
fn reasons_field_by_field() {
    let (dir, [a, _]) = two_runs();
    let why = |arguments: &[&str]| {
        let text = dir.done(&[&["why"][..], arguments].concat()).stdout;
        format!("why {}\n{text}", arguments.join(" ").replace(&a, "RUN"))
    };
    let slower = ["-S", "nodes.stage1.optimizer.lr=1e-4"];
    let text = [
        why(&["stage1", TINY]),
        why(&[&["stage1", TINY][..], &slower, &["-S", "seed=9", "-S", "nodes.stage1.batch=8"]].concat()),
        why(&[&["report", TINY][..], &slower].concat()),
        why(&[&["zero_shot", TINY, "--vs", &a][..], &FASTER].concat()),
        why(&["stage1", TINY, "--vs", &a]),
    ]
    .join("\n");
    filtered(|| insta::assert_snapshot!(text));
    let json = dir.done(&[&["why", "stage1", TINY, "--json"][..], &slower].concat()).json();
    assert_eq!((&json["action"], &json["differs_in"][0]["new"]), (&"run".into(), &"0.0001".into()));

    let fresh = Dir::tiny();
    let never = fresh.done(&["why", "bpe", TINY]).stdout;
    filtered(|| insta::assert_snapshot!(never));
    assert!(!fresh.path().join("experiments/.heddle").exists(), "asking leaves no trace");
}
