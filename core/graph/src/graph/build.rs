//! [`build`]: from a document and the registry to a sealed graph, with every mistake in one pass.
//!
//! A node with a mistake is not *sound*: its links are still checked, its outputs are unknown, and what depends on
//! them is passed over in silence.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{
    connect::{Link, links},
    cycle::order,
    infer::{Known, Scope, infer},
    kind::{InPort, Kind, KindSpec, NodeSpec, Place},
    lookup::PortError,
    sealed::{Graph, Node, NodeId, Source},
};
use crate::{
    config::{ConfigNode, Document, ReadEnv, Reader, Reading},
    diagnostic::{Diagnostic, Diagnostics, Problems},
    source::Load,
    suggest,
};

/// A node whose parameters are read and whose links are not yet followed.
pub(super) struct Draft<'a, N: ?Sized> {
    pub config: &'a ConfigNode,
    pub kind: KindSpec,
    pub spec: Box<N>,
    pub reading: Reading,
    pub ports: Vec<InPort>,
    pub links: Vec<Link>,
    /// Whether nothing is wrong with it so far.
    pub sound: bool,
}

/// Builds the graph of an experiment or of a model graph.
///
/// # Errors
/// All mistakes: unknown kinds, keys, nodes and ports, wrong values, classes and shapes, missing links, cycles.
pub fn build<N: NodeSpec + ?Sized, C: ?Sized>(
    document: &impl Document,
    kinds: &[&dyn Kind<N, C>],
    context: &C,
    loader: &dyn Load,
) -> Result<Graph<N>, Diagnostics> {
    let mut problems = Problems::with_gaps(document.gaps().clone());
    let mut drafts = read_all(document, kinds, context, loader, &mut problems);
    let uses = follow_links(&mut drafts, document, &mut problems);
    let names: Vec<&str> = drafts.iter().map(|draft| draft.config.name.as_str()).collect();
    let order = order(&names, &uses);
    for cycle in &order.cycles {
        problems.push(cycle_diagnostic(cycle, &drafts));
    }

    let mut scope = Scope { inputs: document.inputs(), known: HashMap::new() };
    let mut slots: Vec<Option<Draft<'_, N>>> = drafts.into_iter().map(Some).collect();
    let mut nodes = Vec::with_capacity(slots.len());
    for at in order.sorted {
        let Some(draft) = slots[at].take() else { continue };
        if let Some((edges, outputs)) = infer(&draft, &scope, &mut problems) {
            let id = NodeId(nodes.len() as u32);
            let Draft { config, kind, spec, reading, .. } = draft;
            let known = Known { id, outputs: outputs.clone(), span: config.span, name: &config.name };
            scope.known.insert(&config.name, known);
            nodes.push(Node {
                name: config.name.clone(),
                kind,
                spec,
                canonical: Json::Object(reading.canonical),
                left_out: reading.left_out,
                files: reading.files,
                graph: config.graph,
                share: config.share.clone(),
                keep: config.keep.unwrap_or_default(),
                stored: config.stored.unwrap_or_default(),
                edges,
                outputs,
                span: config.span,
            });
        }
    }
    let outputs = resolve_outputs(document, &scope, &mut problems);
    problems.finish(())?;
    Ok(Graph::seal(nodes, document.inputs().clone(), outputs))
}

/// Reads the parameters of every node whose kind is known.
fn read_all<'a, N: NodeSpec + ?Sized, C: ?Sized>(
    document: &'a impl Document,
    kinds: &[&dyn Kind<N, C>],
    context: &C,
    loader: &dyn Load,
    problems: &mut Problems,
) -> Vec<Draft<'a, N>> {
    let by_name: HashMap<&str, &dyn Kind<N, C>> =
        kinds.iter().map(|kind| (kind.spec().name, *kind)).collect();
    let env = ReadEnv::new(loader, document.sources(), std::mem::take(problems));
    let mut drafts = Vec::with_capacity(document.nodes().len());
    for config in document.nodes().values() {
        let (name, span) = &config.kind;
        match by_name.get(name.as_str()) {
            Some(kind) => drafts.push(read(config, *kind, context, &env)),
            None => {
                let help = suggest::help(name, kinds.iter().map(|kind| kind.spec().name));
                env.problems
                    .borrow_mut()
                    .push(Diagnostic::new(format!("unknown kind `{name}`")).at(*span).help(help));
            }
        }
    }
    *problems = env.problems.into_inner();
    drafts
}

fn read<'a, N: NodeSpec + ?Sized, C: ?Sized>(
    config: &'a ConfigNode,
    kind: &dyn Kind<N, C>,
    context: &C,
    env: &ReadEnv<'_>,
) -> Draft<'a, N> {
    let before = env.problems.borrow().raised();
    let mut reader = Reader::new(env, Some(&config.table), config.span).with_graph(config.graph);
    let spec = kind.read(&mut reader, context);
    let ports = spec.inputs();
    let keys = ports.iter().filter(|port| port.place == Place::Key).map(|port| port.name);
    let share = config.share.as_ref().map(|_| "share");
    let cache = config.keep.map(|_| "cache");
    let store = config.stored.map(|_| "store");
    let common = ["kind", "in"].into_iter().chain(share).chain(cache).chain(store);
    let known: Vec<&str> = common.chain(keys).collect();
    let reading = reader.finish(&known);
    let kind = kind.spec();
    let mut problems = env.problems.borrow_mut();
    let links = links(config, &kind, &ports, &mut problems);
    let sound = problems.raised() == before;
    Draft { config, kind, spec, reading, ports, links, sound }
}

/// For every draft the positions of those that it takes values from. Unknown names are reported.
fn follow_links<N: ?Sized>(
    drafts: &mut [Draft<'_, N>],
    document: &impl Document,
    problems: &mut Problems,
) -> Vec<Vec<usize>> {
    let places: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(at, draft)| (draft.config.name.as_str(), at)).collect();
    // Nodes that are there and not understood: no draft, and no complaint about those who name them.
    let silent: HashSet<&str> =
        document.nodes().keys().chain(document.broken_nodes()).map(String::as_str).collect();
    let mut uses = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let mut sources = Vec::new();
        for link in &draft.links {
            if let Some(at) = places.get(link.target.as_str()) {
                sources.push(*at);
            } else if !document.inputs().contains_key(&link.target) {
                draft.sound = false;
                if !silent.contains(link.target.as_str()) {
                    let error = unknown_node(&link.target, document);
                    let help = error.help().map(str::to_owned);
                    problems.absent(Diagnostic::new(error.to_string()).at(link.span).help(help));
                }
            }
        }
        uses.push(sources);
    }
    uses
}

fn unknown_node(name: &str, document: &impl Document) -> PortError {
    let names = document.nodes().keys().chain(document.inputs().keys()).map(String::as_str);
    PortError::UnknownNode { name: name.to_owned(), help: suggest::help(name, names) }
}

/// `a -> b -> a`, with the place of each link.
fn cycle_diagnostic<N: ?Sized>(cycle: &[usize], drafts: &[Draft<'_, N>]) -> Diagnostic {
    let name = |at: usize| drafts[at].config.name.as_str();
    let chain: Vec<&str> = cycle.iter().chain(cycle.first()).map(|at| name(*at)).collect();
    let message = format!("nodes depend on each other: {}", chain.join(" -> "));
    let steps = cycle.iter().zip(cycle.iter().cycle().skip(1));
    let mut places = steps.filter_map(|(from, to)| {
        let link = drafts[*to].links.iter().find(|link| link.target == name(*from))?;
        Some((link.span, format!("`{}` takes values from `{}`", name(*to), name(*from))))
    });
    let diagnostic = Diagnostic::new(message);
    let diagnostic = match places.next() {
        Some((span, label)) => diagnostic.at(span).label(label),
        None => diagnostic,
    };
    places.fold(diagnostic, |diagnostic, (span, label)| diagnostic.related(span, label))
}

/// The named outputs of a model graph.
fn resolve_outputs(
    document: &impl Document,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> IndexMap<String, Source> {
    let mut outputs = IndexMap::new();
    for (name, output) in document.outputs() {
        let found = scope.port(&output.from);
        match found {
            Ok(source) => {
                outputs.insert(name.clone(), source);
            }
            Err(PortError::UnknownNode { name, .. }) => {
                let there = document.nodes().contains_key(&name) || document.broken_nodes().contains(&name);
                if !there {
                    let error = unknown_node(&name, document);
                    let help = error.help().map(str::to_owned);
                    problems.absent(Diagnostic::new(error.to_string()).at(output.span).help(help));
                }
            }
            Err(error) => {
                let help = error.help().map(str::to_owned);
                problems.push(Diagnostic::new(error.to_string()).at(output.span).help(help));
            }
        }
    }
    outputs
}
