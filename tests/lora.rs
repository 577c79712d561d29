//! LoRA from training over evaluation to an export that knows nothing of it.

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use crate::util::{Dir, repository};

const FILE: &str = "lora.toml";

/// A chat decoder whose pairs alone learn, and what it answers.
const NODES: &str = r#"
[graphs]
chat  = { file = "../../graphs/internvl-chat.toml" }
tuned = { file = "../../graphs/internvl-chat.toml", nodes = { llm = { lora = { on = ["q_proj", "v_proj", "down_proj"], rank = 2, alpha = 8, dropout = 0.1 } } } }

[nodes.tuned]
kind      = "train"
graph     = "tuned"
in        = { records = "scenes", tokenizer = "chat_bpe", questions = "bpe" }
weights   = { vit = "stage1", llm = "talk" }
train     = ["llm.*.lora_A", "llm.*.lora_B"]
loss      = { lm = 1.0 }
optimizer = { lr = 0.1 }
steps     = 3
batch     = 4

[nodes.tuned_answers]
kind    = "eval.questions"
graph   = "tuned"
weights = "tuned"
in      = { records = "scenes", tokenizer = "chat_bpe", questions = "bpe" }
max-new = 4
batch   = 32
"#;

/// The same questions to what was exported.
const MERGED: &str = r#"
extends = "lora.toml"

[nodes.merged]
kind   = "weights.huggingface"
folder = "merged"
graph  = "chat"

[nodes.merged_answers]
kind    = "eval.questions"
graph   = "chat"
weights = "merged"
in      = { records = "scenes", tokenizer = "chat_bpe", questions = "bpe" }
max-new = 4
batch   = 32
"#;

/// A stage that goes on with the pairs, with another alpha.
const FURTHER: &str = r#"
extends = "lora.toml"

[graphs.further]
file   = "GRAPHS/internvl-chat.toml"
nodes  = { llm = { lora = { on = ["q_proj", "v_proj", "down_proj"], rank = 2, alpha = 4 } } }

[nodes.further]
kind    = "train"
graph   = "further"
in      = { records = "scenes", tokenizer = "chat_bpe", questions = "bpe" }
weights = { vit = "stage1", llm = "tuned" }
train   = ["llm.*.lora_*"]
loss    = { lm = 1.0 }
steps   = 1
batch   = 4
"#;

fn dir() -> Dir {
    let dir = Dir::empty();
    let text = std::fs::read_to_string(repository().join("tests/experiments/generative.toml")).unwrap();
    let text =
        format!("{text}{NODES}").replace("../../graphs", repository().join("graphs").to_str().unwrap());
    dir.write(FILE, text);
    dir
}

fn artifact(dir: &Dir, name: &str) -> Vec<u8> {
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    std::fs::read(dir.path().join(format!(".heddle/runs/{id}/artifacts/{name}"))).unwrap()
}

/// The bytes of the elements, by name.
fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

#[test]
fn pairs_learn_beside_frozen_weights_and_are_merged_into_an_export() {
    let dir = dir();
    let ran = dir.done(&["run", FILE, "talk", "tuned_answers", "--threads", "1"]);
    assert!(ran.stderr.contains("start from the seed, such as `llm/model.layers.0."), "{ran}");
    let digests = dir.digests();
    let (base, tuned) = (
        tensors(&artifact(&dir, "talk.weights.safetensors")),
        tensors(&artifact(&dir, "tuned.weights.safetensors")),
    );
    for (name, bytes) in &base {
        assert!(tuned[name] == *bytes, "{name} is frozen");
    }
    let pairs: Vec<&String> = tuned.keys().filter(|name| name.contains("lora")).collect();
    let first = "language_model.model.layers.0.mlp.down_proj.lora_A.weight";
    assert_eq!((pairs.len(), pairs[0].as_str()), (2 * 3, first));
    assert!(pairs.iter().all(|name| tuned[*name].iter().any(|byte| *byte != 0)), "all of them learn");

    // The same bits from two threads.
    let other = self::dir();
    other.done(&["run", FILE, "talk", "tuned_answers", "-q", "--threads", "2"]);
    assert_eq!(other.digests(), digests);

    let wrote = dir.done(&["export", FILE, "merged", "--node", "tuned", "--format", "huggingface"]);
    assert!(wrote.stderr.contains("LoRA merged into 3"), "{wrote}");
    let merged = tensors(&std::fs::read(dir.path().join("merged/model.safetensors")).unwrap());
    assert!(!merged.keys().any(|name| name.contains("lora")), "no pair is left");
    let changed: Vec<&String> = base.keys().filter(|name| merged[*name] != base[*name]).collect();
    let names = ["mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj"];
    assert_eq!(changed, names.map(|name| format!("language_model.model.layers.0.{name}.weight")).each_ref());
    assert!(!dir.read("merged/config.json").contains("lora"));

    let said = artifact(&dir, "tuned_answers.answers.jsonl");
    dir.write("merged.toml", MERGED);
    dir.done(&["run", "merged.toml", "merged_answers", "-q"]);
    assert_eq!(String::from_utf8(artifact(&dir, "merged_answers.answers.jsonl")), String::from_utf8(said));
}

/// Weights with pairs are never read without them; weights without them start new ones.
#[test]
fn weights_and_their_pairs_stay_together() {
    let dir = dir();
    dir.done(&["run", FILE, "tuned", "-q"]);
    let refused = |file: &str, node: &str, set: &str| {
        let ended = dir.heddle(&["run", file, node, "-S", set]);
        assert_eq!(ended.code, Some(1), "{ended}");
        let line = ended.stderr.lines().find(|line| line.starts_with("error: node")).unwrap();
        line.to_owned()
    };
    insta::assert_snapshot!(refused(FILE, "tuned_answers", "nodes.tuned_answers.graph=chat"), @"error: node `tuned_answers`: the artifact of `tuned` has LoRA beside `language_model.model.layers.0.self_attn.q_proj.weight` with alpha/rank = 4; the graph has none: give its node the same `lora`, or read what `heddle export` merges");
    dir.write("further.toml", FURTHER.replace("GRAPHS", repository().join("graphs").to_str().unwrap()));
    insta::assert_snapshot!(refused("further.toml", "further", "nodes.further.steps=2"), @"error: node `further`: the artifact of `tuned` has LoRA beside `language_model.model.layers.0.self_attn.q_proj.weight` with alpha/rank = 4; the graph has alpha/rank = 2: give its node the same `lora`, or read what `heddle export` merges");
    dir.done(&["run", "further.toml", "further", "-q", "-S", "graphs.further.nodes.llm.lora.alpha=8"]);
    let whole = dir.done(&["run", FILE, "tuned", "-S", "nodes.tuned.weights=stage3"]);
    assert!(whole.stderr.contains("6 tensors start from the seed, such as `llm/model.layers.0."), "{whole}");
}

#[test]
fn pairs_are_counted() {
    let dir = dir();
    let ended = dir.done(&["check", FILE]);
    // Rank 2: 2 x (16 + 16) beside queries, 2 x (16 + 8) beside values, of which two heads share one, 2 x (24 + 16).
    assert!(ended.stdout.contains("stage3 trains 1,184 of 32,560 parameters"), "{ended}");
    assert!(ended.stdout.contains("tuned trains 192 of 32,752 parameters"), "{ended}");
}
