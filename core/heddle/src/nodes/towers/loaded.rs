//! A model graph with the weights that some of its outputs need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_graph::graph::{Class, NodeId, Source};
use heddle_tensor::{Backend, Mode, Parameters, Tape, Value};

use crate::{
    exec::{Artifact, NodeError},
    model::{ModelGraph, Pass, load_published},
};

/// A model ready to run.
pub struct Loaded<B: Backend> {
    /// The graph.
    pub model: Arc<ModelGraph>,
    /// The parameters that the outputs need.
    pub parameters: Parameters<B>,
    nodes: BTreeSet<NodeId>,
}

impl<B: Backend> Loaded<B> {
    /// Loads the weights of the nodes that the outputs depend on, and of no others.
    pub fn load(
        model: Arc<ModelGraph>,
        outputs: &[NodeId],
        weights: &Artifact,
        backend: B,
    ) -> Result<Self, NodeError> {
        let nodes = model.graph().upstream(outputs);
        let wanted = model.used_by_all(&nodes);
        let specs = wanted.iter().map(|parameter| (parameter.name.clone(), parameter.spec.clone()));
        let mut parameters = Parameters::init(specs, 0, &backend)?;
        let from = format!("the artifact of `{}`", weights.from);
        load_published(&model, &wanted, &mut parameters, &weights.bytes, &from)
            .map_err(|error| NodeError::Other(error.to_string()))?;
        Ok(Self { model, parameters, nodes })
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        self.parameters.backend()
    }

    /// The graph's inputs of a class that the outputs depend on.
    pub fn inputs(&self, class: Class) -> Vec<String> {
        let edges = self.nodes.iter().flat_map(|id| self.model.graph().node(*id).edges.values().flatten());
        let names: BTreeSet<&String> = edges
            .filter_map(|edge| match &edge.from {
                Source::Input(name) => Some(name),
                Source::Node { .. } => None,
            })
            .collect();
        let inputs = &self.model.graph().inputs;
        names.into_iter().filter(|name| inputs[*name].ty.class == class).cloned().collect()
    }

    /// Values of some sources.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Value<B>>,
        wanted: &[Source],
    ) -> Result<Vec<Value<B>>, NodeError> {
        self.run_from(inputs, &[], wanted)
    }

    /// The same, where values of some sources are known.
    pub fn run_from(
        &self,
        inputs: &BTreeMap<String, Value<B>>,
        given: &[(Source, Value<B>)],
        wanted: &[Source],
    ) -> Result<Vec<Value<B>>, NodeError> {
        let (model, parameters) = (&*self.model, &self.parameters);
        let pass = Pass { model, parameters, mode: Mode::Eval, seed: 0, tape: Tape::off() };
        pass.run_from(inputs, given, wanted).map_err(|error| NodeError::Other(error.to_string()))
    }
}
