//! The list of kinds, their pages, and what every kind owes its readers.

use std::collections::BTreeSet;

use crate::util::{Dir, Ended};

fn nodes(arguments: &[&str]) -> Ended {
    Dir::empty().heddle(&[&["nodes"], arguments].concat())
}

/// Names and summaries, by the kind of file.
fn kinds() -> [Vec<(String, String)>; 2] {
    let list = nodes(&[]).stdout;
    let (experiment, model) = list.split_once("In model graphs:").unwrap();
    [experiment, model].map(|part| {
        let lines = part.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
        lines.map(|(name, summary)| (name.to_owned(), summary.trim().to_owned())).collect()
    })
}

#[test]
fn list() {
    insta::assert_snapshot!(nodes(&[]).stdout);
}

#[test]
fn page_of_a_model_node() {
    insta::assert_snapshot!(nodes(&["model.internvit"]).stdout);
}

#[test]
fn page_of_a_pipeline_node() {
    insta::assert_snapshot!(nodes(&["train"]).stdout);
}

#[test]
fn unknown_kind() {
    let ended = nodes(&["model.internvt"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.stderr, @"error: there is no kind `model.internvt`; did you mean `model.internvit`?");
}

/// Names are `family.name` (`train`, `features` and `report` are families of one); summaries are phrases.
#[test]
fn every_kind_is_documented() {
    let kinds = kinds().concat();
    let names: BTreeSet<&String> = kinds.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), kinds.len(), "a name is taken twice");
    for (name, summary) in &kinds {
        let words: Vec<&str> = name.split('.').collect();
        let plain =
            |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.is_empty();
        assert!(words.len() <= 2 && words.iter().all(plain), "{name}");
        assert!(
            words.len() == 2 || ["train", "features", "report"].contains(&words[0]),
            "{name} has no family"
        );
        assert!(!summary.ends_with('.') && summary.len() > 10, "{name}: {summary}");
        let page = nodes(&[name]).stdout;
        assert!(page.contains("\nExample\n"), "{name} has no example");
        for line in page.lines().filter(|line| line.starts_with("  ") && line.contains(": ")) {
            assert!(!line.ends_with(": "), "{name}: `{line}` says nothing");
        }
    }
}

/// The start of a model graph with whatever the frame's nodes take.
pub const MODEL_HEAD: &str = "schema = 1\n[inputs]\nimage = { type = \"image\", size = 224 }\ncaption = \"text\"\nlabel = \"targets\"\n\
    weights = { type = \"sequence\", length = 257, width = 3200 }\n";

/// Nodes of model graphs that examples take values from.
const MODEL: [(&str, &str); 9] = [
    ("vit", "kind = \"model.internvit\"\nin = \"image\"\n"),
    ("pool", "kind = \"model.attention-pool\"\nin = \"vit.tokens\"\n"),
    ("head", "kind = \"model.linear\"\nin = \"pool\"\nout = 10\n"),
    ("pool2", "kind = \"model.attention-pool\"\nin = \"vit.tokens\"\n"),
    ("text", "kind = \"model.llama\"\nin = \"caption\"\nprojection = 768\n"),
    ("decoder", "kind = \"model.llama\"\nin = \"caption\"\nhead = true\n"),
    ("pairs", "kind = \"model.pairs\"\nin = { vision = \"vit.tokens\", text = \"caption\" }\n"),
    ("match", "kind = \"model.qllama\"\nin = { vision = \"pairs.vision\", text = \"pairs.text\" }\n"),
    (
        "write",
        "kind = \"model.qllama\"\nin = { vision = \"vit.tokens\", text = \"caption\" }\nmask = \"itg\"\n",
    ),
];

/// The example of every kind, in a frame that gives it what it names, is a correct file.
#[test]
fn every_example_is_correct() {
    const EXPERIMENT: [(&str, &str); 8] = [
        ("pairs", "kind = \"data.webdataset\"\n"),
        ("heldout", "kind = \"data.webdataset\"\nshards = \"embedded:emoji/test-id-*.tar\"\n"),
        ("bpe", "kind = \"text.bpe\"\nin = \"pairs\"\n"),
        (
            "stage1",
            "kind = \"train\"\ngraph = \"../graphs/internvl-c.toml\"\nin = { records = \"pairs\", tokenizer = \"bpe\" }\n\
             loss = { itc = 1.0 }\nsteps = 1\n",
        ),
        (
            "stage2",
            "kind = \"train\"\ngraph = \"../graphs/internvl-g.toml\"\nin = { records = \"pairs\", tokenizer = \"bpe\" }\n\
             train = [\"qllama\", \"pool2\", \"itm\", \"itc\"]\nloss = { itc = 1.0, itm = 1.0, itg = 1.0 }\nsteps = 1\n",
        ),
        (
            "stage3",
            "kind = \"train\"\ngraph = \"../graphs/internvl-chat.toml\"\nin = { records = \"pairs\", tokenizer = \"bpe\" }\n\
             train = [\"mlp1\", \"mlp2\"]\nloss = { lm = 1.0 }\nsteps = 1\n",
        ),
        (
            "probe",
            "kind = \"train\"\ngraph = \"../graphs/linear-probe.toml\"\nin = { records = \"pairs\" }\n\
             labels = { column = \"order\" }\nloss = { ce = 1.0 }\nsteps = 1\n",
        ),
        (
            "embed",
            "kind = \"features\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\nin = \"heldout\"\n",
        ),
    ];
    const EVALUATIONS: [(&str, &str); 2] = [
        (
            "zero_shot",
            "kind = \"eval.zero-shot\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\n\
             in = { records = \"heldout\", features = \"embed\", tokenizer = \"bpe\" }\n\
             tasks = { concept = { class = \"cp\" } }\n",
        ),
        (
            "floor",
            "kind = \"eval.pixel-floor\"\nin = { records = \"heldout\", train = \"pairs\" }\n\
             tasks = { concept = { class = \"cp\" } }\n",
        ),
    ];
    let dir = Dir::empty();
    dir.done(&["init", "."]);
    for name in [
        "tokenizer.json",
        "tokenizer.model",
        "captions.json",
        "pairs.csv",
        "images/a/1.png",
        "llava_instruct_150k.json",
        "train2017/1.jpg",
        "wds_vtab-cifar10/test/0.tar",
        "wds_vtab-cifar10/classnames.txt",
        "laion/00000.parquet",
        "laion/00000.tar",
        "InternVL-14B-224px/model.safetensors",
        "smollm2.gguf",
    ] {
        dir.write(&format!("experiments/{name}"), "{}");
    }
    let [experiment, model] = kinds();
    let frames = [EXPERIMENT.as_slice(), EVALUATIONS.as_slice()].concat();
    for (name, _) in &experiment {
        check_example(&dir, name, "experiments/example.toml", "schema = 1\n", &frames);
    }
    for (name, _) in &model {
        check_example(&dir, name, "graphs/example.toml", MODEL_HEAD, &MODEL);
    }
}

/// `head`, some nodes of a model graph, and those of the frame that they name.
pub fn framed_model(head: &str, nodes: &str) -> String {
    framed(head, nodes, &MODEL)
}

/// `head`, some nodes, and those of the frame that they name, directly or through others.
fn framed(head: &str, nodes: &str, frame: &[(&str, &str)]) -> String {
    let mut text = format!("{head}\n{nodes}");
    let names = |text: &str, node: &str| {
        text.contains(&format!("\"{node}\"")) || text.contains(&format!("\"{node}."))
    };
    // A node of the frame names earlier ones only.
    for (node, body) in frame.iter().rev() {
        if names(&text, node) && !text.contains(&format!("[nodes.{node}]")) {
            text.push_str(&format!("\n[nodes.{node}]\n{body}"));
        }
    }
    text
}

/// Checks the example of a kind in its frame.
fn check_example(dir: &Dir, kind: &str, file: &str, head: &str, frame: &[(&str, &str)]) {
    let page = nodes(&[kind]).stdout;
    let (_, example) = page.split_once("\nExample\n").unwrap();
    let example: String = example.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    dir.write(file, framed(head, &example, frame));
    let ended = dir.heddle(&["check", file]);
    assert_eq!(ended.code, Some(0), "the example of {kind}\n{ended}");
}
