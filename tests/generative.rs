//! A language model, stages 1 and 2, and what is asked of them: matching, captions.

use crate::util::{Dir, repository};

const FILE: &str = "generative.toml";

/// A folder with the experiment, its graphs named by their place in the repository.
fn dir() -> Dir {
    let dir = Dir::empty();
    let text = std::fs::read_to_string(repository().join("tests/experiments").join(FILE)).unwrap();
    dir.write(FILE, text.replace("../../graphs", repository().join("graphs").to_str().unwrap()));
    dir
}

#[test]
fn captions_are_written_by_a_finished_run() {
    let dir = dir();
    let early = dir.heddle(&["caption", FILE, "a.png"]);
    assert_eq!(early.code, Some(1), "{early}");
    assert!(
        early.stderr.contains("is not in the cache: run `heddle run generative.toml captions` first"),
        "{early}"
    );

    let ran = dir.done(&["run", FILE, "--threads", "1"]);
    assert!(
        ran.stdout.contains("CIDEr") && ran.stdout.contains("accuracy") && ran.stdout.contains("F1"),
        "{ran}"
    );
    let digests = dir.digests();

    // The same from two threads and in one batch.
    let other = self::dir();
    other.done(&[
        "run",
        FILE,
        "-q",
        "--threads",
        "2",
        "-S",
        "nodes.captions.batch=64",
        "-S",
        "nodes.matching.batch=64",
    ]);
    assert_eq!(other.digests(), digests);

    dir.done(&["data", "export", FILE, "heldout", "--out", "out", "--format", "webdataset", "-q"]);
    unpack(&dir, "out");
    let written = captions(&dir);
    let images: Vec<String> = written.iter().take(3).map(|(key, _)| format!("images/{key}.png")).collect();
    let mut arguments = vec!["caption", FILE, "--json"];
    arguments.extend(images.iter().map(String::as_str));
    let said = dir.done(&arguments);
    let found: Vec<String> = said
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["caption"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(found, written.iter().take(3).map(|(_, caption)| caption.clone()).collect::<Vec<_>>());
}

/// A stop string ends a text before it, for beams as for a single continuation.
#[test]
fn stop_strings_end_texts() {
    let dir = dir();
    dir.done(&["run", FILE, "captions", "-q"]);
    let whole = captions(&dir);
    let stop =
        whole.iter().flat_map(|(_, caption)| caption.chars()).find(|letter| letter.is_alphabetic()).unwrap();
    dir.done(&["run", FILE, "captions", "-q", "-S", &format!("nodes.captions.stop=[\"{stop}\"]")]);
    let cut = |(key, caption): &(String, String)| {
        (key.clone(), caption.split(stop).next().unwrap_or_default().trim().to_owned())
    };
    let cut: Vec<(String, String)> = whole.iter().map(cut).collect();
    assert_eq!(captions(&dir), cut);
    assert_ne!(cut, whole);
    let empty = dir.heddle(&["check", FILE, "-S", "nodes.captions.stop=[\"\"]"]);
    assert!(empty.code == Some(3) && empty.stderr.contains("an empty string ends nothing"), "{empty}");
}

/// Questions may have a tokenizer of their own; one with more tokens than their model embeds is refused.
#[test]
fn questions_have_a_tokenizer_of_their_own() {
    let dir = dir();
    let one = dir.heddle(&["check", FILE, "-S", "nodes.stage3.in.questions=chat_bpe"]);
    assert!(
        one.code == Some(3) && one.stderr.contains("but `qllama/model.embed_tokens.weight` embeds 320"),
        "{one}"
    );
}

/// A dialogue that does not fit the decoder's context names its record; nothing is kept of the stage.
#[test]
fn answers_longer_than_the_context_are_refused() {
    let dir = dir();
    let long = dir.heddle(&["run", FILE, "stage3", "-q", "-S", "params.dialogue-length=24"]);
    let line = long.stderr.lines().find(|line| line.starts_with("error: node")).unwrap_or_default();
    assert!(long.code == Some(1) && line.contains("record `") && line.contains("24 are allowed"), "{long}");
    assert!(!dir.nodes_that("ran").contains(&"stage3".to_owned()));
}

/// Key and caption, as the evaluation wrote them.
fn captions(dir: &Dir) -> Vec<(String, String)> {
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    let text = dir.read(&format!(".heddle/runs/{id}/artifacts/captions.captions.jsonl"));
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| line[name].as_str().unwrap().to_owned();
        (field("key"), field("caption"))
    };
    text.lines().map(line).collect()
}

/// The pictures of exported tars, as files.
fn unpack(dir: &Dir, folder: &str) {
    let images = dir.path().join("images");
    std::fs::create_dir_all(&images).unwrap();
    for file in std::fs::read_dir(dir.path().join(folder)).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "tar") {
            tar::Archive::new(std::fs::File::open(file).unwrap()).unpack(&images).unwrap();
        }
    }
}

#[test]
fn images_that_do_not_decode_and_nodes_that_write_nothing_are_named() {
    let dir = dir();
    dir.done(&["run", FILE, "-q"]);
    dir.write("noise.png", "noise");
    let broken = dir.heddle(&["caption", FILE, "noise.png"]);
    assert!(broken.code == Some(1) && broken.stderr.contains("noise.png"), "{broken}");
    let absent = dir.heddle(&["caption", FILE, "absent.png"]);
    assert!(absent.stderr.contains("reading absent.png"), "{absent}");
    let wrong = dir.heddle(&["caption", FILE, "noise.png", "--node", "matching"]);
    assert!(wrong.stderr.contains("`matching` is no `eval.caption` node; there are captions"), "{wrong}");
}

/// What another node does not have starts from the seed, and is said.
#[test]
fn parameters_that_are_not_inherited_are_named() {
    let dir = dir();
    let ran = dir.done(&["run", FILE, "stage2"]);
    assert!(
        ran.stderr.contains("stage2: ")
            && ran.stderr.contains("start from the seed, such as `qllama/queries`"),
        "{ran}"
    );
    let wrong = dir.heddle(&["run", FILE, "stage2", "-S", "nodes.stage2.weights.qllama=stage1/vit"]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("has no"), "{wrong}");
}

/// The answers of the evaluation, asked for on the command line; a second question is asked in the same dialogue.
#[test]
fn a_finished_run_answers_questions() {
    let dir = dir();
    dir.done(&["run", FILE, "-q"]);
    dir.done(&["data", "export", FILE, "scenes", "--out", "out", "--format", "webdataset", "-q"]);
    unpack(&dir, "out");
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    let answers = dir.read(&format!(".heddle/runs/{id}/artifacts/answers.answers.jsonl"));
    let first: serde_json::Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    let [key, question, said] =
        ["key", "question", "said"].map(|field| first[field].as_str().unwrap().to_owned());
    let image = format!("images/{key}.png");
    let asked = dir.done(&["chat", FILE, "--image", &image, "--prompt", &question, "--prompt", "And now?"]);
    let lines: Vec<&str> = asked.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0].trim()), (2, said.as_str()), "{asked}");
}
