//! [`Experiment`]: a pipeline with everything that its files say, resolved, before the graph stage looks at its
//! kinds.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{
    cache::CacheSettings,
    document::{Document, EXPERIMENT_KEYS, check_top_level, top_table},
    from_value::FromValue,
    graph_ref::GraphSet,
    include::Includer,
    inputs::{InputDecl, OutputDecl},
    model::{ModelFile, start_of},
    node::{ConfigNode, read_nodes},
    overrides::{self, Override},
    params::{Scope, Unknown},
    reader::ReadEnv,
    run::RunSettings,
    sweep::{Cell, read_ablations, read_sweeps},
    value::{Table, Value, ValueKind, table_json},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Gaps, Problems},
    source::{Load, Sources, Span},
};

/// A pipeline as the files have it.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The path of its file.
    pub path: String,
    /// The nodes, in the order of the file.
    pub nodes: IndexMap<String, ConfigNode>,
    /// The model graphs that nodes and `[graphs]` name; [`super::GraphId`] is a position here.
    pub graphs: Vec<ModelFile>,
    /// The seed of everything random.
    pub seed: u64,
    /// The parameters with their values.
    pub params: Json,
    /// Resources.
    pub run: RunSettings,
    /// How much the cache may hold.
    pub cache: CacheSettings,
    /// Named deltas, for [`Experiment::variant`].
    pub ablations: IndexMap<String, Vec<Override>>,
    /// Named products of deltas.
    pub sweeps: IndexMap<String, Vec<Cell>>,
    /// Everything, parameters filled in and model graphs included, for the run record.
    pub resolved: Json,
    broken: Vec<String>,
    sources: Sources,
    gaps: Gaps,
    /// The merged file with overrides, before parameters: what a variant starts from.
    raw: Table,
    /// The parameters that the files refer to.
    references: HashSet<String>,
    inputs: IndexMap<String, InputDecl>,
    outputs: IndexMap<String, OutputDecl>,
}

impl Document for Experiment {
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

impl Experiment {
    /// The experiment with changes on its base: an ablation, or a cell of a sweep. It has no ablations and sweeps
    /// of its own.
    ///
    /// # Errors
    /// All mistakes that the changes bring.
    pub fn variant(
        &self,
        changes: &[Override],
        loader: &dyn Load,
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        let mut problems = Problems::with_gaps(self.gaps.clone());
        let mut raw = self.raw.clone();
        raw.shift_remove("ablations");
        raw.shift_remove("sweeps");
        changes.iter().for_each(|change| overrides::apply(&mut raw, change, &mut problems));
        let variant = resolve(&self.path, raw, self.references.clone(), loader, sources, &mut problems);
        problems.finish(variant)
    }
}

/// Reads an experiment as far as it can be understood. `None` only if its file cannot be read.
pub(super) fn load(
    path: &str,
    loader: &dyn Load,
    changes: &[String],
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Experiment> {
    let mut includer = Includer::new(loader, sources);
    let mut raw = includer.load(path, None, problems)?;
    let references = includer.into_references();
    for text in changes {
        if let Some(change) = overrides::parse_override(text, sources, problems) {
            overrides::apply(&mut raw, &change, problems);
        }
    }
    Some(resolve(path, raw, references, loader, sources, problems))
}

/// From the merged table to the experiment: parameters, model graphs, nodes, settings, deltas.
fn resolve(
    path: &str,
    raw: Table,
    references: HashSet<String>,
    loader: &dyn Load,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Experiment {
    let mut root = raw.clone();
    check_top_level(&root, &EXPERIMENT_KEYS, start_of(path, sources), problems);
    let declared = top_table(&root, "params", problems).cloned().unwrap_or_default();
    let mut scope = Scope::new(declared.clone(), problems);
    for key in ["seed", "run", "cache"] {
        if let Some(entry) = root.get_mut(key) {
            scope.substitute(&mut entry.value, Unknown::Report, problems);
        }
    }
    substitute_nodes(&mut root, &mut scope, problems);
    let (mut nodes, broken) = read_nodes(root.get("nodes").map(|entry| &entry.value), problems);

    let named = top_table(&root, "graphs", problems).cloned().unwrap_or_default();
    let mut set = GraphSet::new(loader, sources, named);
    set.load_named(&mut scope, problems);
    for node in nodes.values_mut() {
        if let Some(entry) = node.table.get("graph") {
            node.graph = set.reference(entry.value.clone(), &mut scope, problems);
        }
    }
    let graphs = set.graphs;

    scope.mark(&references);
    let wanted =
        graphs.iter().flat_map(|graph| graph.params.as_object().into_iter().flat_map(|map| map.keys()));
    scope.report_unused(&declared, wanted.chain(&references).map(String::as_str), problems);
    let seed = root.get("seed").map_or(0, |entry| read_seed(&entry.value, problems));
    let run = read_settings(&root, "run", RunSettings::from_table, loader, sources, problems);
    let cache = read_settings(&root, "cache", CacheSettings::from_table, loader, sources, problems);
    let ablations =
        top_table(&root, "ablations", problems).map(|table| read_ablations(&root, table, problems));
    let sweeps = top_table(&root, "sweeps", problems).map(|table| read_sweeps(&root, table, problems));
    let params = table_json(scope.values());
    Experiment {
        path: path.to_owned(),
        resolved: resolved(&root, &params, &graphs),
        nodes,
        graphs,
        seed,
        params,
        run,
        cache,
        ablations: ablations.unwrap_or_default(),
        sweeps: sweeps.unwrap_or_default(),
        broken,
        sources: sources.clone(),
        gaps: problems.gaps().clone(),
        raw,
        references,
        inputs: IndexMap::new(),
        outputs: IndexMap::new(),
    }
}

/// Fills parameters into the nodes, save their key `graph`, whose inside has a scope of its own.
fn substitute_nodes(root: &mut Table, scope: &mut Scope, problems: &mut Problems) {
    let Some(entry) = root.get_mut("nodes") else { return };
    let ValueKind::Table(nodes) = &mut entry.value.kind else { return };
    for node in nodes.values_mut() {
        match &mut node.value.kind {
            ValueKind::Table(table) => {
                let inner = table.iter_mut().filter(|(key, _)| *key != "graph");
                inner.for_each(|(_, entry)| scope.substitute(&mut entry.value, Unknown::Report, problems));
            }
            _ => scope.substitute(&mut node.value, Unknown::Report, problems),
        }
    }
}

fn read_seed(value: &Value, problems: &mut Problems) -> u64 {
    u64::from_value(value).unwrap_or_else(|wrong| {
        let diagnostic = Diagnostic::new(format!("`seed`: {}", wrong.message)).at(wrong.span);
        problems.push(diagnostic.help(wrong.help).related(value.via, "used here"));
        0
    })
}

/// Reads a table of settings at the top level.
fn read_settings<T>(
    root: &Table,
    key: &str,
    read: impl FnOnce(&ReadEnv<'_>, Option<&Table>, Span) -> T,
    loader: &dyn Load,
    sources: &Sources,
    problems: &mut Problems,
) -> T {
    let table = top_table(root, key, problems);
    let at = root.get(key).map_or(Span::NOWHERE, |entry| entry.key_span);
    let env = ReadEnv::new(loader, sources, std::mem::take(problems));
    let settings = read(&env, table, at);
    *problems = env.problems.into_inner();
    settings
}

fn resolved(root: &Table, params: &Json, graphs: &[ModelFile]) -> Json {
    let mut resolved = table_json(root);
    resolved["params"] = params.clone();
    resolved["graphs"] = graphs.iter().map(|graph| graph.resolved.clone()).collect();
    resolved
}
