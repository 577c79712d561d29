//! A decoder of a model graph in the middle of a text: what comes before it runs once, then token by token.

use std::collections::BTreeMap;

use heddle_graph::graph::{NodeId, Source};
use heddle_tensor::{Backend, Mode, Parameters, Tape, TensorError, Value, generate::Decoding};

use super::{ModelGraph, Pass, RunError};

impl ModelGraph {
    /// The decoder that writes an output: the node whose scores of tokens it is.
    pub fn writer(&self, output: &str) -> Option<NodeId> {
        match self.output(output)?.0 {
            Source::Node { id, port } if port == "logits" => Some(id),
            _ => None,
        }
    }

    /// What a node reads, and at which ports.
    pub fn reads(&self, node: NodeId) -> Vec<(String, Source)> {
        let edges = self.graph.node(node).edges.iter();
        edges
            .flat_map(|(port, edges)| edges.iter().map(move |edge| (edge.port(port), edge.from.clone())))
            .collect()
    }

    /// The graph's input that a node reads as its text.
    pub fn text_input(&self, node: NodeId) -> Option<&str> {
        let edge = self.graph.node(node).edges.get("text")?.first()?;
        match &edge.from {
            Source::Input(name) => Some(name),
            Source::Node { .. } => None,
        }
    }
}

/// Computes what `node` reads from the graph's inputs and from known values of sources, lets it read its prompts, and gives the
/// scores of the next token of each.
///
/// # Errors
/// What a node returns.
pub fn start<'a, B: Backend>(
    model: &'a ModelGraph,
    parameters: &'a Parameters<B>,
    node: NodeId,
    inputs: &BTreeMap<String, Value<B>>,
    given: &[(Source, Value<B>)],
) -> Result<(Decoding<'a, B>, Vec<Vec<f32>>), RunError> {
    let of = model.graph.node(node);
    let edges = model.reads(node);
    let wanted: Vec<Source> = edges.iter().map(|(_, from)| from.clone()).collect();
    let pass = Pass { model, parameters, mode: Mode::Eval, seed: 0, tape: Tape::off() };
    let values = pass.run_from(inputs, given, &wanted)?;
    let read = edges.into_iter().map(|(port, _)| port).zip(values).collect();
    let owner = &model.graph.node(model.graph.owner(node)).name;
    let failed = |error: TensorError| RunError::Node { node: of.name.clone(), error };
    Decoding::start(&*model.modules[&node], parameters, format!("{owner}/"), read).map_err(failed)
}
