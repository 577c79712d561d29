//! Running, running again, and what results depend on.

use crate::util::{Dir, TINY};

#[test]
fn the_second_run_has_nothing_to_do() {
    let dir = Dir::tiny();
    let first = dir.done(&["run", TINY]);
    assert!(first.stderr.contains("done: 9 ran, 0 from the cache"), "{first}");
    let digests = dir.digests();
    let second = dir.done(&["run", TINY]);
    assert!(second.stderr.contains("nothing to do: all 9 nodes are in the cache"), "{second}");
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(dir.digests(), digests);
    assert_eq!(dir.nodes_that("hit").len(), 9);
    // Numbers differ in the last digits between processors, and the width of columns with them.
    let words = first.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let text = words.collect::<Vec<_>>().join("\n");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d+\.\d+(e-?\d+)?", "NUMBER");
    settings.bind(|| insta::assert_snapshot!(text));
}

/// Every artifact lies in the run's folder under its node's name.
#[test]
fn artifacts_are_delivered() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    let folder = dir.path().join("experiments/.heddle/runs").join(id).join("artifacts");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    insta::assert_snapshot!(names.join("\n"));
}

/// Two empty caches, one and two threads: equal bytes in every artifact.
#[test]
fn results_depend_on_the_seed_and_not_on_threads() {
    let run = |arguments: &[&str]| {
        let dir = Dir::tiny();
        dir.done(&[&["run", TINY, "--quiet"], arguments].concat());
        dir.digests()
    };
    let one = run(&["--threads", "1"]);
    assert_eq!(one, run(&["--threads", "2"]));
    let other = run(&["--threads", "2", "-S", "seed=4"]);
    for ((name, a), (_, b)) in one.iter().zip(&other) {
        let drawn =
            ["stage1", "embed", "zero_shot", "retrieval", "report"].iter().any(|node| name.starts_with(node));
        // A rank can come out the same by chance; the features cannot.
        if name.starts_with("stage1") || name.starts_with("embed") {
            assert_ne!(a, b, "{name} does not depend on the seed");
        } else if !drawn {
            assert_eq!(a, b, "{name} depends on the seed");
        }
    }
}

/// Inputs count by their bytes: a source that is asked in another way and answers the same re-computes itself only.
#[test]
fn equal_bytes_upstream_are_hits_downstream() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let before = dir.digests();
    dir.done(&["run", TINY, "-S", "nodes.pairs.split=[\"train\"]"]);
    assert_eq!(dir.nodes_that("ran"), ["pairs"]);
    assert_eq!(dir.digests(), before);
}

#[test]
fn a_forced_node_runs_alone() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let before = dir.digests();
    for node in ["pairs", "stage1"] {
        dir.done(&["run", TINY, "--force", node]);
        assert_eq!(dir.nodes_that("ran"), [node]);
        assert_eq!(dir.digests(), before, "{node} gives other bytes the second time");
    }
}

#[test]
fn a_change_runs_what_it_touches() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    dir.done(&["run", TINY, "-S", "nodes.report.title=other"]);
    assert_eq!(dir.nodes_that("ran"), ["report"]);
    dir.done(&["run", TINY, "-S", "nodes.stage1.optimizer.lr=2e-3"]);
    let hits = dir.nodes_that("hit");
    assert!(
        ["pairs", "heldout", "bpe", "floor"].iter().all(|node| hits.iter().any(|hit| hit == node)),
        "{hits:?}"
    );
    // Both variants are kept: going back costs nothing.
    dir.done(&["run", TINY]);
    assert_eq!(dir.nodes_that("hit").len(), 9);
}

#[test]
fn only_what_is_asked_for() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    assert_eq!(dir.nodes_that("ran"), ["pairs", "bpe"]);
    assert_eq!(dir.nodes_that("skipped").len(), 7);
}

/// Standard output is for results, and `--quiet` leaves nothing but them.
#[test]
fn quiet_says_nothing() {
    let dir = Dir::tiny();
    let ended = dir.done(&["run", TINY, "--quiet"]);
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.starts_with("tiny\n"), "{ended}");
}

/// A stage that starts from another stage's weights, of which it trains a part.
#[test]
fn a_second_stage_trains_a_part() {
    let dir = Dir::tiny();
    let stage = "\n[nodes.stage2]\nkind = \"train\"\ngraph = \"../graphs/tiny.toml\"\nsteps = 2\nbatch = 8\n\
                 in = { records = \"pairs\", tokenizer = \"bpe\" }\nweights = { vit = \"stage1/vit\" }\n\
                 train = [\"pool\", \"text\", \"itc\"]\nloss = { itc = 1.0 }\n";
    dir.write(TINY, dir.read(TINY) + stage);
    dir.done(&["run", TINY, "stage2"]);
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    let weights = |stage: &str| {
        let file = format!("experiments/.heddle/runs/{id}/artifacts/{stage}.weights.safetensors");
        let bytes = std::fs::read(dir.path().join(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let of = |prefix: &str| -> Vec<(String, Vec<u8>)> {
            let mut found: Vec<_> = tensors
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
                .collect();
            found.sort();
            assert!(!found.is_empty(), "{stage} has no {prefix}");
            found
        };
        (of("vit."), of("pool."))
    };
    let (first, second) = (weights("stage1"), weights("stage2"));
    assert_eq!(first.0, second.0, "frozen parameters moved");
    assert_ne!(first.1, second.1, "trained parameters did not move");
}

#[test]
fn a_node_that_fails_says_why() {
    let dir = Dir::tiny();
    let ended = dir.heddle(&["run", TINY, "-S", "nodes.bpe.columns=[\"klingon\"]"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert_eq!(dir.nodes_that("failed"), ["bpe"]);
    assert_eq!(dir.last_run()["state"], "failed");
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    insta::assert_snapshot!(errors.join("\n"), @"error: node `bpe`: no record has text in the column `klingon`");
}

/// A learning rate that blows up is an error, not a table of zeros.
#[test]
fn a_loss_that_is_not_finite_fails() {
    let dir = Dir::tiny();
    let lr = "nodes.stage1.optimizer.lr=1e30";
    let ended = dir.heddle(&["run", TINY, "stage1", "-S", lr, "-S", "params.steps=20"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("not finite at step"), "{ended}");
}

/// What the device cannot do is said before anything runs.
#[test]
fn a_device_that_is_not_there_is_refused_at_the_start() {
    let dir = Dir::tiny();
    let precision = "nodes.stage1.precision";
    for (set, told) in [
        (format!("{precision}=f16"), "node `stage1`: precision `f16` needs a GPU"),
        (format!("{precision}=bf16"), "node `stage1`: precision `bf16` needs a GPU for training"),
        ("run.device=cuda:0".to_owned(), "node `stage1`: "),
    ] {
        let ended = dir.heddle(&["run", TINY, "-S", &set]);
        assert_eq!(ended.code, Some(1), "{ended}");
        assert!(ended.stderr.contains(told) && ended.stderr.contains("nothing was run"), "{ended}");
    }
}

/// bf16 features are other features, cached under another key; where the processor lacks the instructions, that is
/// said.
#[test]
fn frozen_towers_run_in_bf16_where_the_processor_can() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let single = dir.digests();
    let ended = dir.heddle(&["run", TINY, "-S", "nodes.embed.precision=bf16"]);
    #[cfg(target_arch = "x86_64")]
    let can = is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let can = false;
    if !can {
        assert!(ended.stderr.contains("needs a processor with `avx512_bf16`"), "{ended}");
        return;
    }
    assert_eq!(ended.code, Some(0), "{ended}");
    let features = |digests: &[(String, String)]| {
        digests.iter().find(|(name, _)| name.starts_with("embed")).map(|(_, digest)| digest.clone())
    };
    assert_ne!(features(&dir.digests()), features(&single));
    assert!(dir.nodes_that("hit").contains(&"stage1".to_owned()), "training is untouched");
}
