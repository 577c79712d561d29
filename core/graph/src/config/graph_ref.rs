//! The model graphs that an experiment names: as a path, a name in `[graphs]`, or a table. Equal references are
//! read once.

use std::collections::HashMap;

use super::{
    include::Includer,
    model::{GraphId, ModelFile, ModelText, Outer, merge_nodes},
    params::{Scope, Unknown},
    value::{Entry, Table, Value, ValueKind, table_json},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::{Load, Sources},
    suggest,
};

/// The keys of a reference to a file.
const FILE_KEYS: [&str; 3] = ["file", "params", "nodes"];

/// Collects the model graphs of one experiment.
pub(crate) struct GraphSet<'a> {
    loader: &'a dyn Load,
    sources: &'a mut Sources,
    /// The entries of `[graphs]`, as written.
    named: Table,
    /// By what makes references equal; `None` where reading failed, which is said once.
    known: HashMap<String, Option<GraphId>>,
    pub graphs: Vec<ModelFile>,
}

impl<'a> GraphSet<'a> {
    pub fn new(loader: &'a dyn Load, sources: &'a mut Sources, named: Table) -> Self {
        Self { loader, sources, named, known: HashMap::new(), graphs: Vec::new() }
    }

    /// Reads every entry of `[graphs]`, so that a mistake in one that no node names is reported too.
    pub fn load_named(&mut self, scope: &mut Scope, problems: &mut Problems) {
        for entry in self.named.clone().into_values() {
            self.load(entry.value, scope, problems);
        }
    }

    /// The model graph that the key `graph` of a node names.
    pub fn reference(
        &mut self,
        mut value: Value,
        scope: &mut Scope,
        problems: &mut Problems,
    ) -> Option<GraphId> {
        if value.as_str().is_some() {
            scope.substitute(&mut value, Unknown::Report, problems);
        }
        match value.as_str() {
            Some(name) if !is_path(name) => match self.named.get(name) {
                Some(entry) => self.load(entry.value.clone(), scope, problems),
                None => {
                    let names = self.named.keys().map(String::as_str);
                    let help = suggest::help(name, names).or_else(|| {
                        Some("name a file that ends in `.toml`, or an entry of `[graphs]`".to_owned())
                    });
                    problems.absent(
                        Diagnostic::new(format!("unknown model graph `{name}`")).at(value.span).help(help),
                    );
                    None
                }
            },
            _ => self.load(value, scope, problems),
        }
    }

    /// A path, a table that names a file, or a whole model graph as a table.
    fn load(&mut self, value: Value, scope: &mut Scope, problems: &mut Problems) -> Option<GraphId> {
        match value.kind {
            ValueKind::String(_) => self.load_file(&value, Table::new(), None, scope, problems),
            ValueKind::Table(ref table) if table.contains_key("file") => {
                let (file, params, nodes) = file_reference(table.clone(), scope, problems)?;
                self.load_file(&file, params, nodes, scope, problems)
            }
            ValueKind::Table(table) => {
                let key = format!("table {} {}", self.sources.name(value.span.source), table_json(&table));
                self.once(key, problems, |set, problems| {
                    let path = set.sources.name(value.span.source).to_owned();
                    let mut includer = Includer::new(set.loader, set.sources);
                    let root = includer.extend(table, problems);
                    let references = includer.into_references();
                    let text = ModelText { path, named: Some(value.span), root, references };
                    Some(text.resolve(Outer::Inline { scope }, set.loader, set.sources, problems))
                })
            }
            _ => {
                let message =
                    format!("expected a path, a name in `[graphs]` or a table, found {}", value.found());
                problems.push(Diagnostic::new(message).at(value.span));
                None
            }
        }
    }

    fn load_file(
        &mut self,
        file: &Value,
        params: Table,
        nodes: Option<Entry>,
        scope: &mut Scope,
        problems: &mut Problems,
    ) -> Option<GraphId> {
        let typed = file.as_str()?;
        let path = self.loader.resolve(self.sources.name(file.span.source), typed);
        let changes = nodes.as_ref().map(|entry| entry.value.to_json()).unwrap_or_default();
        let key = format!("file {path} {} {changes}", table_json(&params));
        self.once(key, problems, |set, problems| {
            let mut text = ModelText::load(&path, Some(file.span), set.loader, set.sources, problems)?;
            if let Some(nodes) = nodes {
                merge_nodes(&mut text, nodes, problems);
            }
            Some(text.resolve(Outer::File { scope, given: params }, set.loader, set.sources, problems))
        })
    }

    /// Reads a model graph unless an equal reference was read before.
    fn once(
        &mut self,
        key: String,
        problems: &mut Problems,
        read: impl FnOnce(&mut Self, &mut Problems) -> Option<ModelFile>,
    ) -> Option<GraphId> {
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let id = read(self, problems).map(|model| {
            self.graphs.push(model);
            GraphId(self.graphs.len() - 1)
        });
        self.known.insert(key, id);
        id
    }
}

/// Whether a reference is a path rather than a name in `[graphs]`.
fn is_path(text: &str) -> bool {
    text.ends_with(".toml") || text.contains('/')
}

/// The parts of `{ file = "x.toml", params = {..}, nodes = {..} }`. Parameters of the experiment are filled in;
/// those that only the model graph has stay in `nodes` for its own scope.
fn file_reference(
    mut table: Table,
    scope: &mut Scope,
    problems: &mut Problems,
) -> Option<(Value, Table, Option<Entry>)> {
    for (key, entry) in table.iter().filter(|(key, _)| !FILE_KEYS.contains(&key.as_str())) {
        let help = suggest::help(key, FILE_KEYS);
        let diagnostic = Diagnostic::new(format!("unknown key `{key}` of a reference to a model graph"));
        problems.push(diagnostic.at(entry.key_span).help(help));
    }
    let mut file = table.shift_remove("file")?.value;
    scope.substitute(&mut file, Unknown::Report, problems);
    let params = table.shift_remove("params").map(|mut entry| {
        scope.substitute(&mut entry.value, Unknown::Report, problems);
        expect_table(entry.value, "params", problems)
    });
    let mut nodes = table.shift_remove("nodes");
    if let Some(entry) = &mut nodes {
        scope.substitute(&mut entry.value, Unknown::Leave, problems);
    }
    if file.as_str().is_none() {
        problems.push(Diagnostic::new(format!("`file` is a path, found {}", file.found())).at(file.span));
        return None;
    }
    Some((file, params.unwrap_or_default(), nodes))
}

fn expect_table(value: Value, name: &str, problems: &mut Problems) -> Table {
    let (found, span) = (value.found(), value.span);
    match value.kind {
        ValueKind::Table(table) => table,
        _ => {
            problems.push(Diagnostic::new(format!("`{name}` is a table, found {found}")).at(span));
            Table::new()
        }
    }
}
