//! Where a node's model graph is cut, in words and colours.

use heddle_graph::graph::{NodeId, Paint, Source};
use serde::Serialize;

use crate::model::{Cut, ModelGraph, Moving, State};

/// Of frozen nodes, of those that are frozen in part, of those that move; and of the pipeline's hits and misses.
pub const FROZEN: &str = "#cfe2f3";
const PARTLY: &str = "#d9d2e9";
const MOVING: &str = "#fce5cd";
/// In the cache.
pub const HIT: &str = "#d9ead3";
/// Runs.
pub const MISS: &str = "#f4cccc";

/// What is kept of a stage's frozen part, or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Frozen nodes of the model graph.
    pub frozen: Vec<String>,
    /// Outputs of which the cache keeps a row for each record.
    pub kept: Vec<String>,
    /// Bytes of them, of one record.
    pub bytes: usize,
    /// If nothing is kept: the first reason, from the inputs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Takes a cut together; none where everything learns from its inputs on.
pub fn summary(model: &ModelGraph, cut: &Cut) -> Summary {
    let graph = model.graph();
    let name = |id: &NodeId| graph.node(*id).name.clone();
    let frozen = |(id, state): (&NodeId, &State)| (*state == State::Frozen).then(|| name(id));
    let size = |source: &Source| model.row_bytes(source).unwrap_or_default();
    let reason = |(id, state): (&NodeId, &State)| match state {
        // Followers say nothing new, and texts are never kept.
        State::Moving(why @ (Moving::Reads(..) | Moving::Draws | Moving::Learns(_)))
            if reads_image(model, *id) =>
        {
            Some(format!("{}: {why}", name(id)))
        }
        _ => None,
    };
    Summary {
        frozen: cut.states.iter().filter_map(frozen).collect(),
        kept: cut.sources.iter().map(|source| model.source_name(source)).collect(),
        bytes: cut.sources.iter().map(size).sum(),
        refused: if cut.sources.is_empty() { cut.states.iter().find_map(reason) } else { None },
    }
}

fn reads_image(model: &ModelGraph, id: NodeId) -> bool {
    use heddle_graph::graph::Class;
    let graph = model.graph();
    let mut edges = graph.node(id).edges.values().flatten();
    edges.any(|edge| matches!(&edge.from, Source::Input(name) if graph.inputs[name].ty.class == Class::Image))
}

impl Summary {
    /// In a sentence.
    pub fn line(&self, node: &str) -> Option<String> {
        match (&self.refused, self.kept.is_empty()) {
            (_, false) => Some(format!(
                "{node} keeps {} ({} bytes a record); frozen: {}",
                self.kept.join(", "),
                self.bytes,
                if self.frozen.is_empty() { "parts of nodes".to_owned() } else { self.frozen.join(", ") },
            )),
            (Some(reason), true) => Some(format!("{node} keeps nothing; {reason}")),
            (None, true) => None,
        }
    }
}

/// How a node of a model graph is painted.
pub fn paint(model: &ModelGraph, cut: &Cut, id: NodeId) -> Paint {
    let kept = cut.sources.iter().filter(|source| matches!(source, Source::Node { id: of, .. } if *of == id));
    let kept: Vec<String> = kept.map(|source| model.source_name(source)).collect();
    let kept = (!kept.is_empty()).then(|| format!("kept: {}", kept.join(", ")));
    let (fill, why) = match cut.states.get(&id) {
        Some(State::Frozen) => (Some(FROZEN), None),
        Some(State::FrozenUpTo(_, why)) => (Some(PARTLY), Some(why.to_string())),
        Some(State::Moving(why)) => (Some(MOVING), Some(why.to_string())),
        None => (None, Some("not needed".to_owned())),
    };
    let notes: Vec<String> = [why, kept].into_iter().flatten().collect();
    Paint { fill, note: (!notes.is_empty()).then(|| notes.join("; ")) }
}
