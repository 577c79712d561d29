//! How large a model graph is: parameters and multiply-adds, without allocating weights.

use std::collections::BTreeSet;

use heddle_graph::graph::{Class, Dim, NodeId, PortType};
use heddle_tensor::InputSize;
use serde::Serialize;

use super::ModelGraph;

/// Length of a text whose input says none: the longest that InternVL reads (spec of the published tokenizer call).
const TEXT_TOKENS: usize = 80;

/// The size of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Size {
    /// The node.
    pub node: String,
    /// Its kind.
    pub kind: String,
    /// Number of parameters, 0 for a node that shares those of another.
    pub parameters: u64,
    /// Multiply-adds of one record's forward pass; none if a size is known only at run time.
    pub macs: Option<u64>,
}

impl ModelGraph {
    /// The size of every node.
    pub fn sizes(&self) -> Vec<Size> {
        let of = |id: NodeId| {
            let node = self.graph.node(id);
            let own = self.graph.owner(id) == id;
            let specs = if own { self.modules[&id].parameters() } else { Vec::new() };
            let parameters = specs.iter().map(|spec| spec.len() as u64).sum();
            Size {
                node: node.name.clone(),
                kind: node.kind.name.to_owned(),
                parameters,
                macs: node_macs(self, id),
            }
        };
        self.graph.ids().map(of).collect()
    }

    /// Number of elements of the parameters that these nodes compute with.
    pub fn count_parameters(&self, ids: &BTreeSet<NodeId>) -> u64 {
        self.used_by_all(ids).iter().map(|parameter| parameter.spec.len() as u64).sum()
    }

    /// Multiply-adds of one record's forward pass through the nodes that `of` names and everything upstream.
    pub fn macs(&self, of: &[NodeId]) -> Option<u64> {
        self.graph.upstream(of).into_iter().map(|id| node_macs(self, id)).sum()
    }
}

/// Multiply-adds of one record's forward pass through one node.
pub fn node_macs(model: &ModelGraph, id: NodeId) -> Option<u64> {
    let node = model.graph.node(id);
    let ty = node.edges.values().flatten().map(|edge| &edge.ty).next()?;
    Some(model.modules[&id].macs(input_size(ty)?))
}

fn input_size(ty: &PortType) -> Option<InputSize> {
    let dim = |index: usize| ty.shape.get(index).and_then(Dim::known);
    match ty.class {
        Class::Image => Some(InputSize::Image { height: dim(2)?, width: dim(3)? }),
        Class::Sequence => Some(InputSize::Tokens(dim(1)?)),
        Class::Text => Some(InputSize::Tokens(dim(1).unwrap_or(TEXT_TOKENS))),
        Class::Vector => Some(InputSize::Vector),
        _ => None,
    }
}
