//! [`Graph`]: the sealed result. Only `build` makes one, so whoever holds it need not check again.

use std::{collections::BTreeSet, fmt};

use indexmap::IndexMap;
use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
};
use serde_json::{Map, Value as Json, json};

use super::{
    kind::{KindSpec, OutPort},
    port::PortType,
};
use crate::{
    config::{Dialogue, GraphId, InputDecl, InputFile, Keep, Stored, TextOf},
    source::Span,
};

/// Names a node of one graph: its place in the topological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The place in the topological order, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    fn petgraph(self) -> NodeIndex {
        NodeIndex::new(self.index())
    }

    fn from_petgraph(index: NodeIndex) -> Self {
        Self(index.index() as u32)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// An input of the model graph, by name.
    Input(String),
    /// A port of a node.
    Node {
        /// The node.
        id: NodeId,
        /// Its port, also where the file leaves the first one unsaid.
        port: String,
    },
}

/// A connection into a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where the value comes from.
    pub from: Source,
    /// What it is.
    pub ty: PortType,
    /// The key in a labelled port: `vit` of `weights = { vit = "stage1/vit" }`.
    pub label: Option<String>,
    /// The part of the value that is meant: `vit` of `"stage1/vit"`.
    pub part: Option<String>,
    /// Where the file names it.
    pub span: Span,
}

/// A node whose parameters are read and whose ports are connected.
pub struct Node<N: ?Sized> {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: KindSpec,
    /// What it can do.
    pub spec: Box<N>,
    /// Every parameter that counts in a cache key, defaults included, keys sorted.
    pub canonical: Json,
    /// The parameters that do not count, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// The files that it names, by field.
    pub files: Vec<(String, InputFile)>,
    /// The model graph that it names.
    pub graph: Option<GraphId>,
    /// The node of the same model graph whose parameters it uses, if it has none of its own.
    pub share: Option<String>,
    /// Whether its values are kept where it is a frozen node of a model graph.
    pub keep: Keep,
    /// How exactly.
    pub stored: Stored,
    /// The connections, by port in the order of [`super::NodeSpec::inputs`]; unconnected ports are not there.
    pub edges: IndexMap<&'static str, Vec<Edge>>,
    /// What it gives, the default port first.
    pub outputs: Vec<OutPort>,
    /// Where its name is written.
    pub span: Span,
}

/// A typed DAG.
pub struct Graph<N: ?Sized> {
    /// Node indices are topological places; an edge for each pair of nodes that are connected at all.
    dag: DiGraph<Node<N>, ()>,
    /// What a model graph is fed with.
    pub inputs: IndexMap<String, InputDecl>,
    /// The ports of a model graph that have names outside.
    pub outputs: IndexMap<String, Source>,
    by_name: IndexMap<String, NodeId>,
}

impl<N: ?Sized> Graph<N> {
    /// Seals nodes that are in topological order.
    pub(super) fn seal(
        nodes: Vec<Node<N>>,
        inputs: IndexMap<String, InputDecl>,
        outputs: IndexMap<String, Source>,
    ) -> Self {
        let mut dag = DiGraph::with_capacity(nodes.len(), nodes.len());
        let mut by_name = IndexMap::with_capacity(nodes.len());
        for node in nodes {
            let sources: BTreeSet<NodeId> = node.edges.values().flatten().filter_map(Edge::node).collect();
            let name = node.name.clone();
            let index = dag.add_node(node);
            by_name.insert(name, NodeId::from_petgraph(index));
            for source in sources {
                dag.add_edge(source.petgraph(), index, ());
            }
        }
        Self { dag, inputs, outputs, by_name }
    }

    /// All nodes, in a topological order that depends on structure and names alone, not on the order of the file.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<N> {
        (0..self.dag.node_count() as u32).map(NodeId)
    }

    /// One node.
    ///
    /// # Panics
    /// If the id is of another, larger graph.
    pub fn node(&self, id: NodeId) -> &Node<N> {
        &self.dag[id.petgraph()]
    }

    /// The node of a name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The nodes that a node takes values from, in topological order.
    pub fn dependencies(&self, id: NodeId) -> Vec<NodeId> {
        self.neighbours(id, Direction::Incoming)
    }

    /// The nodes that take values from a node, in topological order.
    pub fn dependents(&self, id: NodeId) -> Vec<NodeId> {
        self.neighbours(id, Direction::Outgoing)
    }

    fn neighbours(&self, id: NodeId, direction: Direction) -> Vec<NodeId> {
        let indices = self.dag.neighbors_directed(id.petgraph(), direction);
        let mut ids: Vec<NodeId> = indices.map(NodeId::from_petgraph).collect();
        ids.sort_unstable();
        ids
    }

    /// These nodes and everything that they depend on, however far.
    pub fn upstream(&self, from: &[NodeId]) -> BTreeSet<NodeId> {
        let mut seen: BTreeSet<NodeId> = from.iter().copied().collect();
        let mut open: Vec<NodeId> = from.to_vec();
        while let Some(id) = open.pop() {
            open.extend(self.dependencies(id).into_iter().filter(|source| seen.insert(*source)));
        }
        seen
    }

    /// The node whose parameters a node uses: itself, unless it shares those of another.
    pub fn owner(&self, id: NodeId) -> NodeId {
        self.node(id).share.as_ref().and_then(|name| self.find(name)).unwrap_or(id)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The structure as JSON: kinds, versions, canonical parameters, edges and names, all keys sorted. The order of
    /// keys, comments and spelling of a file do not show.
    pub fn canonical(&self) -> Json {
        let nodes: Map<String, Json> =
            self.ids().map(|id| (self.node(id).name.clone(), self.canonical_node(self.node(id)))).collect();
        let inputs: Map<String, Json> =
            self.inputs.iter().map(|(name, input)| (name.clone(), canonical_input(input))).collect();
        let outputs: Map<String, Json> =
            self.outputs.iter().map(|(name, from)| (name.clone(), self.canonical_source(from))).collect();
        let mut whole = json!({ "inputs": inputs, "nodes": nodes, "outputs": outputs });
        whole.sort_all_objects();
        whole
    }

    fn canonical_node(&self, node: &Node<N>) -> Json {
        let edges: Map<String, Json> = node
            .edges
            .iter()
            .map(|(port, edges)| ((*port).to_owned(), self.canonical_edges(edges)))
            .collect();
        let mut canonical = json!({
            "kind": node.kind.name,
            "version": node.kind.version,
            "params": node.canonical,
            "edges": edges,
        });
        if let Some(owner) = &node.share {
            canonical["share"] = owner.as_str().into();
        }
        if node.stored != Stored::F32 {
            canonical["store"] = node.stored.word().into();
        }
        canonical
    }

    /// The order of unlabelled edges means something, that of labelled ones does not.
    fn canonical_edges(&self, edges: &[Edge]) -> Json {
        let mut edges: Vec<&Edge> = edges.iter().collect();
        edges.sort_by(|a, b| a.label.cmp(&b.label));
        let edge = |edge: &&Edge| json!({ "from": self.canonical_source(&edge.from), "label": edge.label, "part": edge.part });
        edges.iter().map(edge).collect()
    }

    fn canonical_source(&self, source: &Source) -> Json {
        match source {
            Source::Input(name) => json!({ "input": name }),
            Source::Node { id, port } => json!({ "node": self.node(*id).name, "port": port }),
        }
    }
}

impl<N: ?Sized> fmt::Debug for Node<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("kind", &self.kind.name)
            .finish_non_exhaustive()
    }
}

impl<N: ?Sized> fmt::Debug for Graph<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids().map(|id| self.node(id))).finish()
    }
}

fn canonical_input(input: &InputDecl) -> Json {
    let mut canonical =
        json!({ "type": input.ty.to_string(), "prefix": input.prefix, "max_length": input.max_length });
    match input.of {
        TextOf::Record => {}
        TextOf::Other => canonical["of"] = "other".into(),
        TextOf::Question => canonical["of"] = "question".into(),
    }
    if let Some(Dialogue { template, system, around }) = &input.dialogue {
        canonical["dialogue"] = json!({ "template": template, "system": system, "around": around });
    }
    canonical
}

impl Edge {
    /// The name under which a module of a model graph reads it at this port: `context.image` where it has a label.
    pub fn port(&self, port: &str) -> String {
        self.label.as_ref().map_or_else(|| port.to_owned(), |label| format!("{port}.{label}"))
    }

    /// The node that it comes from, unless it comes from an input.
    pub fn node(&self) -> Option<NodeId> {
        match &self.from {
            Source::Input(_) => None,
            Source::Node { id, .. } => Some(*id),
        }
    }
}
