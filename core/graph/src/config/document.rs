//! What both kinds of files have in common: [`Document`], the top-level keys, the version of the grammar.

use indexmap::IndexMap;

use super::{
    inputs::{InputDecl, OutputDecl},
    node::ConfigNode,
    value::{Table, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Gaps, Problems},
    source::{Sources, Span},
    suggest,
};

/// The grammar that this version reads: `schema = 1`.
pub const SCHEMA: i64 = 1;

/// The keys of an experiment.
pub(crate) const EXPERIMENT_KEYS: [&str; 10] =
    ["schema", "extends", "seed", "params", "graphs", "nodes", "run", "cache", "ablations", "sweeps"];

/// The keys of a model graph.
pub(crate) const MODEL_KEYS: [&str; 6] = ["schema", "extends", "inputs", "outputs", "params", "nodes"];

/// Nodes with their links as text: what the graph stage builds from.
pub trait Document {
    /// The nodes, in the order of the file.
    fn nodes(&self) -> &IndexMap<String, ConfigNode>;
    /// Names of nodes and inputs that could not be understood; what is wrong with them is already said.
    fn broken_nodes(&self) -> &[String];
    /// The inputs of a model graph.
    fn inputs(&self) -> &IndexMap<String, InputDecl>;
    /// The named outputs of a model graph.
    fn outputs(&self) -> &IndexMap<String, OutputDecl>;
    /// The texts that it was read from.
    fn sources(&self) -> &Sources;
    /// What could not be understood.
    fn gaps(&self) -> &Gaps;
}

/// Which of the two kinds of files a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Has a pipeline.
    Experiment,
    /// Has `inputs` at its top level.
    ModelGraph,
}

/// Tells an experiment from a model graph by its top-level keys, even if there are mistakes in it. A file that
/// has neither `inputs` nor `outputs` counts as an experiment.
pub fn file_kind(text: &str) -> FileKind {
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    let model = table.get_ref().keys().any(|key| matches!(&**key.get_ref(), "inputs" | "outputs"));
    if model { FileKind::ModelGraph } else { FileKind::Experiment }
}

/// Checks the version and that every key at the top level is known. `at` is where a missing version is reported.
pub(crate) fn check_top_level(root: &Table, keys: &[&str], at: Option<Span>, problems: &mut Problems) {
    for (key, entry) in root.iter().filter(|(key, _)| !keys.contains(&key.as_str())) {
        let help = suggest::help(key, keys.iter().copied());
        problems.push(Diagnostic::new(format!("unknown key `{key}`")).at(entry.key_span).help(help));
    }
    let Some(entry) = root.get("schema") else {
        let help = format!("begin the file with `schema = {SCHEMA}`");
        problems.absent(Diagnostic::new("the file does not say its `schema`").at(at).help(help));
        return;
    };
    if entry.value.kind != ValueKind::Int(SCHEMA) {
        let message = format!("`schema` is {}, this version reads {SCHEMA}", entry.value.to_json());
        problems.push(Diagnostic::new(message).at(entry.value.span));
    }
}

/// A table at the top level; anything else under its key is reported.
pub(crate) fn top_table<'a>(root: &'a Table, key: &str, problems: &mut Problems) -> Option<&'a Table> {
    let entry = root.get(key)?;
    let table = entry.value.as_table();
    if table.is_none() {
        let message = format!("`{key}` is a table, found {}", entry.value.found());
        problems.push(Diagnostic::new(message).at(entry.value.span));
    }
    table
}
