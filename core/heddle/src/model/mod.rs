//! Model graphs: the differentiable DAG, its parameters, its cost, and how it runs on a backend.
//!
//! Knows nothing of data, optimisers or files. Parameters are kept as `node/local name` and appear in weight
//! files under their published names.

mod adapters;
mod cut;
mod identity;
mod prefixes;
mod published;
mod run;
mod size;
mod weights;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_graph::{
    config::GraphId,
    graph::{Graph, InPort, Inputs, Node, NodeId, PortType, Source},
};
use heddle_tensor::{DynModule, ParameterSpec, parameter::Adapter};
use serde_json::Value as Json;

pub use adapters::{adapters_in, merged};
pub use cut::{Cut, Feed, Moving, State};
pub use identity::Contents;
pub use prefixes::Prefixes;
pub use published::Published;
pub use run::{Pass, RunError};
pub use size::{Size, node_macs};
pub use weights::{WeightsError, load_published, load_states, metadata, save};
pub use writing::start;

use crate::nodes::ModelNode;

/// The model graphs of an experiment by id; a graph with mistakes is absent, and reported elsewhere.
#[derive(Default)]
pub struct Models {
    graphs: Vec<Option<Arc<ModelGraph>>>,
}

impl Models {
    /// From the graphs in the order of their ids.
    pub fn new(graphs: Vec<Option<Arc<ModelGraph>>>) -> Self {
        Self { graphs }
    }

    /// The graph under an id.
    pub fn get(&self, id: Option<GraphId>) -> Option<Arc<ModelGraph>> {
        self.graphs.get(id?.0).cloned().flatten()
    }
}

/// A checked model graph with its modules; no weights.
pub struct ModelGraph {
    graph: Graph<dyn ModelNode>,
    modules: BTreeMap<NodeId, Box<dyn DynModule>>,
}

/// One parameter of a model graph.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The node it belongs to.
    pub node: NodeId,
    /// `node/local name`: its name within heddle.
    pub name: String,
    /// Its name in weight files.
    pub published: String,
    /// Shape, initialisation, decay.
    pub spec: ParameterSpec,
}

impl ModelGraph {
    /// Builds the modules of a sealed graph.
    pub fn new(graph: Graph<dyn ModelNode>) -> Self {
        let modules =
            graph.ids().map(|id| (id, graph.node(id).spec.module(&inputs(graph.node(id))))).collect();
        Self { graph, modules }
    }

    /// The graph below.
    pub fn graph(&self) -> &Graph<dyn ModelNode> {
        &self.graph
    }

    /// What enters a cache key.
    pub fn canonical(&self) -> Json {
        self.graph.canonical()
    }

    /// All parameters, in topological order of their nodes; those that several nodes share once.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.graph.ids().filter(|id| self.graph.owner(*id) == *id).flat_map(|id| self.used_by(id)).collect()
    }

    /// The parameters that one node computes with, its own or another's.
    pub fn used_by(&self, id: NodeId) -> Vec<Parameter> {
        let owner = self.graph.owner(id);
        let node = self.graph.node(owner);
        let published = node.spec.published().cloned().unwrap_or_default();
        let parameter = |spec: ParameterSpec| Parameter {
            node: owner,
            name: format!("{}/{}", node.name, spec.name),
            published: published.name(&node.name, &spec.name),
            spec,
        };
        self.modules[&id].parameters().into_iter().map(parameter).collect()
    }

    /// Pairs of thin matrices among the parameters (LoRA), as `node/local name`.
    pub fn adapters(&self) -> Vec<Adapter> {
        let of_node = |id: NodeId| {
            let node = &self.graph.node(id).name;
            let full = |Adapter { weight, a, b, scale }: Adapter| {
                let [weight, a, b] = [weight, a, b].map(|local| format!("{node}/{local}"));
                Adapter { weight, a, b, scale }
            };
            self.modules[&id].adapters().into_iter().map(full).collect::<Vec<_>>()
        };
        self.graph.ids().filter(|id| self.graph.owner(*id) == *id).flat_map(of_node).collect()
    }

    /// The parameters that some nodes compute with, in the order of [`ModelGraph::parameters`].
    pub fn used_by_all(&self, ids: &BTreeSet<NodeId>) -> Vec<Parameter> {
        let names: BTreeSet<String> =
            ids.iter().flat_map(|id| self.used_by(*id)).map(|parameter| parameter.name).collect();
        self.parameters().into_iter().filter(|parameter| names.contains(&parameter.name)).collect()
    }

    /// A node that shares another's parameters and needs one that the other does not have in this shape.
    pub fn unshared(&self) -> Option<(NodeId, Parameter)> {
        let owned = |id: NodeId, wanted: &Parameter| {
            let own = self.modules[&self.graph.owner(id)].parameters();
            own.iter().any(|spec| spec.name == wanted.spec.name && spec.shape == wanted.spec.shape)
        };
        self.graph.ids().find_map(|id| {
            let missing = self.used_by(id).into_iter().find(|parameter| !owned(id, parameter))?;
            Some((id, missing))
        })
    }

    /// The source and type behind a name of the graph's `outputs`, or behind `node.port`.
    pub fn output(&self, name: &str) -> Option<(Source, PortType)> {
        let source = match self.graph.outputs.get(name) {
            Some(source) => source.clone(),
            None => self.graph.resolve_port(name).ok()?.0,
        };
        let ty = self.type_of(&source)?;
        Some((source, ty))
    }

    /// The type that a source gives.
    pub fn type_of(&self, source: &Source) -> Option<PortType> {
        match source {
            Source::Input(name) => self.graph.inputs.get(name).map(|input| input.ty.clone()),
            Source::Node { id, port } => {
                let outputs = &self.graph.node(*id).outputs;
                outputs.iter().find(|out| out.name == *port).map(|out| out.ty.clone())
            }
        }
    }

    /// Two parameters with one published name; weight files could not hold both.
    pub fn clash(&self) -> Option<(Parameter, Parameter)> {
        let mut seen: BTreeMap<String, Parameter> = BTreeMap::new();
        for parameter in self.parameters() {
            if let Some(first) = seen.get(&parameter.published) {
                return Some((first.clone(), parameter));
            }
            seen.insert(parameter.published.clone(), parameter);
        }
        None
    }
}

/// The types that arrive at a node, from its edges.
fn inputs(node: &Node<dyn ModelNode>) -> Inputs {
    let ports: Vec<InPort> = node.spec.inputs();
    let types =
        |name: &str| node.edges.get(name).map(|edges| edges.iter().map(|edge| edge.ty.clone()).collect());
    Inputs { ports: ports.iter().filter_map(|port| Some((port.name, types(port.name)?))).collect() }
}
