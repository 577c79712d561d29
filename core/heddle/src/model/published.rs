//! The names that a node's parameters have in weight files.
//!
//! A module names its parameters as the published code does, relative to itself (`encoder.layers.0.ls1`). The
//! node's `published` key says where that stands in a whole checkpoint: a prefix, or a table from local prefixes
//! to published ones. Without it the node's own name is the prefix.

use heddle_graph::config::{FromValue, Reader, Value, ValueKind, Wrong};
use indexmap::IndexMap;
use serde_json::Value as Json;

use super::prefixes::{Prefixes, join};

/// Local to published names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Published {
    /// `None`: prefix with the node's name.
    rules: Option<Prefixes>,
}

/// The key as the file writes it.
#[derive(Debug, Clone)]
struct Names(IndexMap<String, String>);

impl FromValue for Names {
    fn ty() -> String {
        "string or table of strings".into()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        match &value.kind {
            ValueKind::String(prefix) => Ok(Self(IndexMap::from([(String::new(), prefix.clone())]))),
            ValueKind::Table(_) => IndexMap::from_value(value).map(Self),
            _ => Err(Wrong::ty(value, &Self::ty())),
        }
    }

    fn to_json(&self) -> Json {
        self.0.to_json()
    }

    fn placeholder() -> Self {
        Self(IndexMap::new())
    }

    fn schema() -> Json {
        serde_json::json!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "additionalProperties": { "type": "string" } },
        ] })
    }
}

impl Published {
    /// Reads the `published` key of a model node.
    pub fn read(r: &mut Reader<'_>) -> Self {
        let names: Option<Names> = r
            .field("published", "prefix of the parameters' names in weight files, or a table from local prefixes to published ones; default: the node's name")
            .optional();
        Self { rules: names.map(|names| Prefixes::new(names.0)) }
    }

    /// The published name of a parameter of `node`.
    pub fn name(&self, node: &str, local: &str) -> String {
        let replaced = self.rules.as_ref().and_then(|rules| rules.replace(local));
        replaced.unwrap_or_else(|| join(node, local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[(&str, &str)], local: &str, expected: &str) {
        let rules = rules.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        assert_eq!(Published { rules: Some(Prefixes::new(rules)) }.name("node", local), expected);
    }

    #[test]
    fn longest_prefix_wins_on_whole_segments() {
        let rules = [("", "qllama"), ("text_projection", "text_projection")];
        check(&rules, "model.norm.weight", "qllama.model.norm.weight");
        check(&rules, "text_projection", "text_projection");
        check(&[("", "")], "embeddings.class_embedding", "embeddings.class_embedding");
        check(&[("model", "a")], "modelled", "node.modelled");
        assert_eq!(Published::default().name("vit", "ls1"), "vit.ls1");
    }
}
