//! One pass through a model graph.

use std::collections::{BTreeMap, BTreeSet};

use heddle_graph::graph::{NodeId, Source};
use heddle_tensor::{Backend, Forward, Mode, Parameters, Tape, TensorError, Value};

use super::ModelGraph;

/// How a pass is made; the values that it takes and gives go through [`Pass::run`].
pub struct Pass<'a, B: Backend> {
    /// The graph.
    pub model: &'a ModelGraph,
    /// Its parameters, as `node/local name`.
    pub parameters: &'a Parameters<B>,
    /// Training or not.
    pub mode: Mode,
    /// Drives drop path and masking; a new one each step.
    pub seed: u64,
    /// Records the pass, or does not.
    pub tape: Tape<B>,
}

/// A pass failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A node failed.
    #[error("model node `{node}`: {error}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        error: TensorError,
    },
    /// An input of the graph was not given.
    #[error("the graph's input `{0}` was not given")]
    MissingInput(String),
}

impl<B: Backend> Pass<'_, B> {
    /// Computes what is wanted and nothing else: nodes and outputs that nobody reads are left out.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Value<B>>,
        wanted: &[Source],
    ) -> Result<Vec<Value<B>>, RunError> {
        self.run_from(inputs, &[], wanted)
    }

    /// The same, where values of some sources (with canonical ports) are known: what they depend on does not run.
    pub fn run_from(
        &self,
        inputs: &BTreeMap<String, Value<B>>,
        given: &[(Source, Value<B>)],
        wanted: &[Source],
    ) -> Result<Vec<Value<B>>, RunError> {
        let graph = self.model.graph();
        let ports = self.ports(given, wanted);
        let mut values: BTreeMap<(NodeId, String), Value<B>> = BTreeMap::new();
        let given_of = |source: &Source| {
            let source = self.model.canonical_source(source);
            given.iter().find(|(given, _)| *given == source).map(|(_, value)| value.clone())
        };
        let fetch = |values: &BTreeMap<(NodeId, String), Value<B>>, source: &Source| match source {
            Source::Input(name) => {
                inputs.get(name).cloned().ok_or_else(|| RunError::MissingInput(name.clone()))
            }
            Source::Node { id, port } => {
                let value = given_of(source).or_else(|| values.get(&(*id, port.clone())).cloned());
                Ok(value.expect("nodes run in topological order"))
            }
        };
        for (place, id) in graph.ids().enumerate().filter(|(_, id)| ports.contains_key(id)) {
            let node = graph.node(id);
            let failed = |error| RunError::Node { node: node.name.clone(), error };
            // Each node draws from a stream of its own.
            let seed = self.seed.wrapping_add((place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let owner = &graph.node(graph.owner(id)).name;
            let scope = self.parameters.scope(format!("{owner}/"));
            let mut cx =
                Forward::new(self.parameters.backend(), scope, self.mode, seed).with_tape(&self.tape);
            let begun = self.begins(given, id);
            if let Some((port, value)) = &begun {
                cx = cx.input(port.clone(), (*value).clone());
            }
            for (port, edges) in node.edges.iter().filter(|_| begun.is_none()) {
                for edge in edges {
                    let value = fetch(&values, &edge.from)?;
                    cx = cx.input(edge.port(port), value);
                }
            }
            for port in &ports[&id] {
                cx = cx.want(port.clone());
            }
            self.parameters.backend().run(&*self.model.modules[&id], &mut cx).map_err(failed)?;
            let outputs = cx.take_outputs().map_err(failed)?;
            values.extend(outputs.into_iter().map(|(port, value)| ((id, port), value)));
        }
        wanted.iter().map(|source| fetch(&values, source)).collect()
    }

    /// The deepest of the given values at which a node can begin.
    fn begins<'g>(&self, given: &'g [(Source, Value<B>)], id: NodeId) -> Option<(String, &'g Value<B>)> {
        let own = |(source, value): &'g (Source, Value<B>)| match source {
            Source::Node { id: of, port } if *of == id => {
                self.model.resume_place(source).map(|place| (place, port.clone(), value))
            }
            _ => None,
        };
        let (_, port, value) = given.iter().filter_map(own).max_by_key(|(place, ..)| *place)?;
        Some((port, value))
    }

    /// The output ports that have to be computed, by node.
    fn ports(&self, given: &[(Source, Value<B>)], wanted: &[Source]) -> BTreeMap<NodeId, BTreeSet<String>> {
        let graph = self.model.graph();
        let mut ports: BTreeMap<NodeId, BTreeSet<String>> = BTreeMap::new();
        let is_given = |source: &Source| {
            let source = self.model.canonical_source(source);
            given.iter().any(|(given, _)| *given == source)
        };
        let want = |source: &Source, ports: &mut BTreeMap<NodeId, BTreeSet<String>>| {
            if let Source::Node { id, port } = source
                && !is_given(source)
            {
                ports.entry(*id).or_default().insert(port.clone());
            }
        };
        wanted.iter().for_each(|source| want(source, &mut ports));
        let order: Vec<NodeId> = graph.ids().collect();
        for id in order.into_iter().rev() {
            if ports.contains_key(&id) && self.begins(given, id).is_none() {
                for edge in graph.node(id).edges.values().flatten() {
                    want(&edge.from, &mut ports);
                }
            }
        }
        ports
    }
}
