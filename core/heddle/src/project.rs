//! Project: an experiment file with everything that it names, checked and sealed.
//!
//! `files -> config -> graph`: this is where the pure stages meet the disk and the registry. Mistakes of the
//! experiment, of its model graphs and of every wire between them come out together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_graph::{
    config::{self, COMMAND_LINE, Experiment, ModelFile, Override},
    diagnostic::{Diagnostic, Diagnostics},
    graph::{self, Class, Graph, NodeId, Source},
    plan::{Facts, FileKey, InputFact},
    source::{Load, Sources},
};

use crate::{
    device::Compute,
    exec::{CellKind, CellRecord, Library, LibraryError, Store},
    files::Disk,
    model::{ModelGraph, Models},
    nodes::{KINDS, MODEL_KINDS, ModelNode, Node},
};

/// A checked experiment.
pub struct Project {
    /// The file as it was named.
    pub file: String,
    /// The changes from the command line (`-S`).
    pub set: Vec<String>,
    /// Every text that was read.
    pub sources: Sources,
    /// The configuration.
    pub experiment: Experiment,
    /// The sealed pipeline.
    pub graph: Arc<Graph<dyn Node>>,
}

/// The mistakes, and the texts that they point into.
#[derive(Debug)]
pub struct Broken {
    /// What is wrong.
    pub diagnostics: Diagnostics,
    /// Every text that was read.
    pub sources: Sources,
}

/// Loads and checks an experiment. What its graph says is reported beside what its text says.
pub fn load(file: &str, overrides: &[String]) -> Result<Project, Box<Broken>> {
    load_from(&Disk, file, overrides)
}

/// The same from a loader of other files than the disk's.
pub fn load_from(loader: &dyn Load, file: &str, overrides: &[String]) -> Result<Project, Box<Broken>> {
    let mut sources = Sources::new();
    let (experiment, faults) = config::load_partial(file, loader, overrides, &mut sources);
    let wired = experiment.as_ref().map(|experiment| wire_from(loader, experiment));
    match (experiment, wired, faults) {
        (Some(experiment), Some(Ok(graph)), None) => {
            let set = overrides.to_vec();
            Ok(Project { file: file.to_owned(), set, sources, experiment, graph: Arc::new(graph) })
        }
        (_, wired, faults) => Err(broken(sources, [faults, wired.and_then(Result::err)])),
    }
}

/// Loads and checks a model graph file on its own.
pub fn load_model(file: &str, overrides: &[String]) -> Result<ModelGraph, Box<Broken>> {
    let mut sources = Sources::new();
    let (model, faults) = config::load_model_partial(file, &Disk, overrides, &mut sources);
    match (model.as_ref().map(build_model), faults) {
        (Some(Ok(model)), None) => Ok(model),
        (built, faults) => Err(broken(sources, [faults, built.and_then(Result::err)])),
    }
}

fn broken(sources: Sources, faults: [Option<Diagnostics>; 2]) -> Box<Broken> {
    let unreadable = || Diagnostic::new("the file cannot be read").into();
    Box::new(Broken {
        diagnostics: Diagnostics::join(faults.into_iter().flatten()).unwrap_or_else(unreadable),
        sources,
    })
}

/// One variant of an experiment.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What it is called and what it changes.
    pub record: CellRecord,
    changes: Vec<Override>,
}

/// Builds the model graphs and the pipeline of a configuration.
fn wire_from(loader: &dyn Load, experiment: &Experiment) -> Result<Graph<dyn Node>, Diagnostics> {
    let mut faults = Vec::new();
    let graphs = experiment.graphs.iter().map(|file| match build_model(file) {
        Ok(model) => Some(Arc::new(model)),
        Err(diagnostics) => {
            faults.push(diagnostics);
            None
        }
    });
    let models = Models::new(graphs.collect());
    match graph::build::<dyn Node, Models>(experiment, KINDS, &models, loader) {
        Ok(graph) => {
            faults.extend(wrong_parts(&graph));
            if faults.is_empty() {
                return Ok(graph);
            }
        }
        Err(diagnostics) => faults.push(diagnostics),
    }
    Err(Diagnostics::join(faults).expect("at least one stage failed"))
}

/// Weights of parts of models (`weights = { vit = "stage1/vit", "qllama.lm_head" = "words/llm" }`): both nodes exist.
fn wrong_parts(graph: &Graph<dyn Node>) -> Option<Diagnostics> {
    let mut faults = Vec::new();
    for id in graph.ids() {
        let node = graph.node(id);
        for edge in node.edges.values().flatten().filter(|edge| edge.ty.class == Class::Weights) {
            let Source::Node { id: from, .. } = edge.from else { continue };
            let from = graph.node(from);
            let missing = |of: &graph::Node<dyn Node>, part: &str| {
                let part = part.split_once('.').map_or(part, |(node, _)| node);
                let model = of.spec.model().filter(|model| model.graph().find(part).is_none())?;
                let nodes: Vec<&str> =
                    model.graph().ids().map(|id| model.graph().node(id).name.as_str()).collect();
                let message = format!("the model graph of `{}` has no node `{part}`", of.name);
                Some(
                    Diagnostic::new(message)
                        .at(edge.span)
                        .help(Some(format!("its nodes are {}", nodes.join(", ")))),
                )
            };
            match (&edge.label, &edge.part) {
                (Some(label), part) => {
                    faults.extend(missing(node, label));
                    faults.extend(missing(from, part.as_ref().unwrap_or(label)));
                }
                (None, Some(part)) => {
                    let help = format!("write `weights = {{ {part} = \"{}/{part}\" }}`", from.name);
                    let message = format!("the node that takes the weights of `{part}` is not named");
                    faults.push(Diagnostic::new(message).at(edge.span).help(Some(help)));
                }
                (None, None) => {}
            }
        }
    }
    Diagnostics::from_list(faults)
}

/// An experiment where a model graph is named, in one sentence in place of one for each of its nodes.
fn not_a_model(file: &ModelFile) -> Option<Diagnostic> {
    let (_, first) = file.nodes.first()?;
    let is_pipeline = |kind: &str| KINDS.iter().any(|known| known.spec().name == kind);
    let all = file.nodes.values().all(|node| is_pipeline(&node.kind.0));
    let message = format!("`{}` is an experiment, but a model graph is needed", file.path);
    all.then(|| {
        Diagnostic::new(message).at(first.kind.1).label("nodes of experiments have no place in a model graph")
    })
}

fn build_model(file: &ModelFile) -> Result<ModelGraph, Diagnostics> {
    if let Some(diagnostic) = not_a_model(file) {
        return Err(diagnostic.into());
    }
    let graph = graph::build::<dyn ModelNode, ()>(file, MODEL_KINDS, &(), &Disk)?;
    let model = ModelGraph::new(graph);
    if let Some((first, second)) = model.clash() {
        let node = |id| model.graph().node(id);
        let message = format!("two parameters would be published as `{}`", first.published);
        let diagnostic = Diagnostic::new(message)
            .at(node(second.node).span)
            .label(format!("`{}` of this node", second.name))
            .related(node(first.node).span, format!("`{}` of this node", first.name))
            .help(Some("give one of the nodes another `published` prefix".to_owned()));
        return Err(diagnostic.into());
    }
    if let Some((id, missing)) = model.unshared() {
        let (node, owner) = (model.graph().node(id), model.graph().node(missing.node));
        let (name, shape) = (&missing.spec.name, &missing.spec.shape);
        let message = format!("`{}` shares the parameters of `{}`", node.name, owner.name);
        let diagnostic = Diagnostic::new(message)
            .at(node.span)
            .label(format!("needs `{name}` {shape:?}"))
            .related(owner.span, "has no such parameter");
        return Err(diagnostic.into());
    }
    Ok(model)
}

/// A node that was asked for does not exist.
#[derive(Debug, thiserror::Error)]
#[error("there is no node `{name}` to run; there are {known}")]
pub struct UnknownNode {
    name: String,
    known: String,
}

impl Cell {
    fn new(kind: CellKind, name: &str, changes: &[Override]) -> Self {
        // Of a key that is set twice, the last counts.
        let overrides = changes.iter().map(|change| (change.key(), change.value.to_json())).collect();
        Self { record: CellRecord { kind, name: name.to_owned(), overrides }, changes: changes.to_vec() }
    }
}

impl Project {
    /// Every variant: the base, the ablations, the cells of the sweeps.
    pub fn cells(&self) -> Vec<Cell> {
        let base = Cell::new(CellKind::Base, "base", &[]);
        let experiment = &self.experiment;
        let ablations = experiment.ablations.iter();
        let ablations = ablations.map(|(name, changes)| Cell::new(CellKind::Ablation, name, changes));
        let cells = experiment.sweeps.iter().flat_map(|(name, cells)| {
            cells.iter().map(move |cell| Cell::new(CellKind::Sweep, name, &cell.overrides))
        });
        std::iter::once(base).chain(ablations).chain(cells).collect()
    }

    /// The experiment of a variant, checked and sealed. It reads the files that its changes name.
    pub fn of_cell(&self, cell: &Cell, loader: &dyn Load) -> Result<Self, Box<Broken>> {
        let mut sources = self.sources.clone();
        let variant = self.experiment.variant(&cell.changes, loader, &mut sources);
        match variant.and_then(|variant| Ok((wire_from(loader, &variant)?, variant))) {
            Ok((graph, experiment)) => {
                let (file, set) = (self.file.clone(), self.set.clone());
                Ok(Self { file, set, sources, experiment, graph: Arc::new(graph) })
            }
            Err(diagnostics) => Err(Box::new(Broken { diagnostics, sources })),
        }
    }

    /// Checks variants as if they were run; the mistakes of all come out together.
    pub fn check_cells(&self, cells: &[Cell], loader: &dyn Load) -> Result<(), Box<Broken>> {
        let mut sources = self.sources.clone();
        let mut faults: Vec<Diagnostics> = Vec::new();
        for cell in cells {
            let variant = self.experiment.variant(&cell.changes, loader, &mut sources);
            if let Err(diagnostics) = variant.and_then(|variant| wire_from(loader, &variant).map(drop)) {
                faults.push(diagnostics);
            }
        }
        match Diagnostics::join(faults) {
            Some(diagnostics) => Err(Box::new(Broken { sources, diagnostics })),
            None => Ok(()),
        }
    }

    /// The texts of the files that were read, by path.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let files = self.sources.iter().filter(|(name, _)| *name != COMMAND_LINE);
        files.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    /// For nodes that run a model graph: its place among the experiment's.
    pub fn graph_of(&self) -> BTreeMap<String, usize> {
        let nodes = self.experiment.nodes.iter();
        nodes.filter_map(|(name, node)| Some((name.clone(), node.graph?.0))).collect()
    }

    /// The facts of every node in topological order, and the library of the files that they read.
    pub fn facts(
        &self,
        memo: Option<&Store>,
        compute: Compute,
    ) -> Result<(Vec<Facts>, Library), LibraryError> {
        let mut library = Library::default();
        if let Some(store) = memo {
            library = library.with_store(store.clone());
        }
        let places: BTreeMap<NodeId, usize> =
            self.graph.ids().enumerate().map(|(place, id)| (id, place)).collect();
        let mut models: Vec<(*const ModelGraph, serde_json::Value)> = Vec::new();
        let mut facts = Vec::with_capacity(places.len());
        for id in self.graph.ids() {
            let node = self.graph.node(id);
            let mut files: BTreeMap<String, Vec<FileKey>> = BTreeMap::new();
            for (field, file) in &node.files {
                let digest = library.add(&file.path, memo)?;
                let name = node.spec.reads_file_names().then(|| crate::files::name(&file.path));
                files.entry(field.clone()).or_default().push(FileKey { digest, name });
            }
            let model = node.spec.model().map(|model| {
                // Many nodes run the same graph; its canonical form is written once.
                let address = Arc::as_ptr(model);
                if let Some((_, canonical)) = models.iter().find(|(known, _)| *known == address) {
                    return canonical.clone();
                }
                let canonical = model.canonical();
                models.push((address, canonical.clone()));
                canonical
            });
            facts.push(Facts {
                name: node.name.clone(),
                kind: node.kind.name.to_owned(),
                version: node.kind.version,
                config: node.canonical.clone(),
                numerics: node.spec.need().map(|need| compute.numerics(need)),
                model,
                seed: node.spec.uses_seed().then_some(self.experiment.seed),
                files,
                inputs: self.inputs(id, &places),
                estimate_seconds: node.spec.estimate_seconds(),
            });
        }
        Ok((facts, library))
    }

    fn inputs(&self, id: NodeId, places: &BTreeMap<NodeId, usize>) -> Vec<InputFact> {
        let edges = self
            .graph
            .node(id)
            .edges
            .iter()
            .flat_map(|(port, edges)| edges.iter().map(move |edge| (port, edge)));
        edges
            .filter_map(|(port, edge)| match &edge.from {
                Source::Node { id: from, port: output } => Some(InputFact {
                    port: (*port).to_owned(),
                    label: edge.label.clone(),
                    part: edge.part.clone(),
                    from: places[from],
                    output: output.clone(),
                }),
                Source::Input(_) => None,
            })
            .collect()
    }

    /// Places of the nodes of `--force`, each of which has to be among those that the plan needs.
    pub fn forced(&self, wanted: &BTreeSet<usize>, names: &[String]) -> Result<BTreeSet<usize>, UnknownNode> {
        let ids: Vec<NodeId> = self.graph.ids().collect();
        let wanted: Vec<NodeId> = wanted.iter().map(|place| ids[*place]).collect();
        let needed = self.graph.upstream(&wanted);
        let known = || {
            let names = needed.iter().map(|id| self.graph.node(*id).name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let place = |name: &String| {
            let found = ids.iter().position(|id| needed.contains(id) && self.graph.node(*id).name == *name);
            found.ok_or_else(|| UnknownNode { name: name.clone(), known: known() })
        };
        names.iter().map(place).collect()
    }

    /// Places of the named nodes in topological order; all nodes if none is named.
    pub fn places(&self, names: &[String]) -> Result<BTreeSet<usize>, UnknownNode> {
        let ids: Vec<NodeId> = self.graph.ids().collect();
        if names.is_empty() {
            return Ok((0..ids.len()).collect());
        }
        let place = |name: &String| {
            ids.iter().position(|id| self.graph.node(*id).name == *name).ok_or_else(|| UnknownNode {
                name: name.clone(),
                known: ids.iter().map(|id| self.graph.node(*id).name.as_str()).collect::<Vec<_>>().join(", "),
            })
        };
        names.iter().map(place).collect()
    }
}
