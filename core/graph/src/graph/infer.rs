//! Types on edges: which port a link means, whether its class is right, what the node makes of it.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::{
    build::Draft,
    connect::Link,
    kind::{InPort, Inputs, Mismatch, NodeSpec, OutPort},
    lookup::{PortError, find_port, split_port},
    port::PortType,
    sealed::{Edge, NodeId, Source},
};
use crate::{
    config::{ConfigNode, InputDecl},
    diagnostic::{Diagnostic, Problems},
    source::Span,
};

/// The connections of a node by port.
pub(super) type Edges = IndexMap<&'static str, Vec<Edge>>;

/// A node whose outputs are known.
pub(super) struct Known<'a> {
    pub id: NodeId,
    pub outputs: Vec<OutPort>,
    pub span: Span,
    pub name: &'a str,
}

/// What links can refer to so far.
pub(super) struct Scope<'a> {
    pub inputs: &'a IndexMap<String, InputDecl>,
    pub known: HashMap<&'a str, Known<'a>>,
}

/// The edges and outputs of a node; `None` if something about them is wrong or rests on something wrong.
pub(super) fn infer<N: NodeSpec + ?Sized>(
    draft: &Draft<'_, N>,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<(Edges, Vec<OutPort>)> {
    let mut edges = Edges::new();
    let mut sound = draft.sound;
    for port in &draft.ports {
        for link in draft.links.iter().filter(|link| link.port == port.name) {
            match edge(link, port, scope, problems) {
                Some(edge) => edges.entry(port.name).or_default().push(edge),
                None => sound = false,
            }
        }
    }
    if !sound {
        return None;
    }
    let types = |edges: &Vec<Edge>| edges.iter().map(|edge| edge.ty.clone()).collect();
    let inputs = Inputs { ports: edges.iter().map(|(port, edges)| (*port, types(edges))).collect() };
    match draft.spec.infer(&inputs) {
        Ok(outputs) => Some((edges, outputs)),
        Err(mismatch) => {
            problems.push(mismatch_diagnostic(mismatch, draft.config, &edges, scope));
            None
        }
    }
}

/// The edge of a link, if its target is known and gives what the port takes.
fn edge(link: &Link, port: &InPort, scope: &Scope<'_>, problems: &mut Problems) -> Option<Edge> {
    let (from, ty) = match source(link, scope)? {
        Ok(found) => found,
        Err(error) => {
            let help = error.help().map(str::to_owned);
            problems.push(Diagnostic::new(error.to_string()).at(link.span).help(help));
            return None;
        }
    };
    if !port.classes.contains(&ty.class) {
        let classes: Vec<&str> = port.classes.iter().map(|class| class.name()).collect();
        let message =
            format!("port `{}` takes {}, found {}", port.name, classes.join(" or "), ty.class.name());
        let label = format!("`{}` gives {ty}", text(link));
        problems.push(
            Diagnostic::new(message).at(link.span).label(label).related(span(link, scope), "defined here"),
        );
        return None;
    }
    Some(Edge { from, ty, label: link.label.clone(), part: link.part.clone(), span: link.span })
}

/// What a link refers to; `None` if that is not known, for reasons that are reported elsewhere.
fn source(link: &Link, scope: &Scope<'_>) -> Option<Result<(Source, PortType), PortError>> {
    match scope.find(&link.target, link.target_port.as_deref()) {
        Err(PortError::UnknownNode { .. }) => None,
        found => Some(found),
    }
}

impl Scope<'_> {
    /// The source that a text names.
    pub fn port(&self, text: &str) -> Result<Source, PortError> {
        let (name, port) = split_port(text);
        self.find(name, port).map(|(source, _)| source)
    }

    fn find(&self, name: &str, port: Option<&str>) -> Result<(Source, PortType), PortError> {
        if let Some(input) = self.inputs.get(name) {
            return match port {
                None => Ok((Source::Input(name.to_owned()), input.ty.clone())),
                Some(port) => Err(PortError::UnknownPort {
                    node: name.to_owned(),
                    port: port.to_owned(),
                    help: Some("an input has no ports".to_owned()),
                }),
            };
        }
        let unknown = || PortError::UnknownNode { name: name.to_owned(), help: None };
        let known = self.known.get(name).ok_or_else(unknown)?;
        let output = find_port(name, &known.outputs, port)?;
        Ok((Source::Node { id: known.id, port: output.name.clone() }, output.ty.clone()))
    }
}

/// The link as the file has it, without the part.
fn text(link: &Link) -> String {
    match &link.target_port {
        Some(port) => format!("{}.{port}", link.target),
        None => link.target.clone(),
    }
}

/// Where the target of a link is written.
fn span(link: &Link, scope: &Scope<'_>) -> Option<Span> {
    let node = scope.known.get(link.target.as_str()).map(|known| known.span);
    node.or_else(|| scope.inputs.get(&link.target).map(|input| input.span))
}

/// Places a mismatch: at the source of the port, at the parameter, or at the node's kind.
fn mismatch_diagnostic(
    mismatch: Mismatch,
    config: &ConfigNode,
    edges: &Edges,
    scope: &Scope<'_>,
) -> Diagnostic {
    let edge = mismatch.port.and_then(|port| edges.get(port)).and_then(|edges| edges.first());
    let param = mismatch.param.and_then(|param| config.table.get(param)).map(|entry| &entry.value);
    let place = param.map(|value| value.span).or_else(|| edge.map(|edge| edge.span)).unwrap_or(config.kind.1);
    let mut diagnostic =
        Diagnostic::new(format!("`{}`: {}", config.name, mismatch.message)).at(place).help(mismatch.help);
    if let Some(value) = param {
        diagnostic = diagnostic.related(value.via, "used here");
    }
    let gives = |edge: &Edge| match &edge.from {
        Source::Input(name) => format!("`{name}` gives {}", edge.ty),
        Source::Node { id, port } => {
            let name = scope.known.values().find(|known| known.id == *id).map_or("", |known| known.name);
            format!("`{name}.{port}` gives {}", edge.ty)
        }
    };
    let origin = |edge: &Edge| match &edge.from {
        Source::Input(name) => scope.inputs.get(name).map(|input| input.span),
        Source::Node { id, .. } => scope.known.values().find(|known| known.id == *id).map(|known| known.span),
    };
    match edge {
        Some(edge) if param.is_none() => diagnostic.label(gives(edge)).related(origin(edge), "defined here"),
        Some(edge) => diagnostic.related(edge.span, gives(edge)),
        None => edges
            .values()
            .flatten()
            .fold(diagnostic, |diagnostic, edge| diagnostic.related(edge.span, gives(edge))),
    }
}
