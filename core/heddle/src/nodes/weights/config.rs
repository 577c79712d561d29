//! `config.json` beside published weights: what it says that shapes do not.
//!
//! The number of heads, an epsilon or the base of the rotary frequencies change no shape; a graph that disagrees with the
//! file would load in silence and compute something else.

use heddle_graph::graph::Node;
use serde_json::Value as Json;

use crate::{exec::NodeError, model::ModelGraph, nodes::ModelNode};

/// A kind of node, the tables in which `config.json` may describe it, and its fields there and here.
struct Described {
    kind: &'static str,
    tables: &'static [&'static str],
    fields: &'static [(&'static str, &'static str)],
}

const DESCRIBED: [Described; 2] = [
    Described {
        kind: "model.llama",
        tables: &["qllama_config", "text_config", "llm_config"],
        fields: &[
            ("num_hidden_layers", "depth"),
            ("num_attention_heads", "heads"),
            ("num_key_value_heads", "kv-heads"),
            ("rms_norm_eps", "eps"),
            ("rope_theta", "rope-base"),
        ],
    },
    Described {
        kind: "model.internvit",
        tables: &["vision_config"],
        fields: &[
            ("num_hidden_layers", "depth"),
            ("num_attention_heads", "heads"),
            ("patch_size", "patch"),
            ("layer_norm_eps", "eps"),
        ],
    },
];

/// The contents of a `config.json`.
#[derive(Debug, Clone)]
pub struct PublishedConfig(Json);

impl PublishedConfig {
    /// From the same table in another form.
    pub fn new(table: Json) -> Self {
        Self(table)
    }

    /// Reads it; the error is a phrase.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| error.to_string())
    }

    /// Whether the output embeddings are the input embeddings and are not stored.
    pub fn ties_embeddings(&self) -> bool {
        self.0.get("tie_word_embeddings").and_then(Json::as_bool) == Some(true)
    }

    /// Fails if it says something else than the graph; `who` says it, for messages.
    pub fn refuse_contradictions(&self, who: &str, model: &ModelGraph) -> Result<(), NodeError> {
        let found = self.contradictions(model);
        if found.is_empty() {
            return Ok(());
        }
        let lines: String = found.iter().map(|line| format!("\n  {line}")).collect();
        Err(NodeError::Other(format!("{who} contradicts the graph:{lines}")))
    }

    /// Where it says something else than the graph, as sentences. A node is compared if the file has a table for its
    /// kind, or if the graph has a single node that a file can describe.
    fn contradictions(&self, model: &ModelGraph) -> Vec<String> {
        let graph = model.graph();
        let nodes = graph.ids().map(|id| graph.node(id));
        let known: Vec<(&Node<dyn ModelNode>, &Described)> =
            nodes.filter_map(|node| Some((node, described(node.kind.name)?))).collect();
        let of = |kind: &str| known.iter().filter(|(node, _)| node.kind.name == kind).count();
        let mut found = Vec::new();
        for (node, described) in &known {
            let table = described.tables.iter().find_map(|name| Some((*name, self.0.get(name)?)));
            let table = match table {
                Some(table) if of(described.kind) == 1 => table,
                None if known.len() == 1 => ("", &self.0),
                _ => continue,
            };
            found.extend(differences(table, node, described.fields));
        }
        found
    }
}

fn described(kind: &str) -> Option<&'static Described> {
    DESCRIBED.iter().find(|described| described.kind == kind)
}

fn differences(
    (name, table): (&str, &Json),
    node: &Node<dyn ModelNode>,
    fields: &[(&str, &str)],
) -> Vec<String> {
    let path = |field: &str| if name.is_empty() { field.to_owned() } else { format!("{name}.{field}") };
    let different = |&(theirs, ours): &(&str, &str)| {
        let (there, here) = (table.get(theirs)?.as_f64()?, node.canonical.get(ours)?.as_f64()?);
        // Seven digits: files of single precision write 9.999999974752427e-07.
        let same = (there - here).abs() <= 1e-6 * here.abs();
        (!same).then(|| {
            format!("`{}` is {there}, but the graph's node `{}` has {ours} = {here}", path(theirs), node.name)
        })
    };
    fields.iter().filter_map(different).collect()
}
