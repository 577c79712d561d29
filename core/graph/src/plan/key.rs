//! The artifact key: a documented table, hashed.
//!
//! A key answers "would running this node now give bytes that the cache already has?". It is a constructive trace:
//! inputs count by the digest of their content, so a node upstream that runs again and ends in the same bytes
//! changes nothing here.
//!
//! | part | what it holds | why it is in |
//! |---|---|---|
//! | `kind`, `version` | `train`, 3 | other code gives other bytes; a kind raises its version when its results change |
//! | `config` | every parameter of the node, defaults written out | a default that is spelt out must hit |
//! | `model` | the canonical model graph: kinds, versions, parameters, edges | structure decides the bits |
//! | `seed` | the experiment's seed, for kinds that draw random numbers | other draws, other bytes |
//! | `numerics` | device class and kernel generation (on a GPU also the batch), for kinds that compute on tensors | rounding |
//! | `files` | BLAKE3 of every file that the node reads itself; its name (without folders) for kinds that read it, as a shard's name gives its records' split | bytes, not paths |
//! | `inputs` | per port, in order: digest of the artifact, and the label and part under which it is used | content, not names |
//!
//! | left out | why |
//! |---|---|
//! | the experiment node's name, comments, the order of keys and nodes | they change no bytes; renaming must hit. (Names of nodes in a model graph are in: they seed initialisation and name parameters) |
//! | paths and modification times of files | the digest of the content says it all, on every machine |
//! | `[run]`: device index, threads, memory, executor; `[cache]` | results are bit-identical for any of them |
//! | the processor's features | machines differ in the last bit there; the run record names them, a shared cache may hit |
//! | parameters that a kind declares as left out (each with its reason in `heddle nodes KIND`) | logging, limits |
//!
//! The parts are stored beside the hash, so that a miss can be explained field by field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::digest::{Digest, DigestWriter};

/// What the graph and the files say of one node, before its inputs are known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The node's name; for people, not for the key.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// Canonical parameters.
    pub config: Json,
    /// The canonical model graph, for kinds that run one.
    pub model: Option<Json>,
    /// The seed, for kinds that draw random numbers.
    pub seed: Option<u64>,
    /// Device class and element type, for kinds that compute on tensors.
    pub numerics: Option<String>,
    /// Per field the files that it names.
    pub files: BTreeMap<String, Vec<FileKey>>,
    /// The edges that arrive.
    pub inputs: Vec<InputFact>,
    /// Predicted seconds if it runs, where the kind can tell.
    pub estimate_seconds: Option<f64>,
}

/// One edge that arrives at a node.
#[derive(Debug, Clone)]
pub struct InputFact {
    /// The port it arrives at.
    pub port: String,
    /// The label within the port (`weights = { vit = ... }`).
    pub label: Option<String>,
    /// The part of the artifact that is used (`"stage1/vit"`).
    pub part: Option<String>,
    /// The place of the upstream node in the list of facts.
    pub from: usize,
    /// The upstream output port.
    pub output: String,
}

/// One file as the key sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKey {
    /// Digest of the content, as nodes read it.
    pub digest: Digest,
    /// The file's name without folders, for kinds whose results depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One input as the key sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputKey {
    /// Digest of the artifact's bytes.
    pub digest: Digest,
    /// Label within the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Part of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// Everything that can change a node's output; see the table in the module's documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The kind of the node.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// Canonical parameters.
    pub config: Json,
    /// Canonical model graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Json>,
    /// Seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Numerics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<String>,
    /// Files by field.
    pub files: BTreeMap<String, Vec<FileKey>>,
    /// Inputs by port.
    pub inputs: BTreeMap<String, Vec<InputKey>>,
}

impl KeyParts {
    /// The key parts of a node whose inputs are known: `digests[i]` belongs to `facts.inputs[i]`.
    pub fn new(facts: &Facts, digests: &[Digest]) -> Self {
        let mut inputs: BTreeMap<String, Vec<InputKey>> = BTreeMap::new();
        for (input, digest) in facts.inputs.iter().zip(digests) {
            inputs.entry(input.port.clone()).or_default().push(InputKey {
                digest: *digest,
                label: input.label.clone(),
                part: input.part.clone(),
            });
        }
        Self {
            kind: facts.kind.clone(),
            version: facts.version,
            config: facts.config.clone(),
            model: facts.model.clone(),
            seed: facts.seed,
            numerics: facts.numerics.clone(),
            files: facts.files.clone(),
            inputs,
        }
    }

    /// The key itself.
    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("heddle artifact key 1");
        for (path, value) in self.leaves() {
            writer.str(&path).str(&value);
        }
        writer.finish()
    }

    /// Every leaf as `path -> canonical text`, sorted by path: what is hashed, and what is compared.
    pub fn leaves(&self) -> BTreeMap<String, String> {
        let mut leaves = BTreeMap::new();
        leaves.insert("kind".into(), self.kind.clone());
        leaves.insert("version".into(), self.version.to_string());
        flatten("config", &self.config, &mut leaves);
        if let Some(model) = &self.model {
            flatten("model", model, &mut leaves);
        }
        if let Some(seed) = self.seed {
            leaves.insert("seed".into(), seed.to_string());
        }
        if let Some(numerics) = &self.numerics {
            leaves.insert("numerics".into(), numerics.clone());
        }
        for (field, files) in &self.files {
            for (index, file) in files.iter().enumerate() {
                let path = format!("files.{field}[{index}]");
                if let Some(name) = &file.name {
                    leaves.insert(format!("{path}.name"), name.clone());
                }
                leaves.insert(path, file.digest.to_string());
            }
        }
        for (port, inputs) in &self.inputs {
            for (index, input) in inputs.iter().enumerate() {
                let path = format!("inputs.{port}[{index}]");
                for (suffix, text) in [("label", &input.label), ("part", &input.part)] {
                    if let Some(text) = text {
                        leaves.insert(format!("{path}.{suffix}"), text.clone());
                    }
                }
                leaves.insert(path, input.digest.to_string());
            }
        }
        leaves
    }
}

/// Writes the leaves of a JSON value under `path`; empty containers are leaves too.
fn flatten(path: &str, value: &Json, leaves: &mut BTreeMap<String, String>) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&format!("{path}.{key}"), value, leaves);
            }
        }
        Json::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, leaves);
            }
        }
        other => {
            leaves.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts() -> KeyParts {
        KeyParts {
            kind: "train".into(),
            version: 1,
            config: json!({ "lr": 0.001, "betas": [0.9, 0.98], "groups": [{ "name": "a" }] }),
            model: None,
            seed: Some(7),
            numerics: Some("cpu 2".into()),
            files: BTreeMap::from([(
                "shards".to_owned(),
                vec![FileKey { digest: Digest::of(b"x"), name: None }],
            )]),
            inputs: BTreeMap::from([(
                "records".to_owned(),
                vec![InputKey { digest: Digest::of(b"r"), label: None, part: None }],
            )]),
        }
    }

    #[test]
    fn key_order_of_json_does_not_count() {
        let mut other = parts();
        other.config = json!({ "groups": [{ "name": "a" }], "betas": [0.9, 0.98], "lr": 0.001 });
        assert_eq!(parts().digest(), other.digest());
    }

    #[test]
    fn every_part_counts() {
        let base = parts().digest();
        let edits: [fn(&mut KeyParts); 9] = [
            |p| p.kind.push('2'),
            |p| p.version += 1,
            |p| p.config["lr"] = json!(0.002),
            |p| p.model = Some(json!({})),
            |p| p.seed = None,
            |p| p.numerics = Some("cuda 1".into()),
            |p| p.files.clear(),
            |p| p.files.get_mut("shards").expect("is there")[0].name = Some("val-0000.tar".into()),
            |p| p.inputs.get_mut("records").expect("is there")[0].part = Some("vit".into()),
        ];
        for (index, edit) in edits.iter().enumerate() {
            let mut edited = parts();
            edit(&mut edited);
            assert_ne!(edited.digest(), base, "edit {index}");
        }
    }

    #[test]
    fn survives_json() {
        // Values that a parser without exact rounding reads back in another last digit.
        for lr in [0.001, 0.000_237_137_370_566_165_54, 0.000_150_000_000_000_000_01, 1.400_000_000_000_000_1]
        {
            let mut parts = parts();
            parts.config["lr"] = json!(lr);
            let text = serde_json::to_string(&parts).expect("plain data");
            let back: KeyParts = serde_json::from_str(&text).expect("just written");
            assert_eq!(back.digest(), parts.digest(), "{lr}");
        }
    }
}
