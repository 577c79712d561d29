//! [`ModelFile`]: a model graph with its parameters filled in, before the graph stage looks at its kinds.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{
    document::{Document, MODEL_KEYS, check_top_level, top_table},
    include::Includer,
    inputs::{InputDecl, OutputDecl, read_inputs, read_outputs},
    keep,
    merge::merge,
    node::{ConfigNode, read_nodes},
    overrides::{self, Override},
    params::{Scope, Unknown, overlay},
    reader::ReadEnv,
    share,
    value::{Entry, Table, ValueKind, table_json},
};
use crate::{
    diagnostic::{Diagnostic, Gaps, Problems},
    source::{Load, Sources, Span},
    suggest,
};

/// Names one of the model graphs of an experiment: the position in `Experiment::graphs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GraphId(pub usize);

/// A model graph as the files have it.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// The resolved path, or for a table in an experiment the path of that.
    pub path: String,
    /// The nodes, in the order of the file.
    pub nodes: IndexMap<String, ConfigNode>,
    /// What it is fed with.
    pub inputs: IndexMap<String, InputDecl>,
    /// Ports with names outside.
    pub outputs: IndexMap<String, OutputDecl>,
    /// The parameters with the values that hold here.
    pub params: Json,
    /// Everything, with parameters filled in, for the run record.
    pub resolved: Json,
    broken: Vec<String>,
    sources: Sources,
    gaps: Gaps,
}

impl Document for ModelFile {
    fn nodes(&self) -> &IndexMap<String, ConfigNode> {
        &self.nodes
    }

    fn broken_nodes(&self) -> &[String] {
        &self.broken
    }

    fn inputs(&self) -> &IndexMap<String, InputDecl> {
        &self.inputs
    }

    fn outputs(&self) -> &IndexMap<String, OutputDecl> {
        &self.outputs
    }

    fn sources(&self) -> &Sources {
        &self.sources
    }

    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}

/// Where a model graph gets parameters from besides its own.
pub(crate) enum Outer<'a> {
    /// It is checked alone.
    None,
    /// It is a file that an experiment names: declared parameters take the values of the experiment's of the same
    /// name, then those that the reference gives.
    File { scope: &'a mut Scope, given: Table },
    /// It is a table in an experiment, whose parameters it sees like its own.
    Inline { scope: &'a mut Scope },
}

/// A model graph file with the tables of deep overrides (`nodes = {..}` of a reference) still to be merged.
pub(crate) struct ModelText {
    /// The resolved path.
    pub path: String,
    /// Where an experiment names it.
    pub named: Option<Span>,
    /// The merged table.
    pub root: Table,
    /// The parameters that its files refer to.
    pub references: HashSet<String>,
}

impl ModelText {
    /// Reads a file and what it extends.
    pub fn load(
        path: &str,
        named: Option<Span>,
        loader: &dyn Load,
        sources: &mut Sources,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut includer = Includer::new(loader, sources);
        let root = includer.load(path, named, problems)?;
        Some(Self { path: path.to_owned(), named, root, references: includer.into_references() })
    }

    /// Sets keys of it.
    pub fn apply(&mut self, changes: &[Override], problems: &mut Problems) {
        changes.iter().for_each(|change| overrides::apply(&mut self.root, change, problems));
    }

    /// Fills the parameters in and reads what all kinds have in common.
    pub fn resolve(
        mut self,
        outer: Outer<'_>,
        loader: &dyn Load,
        sources: &Sources,
        problems: &mut Problems,
    ) -> ModelFile {
        let inline = matches!(outer, Outer::Inline { .. });
        if inline {
            check_inline(&self.root, problems);
        } else {
            check_top_level(
                &self.root,
                &MODEL_KEYS,
                self.named.or_else(|| start_of(&self.path, sources)),
                problems,
            );
        }
        let declared = top_table(&self.root, "params", problems).cloned().unwrap_or_default();
        let mut scope = self.scope(declared.clone(), outer, problems);
        scope.mark(&self.references);
        scope.report_unused(&declared, self.references.iter().map(String::as_str), problems);
        for key in ["inputs", "outputs", "nodes"] {
            if let Some(entry) = self.root.get_mut(key) {
                scope.substitute(&mut entry.value, Unknown::Report, problems);
            }
        }
        if let Some(entry) = self.root.get_mut("nodes") {
            share::expand(&mut entry.value, problems);
        }
        let (mut nodes, mut broken) = read_nodes(self.root.get("nodes").map(|entry| &entry.value), problems);
        nodes.values_mut().for_each(share::mark);
        nodes.values_mut().for_each(|node| keep::mark(node, problems));
        let outputs = read_outputs(&self.root, problems);
        let env = ReadEnv::new(loader, sources, std::mem::take(problems));
        let inputs = self.root.get("inputs").map(|entry| read_inputs(&env, &entry.value, &mut broken));
        let mut inputs = inputs.unwrap_or_default();
        *problems = env.problems.into_inner();
        check_names(&mut inputs, &nodes, problems);
        let own = |name: &String| declared.contains_key(name);
        let params: Table = scope
            .values()
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(n, e)| (n.clone(), e.clone()))
            .collect();
        let params = table_json(&params);
        let mut resolved = table_json(&self.root);
        resolved["params"] = params.clone();
        ModelFile {
            path: self.path,
            nodes,
            inputs,
            outputs,
            params,
            resolved,
            broken,
            sources: sources.clone(),
            gaps: problems.gaps().clone(),
        }
    }

    /// The values of the parameters, as [`Outer`] says.
    fn scope(&self, mut declared: Table, outer: Outer<'_>, problems: &mut Problems) -> Scope {
        match outer {
            Outer::None => Scope::new(declared, problems),
            Outer::File { scope, given } => {
                let taken = overlay(&mut declared, scope.values());
                scope.mark(&taken);
                report_undeclared(&given, &declared, &self.path, problems);
                overlay(&mut declared, &given);
                Scope::new(declared, problems)
            }
            Outer::Inline { scope } => {
                let mut all = scope.values().clone();
                let seen: Vec<String> =
                    self.references.iter().filter(|name| !declared.contains_key(*name)).cloned().collect();
                scope.mark(&seen);
                all.extend(declared);
                Scope::new(all, problems)
            }
        }
    }
}

/// A table in an experiment has the keys of a model graph and needs no `schema`.
fn check_inline(root: &Table, problems: &mut Problems) {
    for (key, entry) in root.iter().filter(|(key, _)| !MODEL_KEYS.contains(&key.as_str())) {
        let help = suggest::help(key, MODEL_KEYS.into_iter().chain(["file"]));
        problems.push(
            Diagnostic::new(format!("unknown key `{key}` of a model graph")).at(entry.key_span).help(help),
        );
    }
}

fn report_undeclared(given: &Table, declared: &Table, path: &str, problems: &mut Problems) {
    for (name, entry) in given.iter().filter(|(name, _)| !declared.contains_key(*name)) {
        let help = suggest::help(name, declared.keys().map(String::as_str));
        let diagnostic = Diagnostic::new(format!("`{path}` has no parameter `{name}`"));
        problems.absent(diagnostic.at(entry.key_span).help(help));
    }
}

/// A link cannot tell an input from a node of the same name. The node stays.
fn check_names(
    inputs: &mut IndexMap<String, InputDecl>,
    nodes: &IndexMap<String, ConfigNode>,
    problems: &mut Problems,
) {
    inputs.retain(|name, input| {
        let Some(node) = nodes.get(name) else { return true };
        let diagnostic = Diagnostic::new(format!("`{name}` is both an input and a node")).at(node.span);
        problems.push(diagnostic.related(input.span, "the input"));
        false
    });
}

/// The first byte of a file.
pub(crate) fn start_of(path: &str, sources: &Sources) -> Option<Span> {
    sources.find(path).map(|source| Span { source, start: 0, end: 0 })
}

/// Puts deep overrides (`nodes = { vit = { depth = 2 } }`) over the nodes of a file; a node that the file does not
/// have must bring its `kind`.
pub(crate) fn merge_nodes(text: &mut ModelText, mut nodes: Entry, problems: &mut Problems) {
    let known = text.root.get("nodes").and_then(|entry| entry.value.as_table());
    for (name, entry) in nodes.value.as_table().into_iter().flatten() {
        let exists = known.is_some_and(|table| table.contains_key(name));
        let whole = entry.value.as_table().is_none_or(|table| table.contains_key("kind"));
        if !exists && !whole {
            let names = known.into_iter().flat_map(|table| table.keys().map(String::as_str));
            let diagnostic =
                Diagnostic::new(format!("`{}` has no node `{name}`", text.path)).at(entry.key_span);
            problems.absent(diagnostic.help(suggest::help(name, names)));
        }
    }
    if let ValueKind::Table(table) = &mut nodes.value.kind {
        table.retain(|name, entry| {
            known.is_some_and(|known| known.contains_key(name))
                || entry.value.as_table().is_none_or(|table| table.contains_key("kind"))
        });
    }
    merge(&mut text.root, [("nodes".to_owned(), nodes)].into_iter().collect());
}
