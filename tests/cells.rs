//! Variants of an experiment: running them as a set, planning them, going on with a set.

use std::{fs, path::PathBuf};

use serde_json::Value as Json;

use crate::util::{Dir, Ended, TINY, filtered, finish, wait_until};

/// The tiny experiment with two ablations and two sweeps.
fn varied() -> Dir {
    let dir = Dir::tiny();
    let more = r#"
[ablations.short]
"params.steps" = 2

[ablations.flat]
"nodes.stage1.augment.flip" = 0.0

[sweeps.lr]
grid = { "nodes.stage1.optimizer.lr" = [1e-3, 1e-2], seed = [3, 4] }

[sweeps.batch]
list = [{ "nodes.stage1.batch" = 16 }, { "nodes.stage1.batch" = 8 }]
"#;
    dir.write(TINY, dir.read(TINY) + more);
    dir
}

/// What every cell is and how it stands, from `--json`.
fn states(ended: &Ended) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let cells = ended.json()["cells"].as_array().unwrap().clone();
    cells.iter().map(|cell| (text(&cell["name"]), text(&cell["state"]))).collect()
}

/// The run record of a cell.
fn record(dir: &Dir, cell: &Json) -> Json {
    dir.done(&["runs", "show", cell["run"].as_str().unwrap(), "--json"]).json()
}

fn count(record: &Json, state: &str) -> usize {
    record["nodes"].as_array().unwrap().iter().filter(|node| node["state"] == state).count()
}

fn folder(dir: &Dir, ended: &Ended) -> PathBuf {
    dir.path().join(ended.json()["folder"].as_str().unwrap())
}

/// Widths of columns and numbers differ between machines.
fn words(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn numbers_filtered(check: impl FnOnce()) {
    filtered(|| {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\d+\.\d+", "NUMBER");
        settings.bind(check);
    });
}

/// Side by side, cells give what they give one after the other, and what several need is computed by one of them.
#[test]
fn cells_run_side_by_side() {
    let (dir, other) = (varied(), varied());
    let parallel = dir.done(&["run", TINY, "--sweep", "lr", "--json", "--max-parallel", "3"]);
    let series = other.done(&["run", TINY, "--sweep", "lr", "--json", "-q"]);
    let cells = |ended: &Ended| ended.json()["cells"].as_array().unwrap().clone();
    let numbers = |ended: &Ended| {
        let of = |cell: &Json| (cell["overrides"].clone(), cell["metrics"].clone());
        cells(ended).iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&parallel), numbers(&series));
    let records: Vec<Json> = cells(&parallel).iter().map(|cell| record(&dir, cell)).collect();
    let ran = |name: &str| {
        let ran = |record: &&Json| {
            let nodes = record["nodes"].as_array().unwrap();
            nodes.iter().any(|node| node["name"] == name && node["state"] == "ran")
        };
        records.iter().filter(ran).count()
    };
    let counts = ["pairs", "heldout", "bpe", "floor", "stage1"].map(ran);
    assert_eq!(counts, [1, 1, 1, 1, 4]);
    assert!(parallel.stderr.contains("seed=3] done  stage1"), "{parallel}");
    let alone = dir.heddle(&["run", TINY, "--max-parallel", "2"]);
    assert!(alone.code == Some(1) && alone.stderr.contains("is for variants"), "{alone}");
    // What fails for one fails for all, once.
    let broken = ["-S", "nodes.bpe.columns=[\"xx\"]", "--max-parallel", "2", "--keep-going"];
    let failed = dir.heddle(&[&["run", TINY, "--sweep", "lr", "--json"][..], &broken].concat());
    assert_eq!(failed.code, Some(1));
    assert_eq!(failed.stderr.matches("] run   bpe").count(), 1, "{failed}");
    // A forced node runs once for all of them.
    let forced = dir.done(&["run", TINY, "--sweep", "lr", "--json", "--max-parallel", "2", "--force", "bpe"]);
    let ran: usize = cells(&forced).iter().map(|cell| count(&record(&dir, cell), "ran")).sum();
    assert_eq!(ran, 1, "{forced}");
}

/// Cells share what they have in common; the same command again finds all of it.
#[test]
fn a_sweep_is_one_set() {
    let dir = varied();
    let sweep = ["run", TINY, "--sweep", "lr", "--json"];
    let first = dir.done(&sweep);
    let cells = first.json()["cells"].as_array().unwrap().clone();
    assert_eq!(cells.len(), 4);
    let records: Vec<Json> = cells.iter().map(|cell| record(&dir, cell)).collect();
    assert_eq!(count(&records[0], "ran"), 9);
    // Data, tokenizer and floor are the first cell's.
    assert_eq!(records[1..].iter().map(|record| count(record, "hit")).collect::<Vec<_>>(), [4, 4, 4]);
    for (record, cell) in records.iter().zip(&cells) {
        assert_eq!(record["group"], first.json()["group"]);
        assert_eq!(record["cell"]["kind"], "sweep");
        assert_eq!(record["cell"]["name"], "lr");
        assert_eq!(record["cell"]["overrides"], cell["overrides"]);
        assert_eq!(record["seed"], cell["overrides"]["seed"]);
        assert!(cell["metrics"]["zero_shot/concept/test-id/en/top-1"].is_number(), "{cell}");
        assert!(cell["metrics"]["stage1/loss"].is_number(), "{cell}");
    }
    // A cell is the run with the same changes on the command line.
    let alone = dir.done(&["run", TINY, "-S", "nodes.stage1.optimizer.lr=1e-2", "-S", "seed=4"]);
    assert!(alone.stderr.contains("nothing to do"), "{alone}");

    let folder = folder(&dir, &first);
    let names = |folder: &PathBuf| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&folder), ["group.json", "lr.svg", "sweep.csv", "table.md"]);
    let svg = fs::read_to_string(folder.join("lr.svg")).unwrap();
    assert!(svg.contains("nodes.stage1.optimizer.lr"), "{svg}");
    let csv = fs::read_to_string(folder.join("sweep.csv")).unwrap();
    assert!(csv.starts_with("cell,run,state,seconds,nodes.stage1.optimizer.lr,seed,"), "{csv}");
    assert_eq!(csv.lines().count(), 5);

    let second = dir.done(&sweep);
    let metrics = |ended: &Ended| {
        let cells = ended.json()["cells"].as_array().unwrap().clone();
        cells.iter().map(|cell| cell["metrics"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(metrics(&second), metrics(&first));
    assert_ne!(second.json()["group"], first.json()["group"]);
    for cell in second.json()["cells"].as_array().unwrap() {
        assert_eq!(count(&record(&dir, cell), "hit"), 9);
    }
}

#[test]
fn tables_show_what_differs() {
    let dir = varied();
    let ended = dir.done(&[
        "run",
        TINY,
        "--ablation",
        "flat",
        "--ablation",
        "short",
        "--metric",
        "loss",
        "--metric",
        "floor",
    ]);
    let id = fs::read_dir(dir.path().join("experiments/.heddle/groups")).unwrap().next().unwrap().unwrap();
    let markdown = fs::read_to_string(id.path().join("table.md")).unwrap();
    assert!(!id.path().join("lr.svg").exists());
    let notes: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("cell")).collect();
    let text = [words(&ended.stdout), markdown, notes.join("\n")].join("\n\n");
    numbers_filtered(|| insta::assert_snapshot!(text));
}

/// A cell that fails stops the set, unless it is told to go on; what is left can be gone on with.
#[test]
fn a_set_can_be_gone_on_with() {
    let dir = Dir::tiny();
    let sweep = "\n[sweeps.mixed]\n\
                 list = [{ \"params.steps\" = 4 }, { \"nodes.bpe.vocab\" = 5 }, { \"nodes.stage1.batch\" = 8 }]\n";
    dir.write(TINY, dir.read(TINY) + sweep);
    // A tokenizer of five tokens is a mistake of the file, which is found before anything runs.
    let wrong = dir.heddle(&["run", TINY, "--sweep", "mixed"]);
    assert_eq!(wrong.code, Some(3), "{wrong}");
    assert!(!dir.path().join("experiments/.heddle/runs").exists());
    // The records have no column `nothing`: this shows when the node runs.
    dir.edit(TINY, "\"nodes.bpe.vocab\" = 5 ", "\"nodes.zero_shot.tasks.concept.class\" = \"nothing\" ");
    let stopped = dir.heddle(&["run", TINY, "--sweep", "mixed", "--json", "-S", "seed=5"]);
    assert_eq!(stopped.code, Some(1), "{stopped}");
    let expect = |states: [&str; 3]| states.map(|state| ("mixed".to_owned(), state.to_owned()));
    assert_eq!(states(&stopped), expect(["done", "failed", "waiting"]));

    let going = dir.heddle(&["run", TINY, "--retry", "failed", "--keep-going", "--json"]);
    assert_eq!(going.code, Some(1), "{going}");
    assert_eq!(states(&going), expect(["done", "failed", "done"]));
    assert_eq!(going.json()["group"], stopped.json()["group"]);
    // Of the cell that failed, what does not need the failed node has run.
    let failed = record(&dir, &going.json()["cells"][1]);
    let state = |name: &str| {
        let nodes = failed["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!(["zero_shot", "report"].map(state), ["failed", "skipped"]);
    assert!(["ran", "hit"].contains(&state("retrieval").as_str().unwrap()));
    assert_eq!(failed["set"][0], "seed=5");

    dir.edit(TINY, "class\" = \"nothing\"", "class\" = \"cp\"");
    // The cell is another one now: a cell of a sweep is what it changes.
    let mended = dir.heddle(&["run", TINY, "--retry", "failed", "--json"]);
    assert_eq!(mended.code, Some(0), "{mended}");
    assert!(mended.stderr.contains("is not in the file any more"), "{mended}");
}

/// An interrupt stops the cell at a step and starts no other; what is left can be gone on with.
#[test]
fn an_interrupted_set() {
    let dir = Dir::tiny();
    let endless = "\n[ablations.endless]\n\
                   \"params.steps\" = 1000000\n\"nodes.stage1.log-every\" = 1000\n\n\
                   [ablations.short]\n\"params.steps\" = 2\n";
    dir.write(TINY, dir.read(TINY) + endless);
    let home = dir.path().join("home");
    let set = ["run", TINY, "--all", "stage1", "--home", "home", "--json"];
    let child = dir.start(&set);
    let runs = home.join("runs");
    wait_until("the second cell", || fs::read_dir(&runs).is_ok_and(|runs| runs.count() == 2));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signalled.unwrap().success());
    let ended = finish(child);
    assert_eq!(ended.code, Some(130), "{ended}");
    let expect = |states: [&str; 3]| -> Vec<(String, String)> {
        let names = ["base", "endless", "short"].map(str::to_owned);
        names.into_iter().zip(states.map(str::to_owned)).collect()
    };
    assert_eq!(states(&ended), expect(["done", "interrupted", "waiting"]));
    dir.edit(TINY, "1000000", "3");
    let retried = dir.done(&["run", TINY, "--retry", "failed", "--home", "home", "--json"]);
    assert_eq!(states(&retried), expect(["done"; 3]));
    // Only what was left has run.
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 4);
}

/// Without variants too, a failed node leaves those alone that do not need it.
#[test]
fn going_on_after_a_failure() {
    let dir = Dir::tiny();
    dir.edit(
        TINY,
        "[nodes.zero_shot.tasks.concept]\nclass = \"cp\"",
        "[nodes.zero_shot.tasks.concept]\nclass = \"no\"",
    );
    let ended = dir.heddle(&["run", TINY, "--keep-going", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert_eq!(ended.json()["state"], "failed");
    assert!(ended.json()["metrics"]["retrieval/test-id/en/i2t R@1"].is_number(), "{ended}");
    let states = |state: &str| dir.nodes_that(state);
    assert_eq!(
        (states("failed"), states("skipped")),
        (vec!["zero_shot".to_owned()], vec!["report".to_owned()])
    );
    assert_eq!(states("ran").len(), 7);
}

/// An ablation stays itself when its changes are mended.
#[test]
fn a_mended_ablation_is_retried() {
    let dir = Dir::tiny();
    let tasks = "\n[ablations.other]\n\"nodes.zero_shot.tasks.concept.class\" = \"nothing\"\n";
    dir.write(TINY, dir.read(TINY) + tasks);
    let failed = dir.heddle(&["run", TINY, "--all", "--json"]);
    assert_eq!(failed.code, Some(1), "{failed}");
    dir.edit(TINY, "\"nothing\"", "\"group\"");
    let mended = dir.done(&["run", TINY, "--retry", "failed", "--json"]);
    let expected = [("base", "done"), ("other", "done")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(states(&mended), expected);
    let again = dir.done(&["run", TINY, "--retry", "failed", "--json"]);
    assert_eq!(states(&again), expected, "nothing is left, and the table is shown");
}

/// A node is forced once, however many cells have it.
#[test]
fn forcing_is_once_for_the_set() {
    let dir = varied();
    dir.done(&["run", TINY, "--all", "bpe"]);
    let forced = dir.done(&["run", TINY, "--sweep", "lr", "bpe", "--force", "bpe", "--json"]).json();
    let cells = forced["cells"].as_array().unwrap();
    let ran: Vec<usize> = cells.iter().map(|cell| count(&record(&dir, cell), "ran")).collect();
    assert_eq!(ran, [1, 0, 0, 0]);
}

#[test]
fn plans_of_cells() {
    let dir = varied();
    let before = dir.heddle(&["plan", TINY, "--all"]);
    assert_eq!(before.code, Some(2), "{before}");
    dir.done(&["run", TINY]);
    let between = dir.heddle(&["plan", TINY, "--all"]);
    dir.done(&["run", TINY, "--ablation", "short", "--quiet"]);
    let after = dir.done(&["plan", TINY, "--ablation", "short"]);
    let text = [&before.stdout, &between.stdout, &after.stdout].map(|text| words(text)).join("\n\n");
    filtered(|| insta::assert_snapshot!(text));
    let json = dir.heddle(&["plan", TINY, "--sweep", "lr", "--json"]).json();
    let cell = &json["cells"][2];
    assert_eq!(cell["overrides"]["nodes.stage1.optimizer.lr"], 0.01);
    assert_eq!(cell["nodes"].as_array().unwrap().len(), 9);
}

#[test]
fn names_that_are_not_there() {
    let dir = varied();
    let said = [
        dir.heddle(&["run", TINY, "--ablation", "shrot"]),
        dir.heddle(&["plan", TINY, "--sweep", "width"]),
        dir.heddle(&["run", TINY, "--sweep", "lr", "stage2"]),
        dir.heddle(&["run", TINY, "--retry", "failed"]),
    ];
    assert_eq!(said.each_ref().map(|ended| ended.code), [Some(3), Some(3), Some(3), Some(1)]);
    insta::assert_snapshot!(said.each_ref().map(|ended| ended.stderr.as_str()).concat());
    let plain = Dir::tiny();
    let none = plain.heddle(&["run", TINY, "--ablation", "short"]);
    insta::assert_snapshot!(none.stderr, @"error: experiments/tiny.toml has no ablation `short`; it has none");
}
