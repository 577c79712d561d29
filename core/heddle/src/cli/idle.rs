//! A node that does not run, seen from outside: the inputs that the cache has for it, and its frozen part.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicBool},
};

use heddle_graph::{
    graph::NodeId,
    plan::{Action, Facts, KeyParts, Plan},
};
use tokio_util::sync::CancellationToken;

use super::exit::Failure;
use crate::{
    device::{self, Compute},
    exec::{Events, Library, NodeError, RunContext, Store, inputs_of},
    nodes::{Frozen, Node, Records},
    project::Project,
};

/// An experiment whose nodes are looked at.
pub struct Idle<'a> {
    /// The experiment.
    pub project: &'a Project,
    /// The facts of its nodes.
    pub facts: &'a [Facts],
    /// What is a hit.
    pub plan: &'a Plan,
    /// The cache.
    pub store: &'a Store,
    /// Files by digest.
    pub library: &'a Library,
    /// Where tensors live.
    pub compute: Compute,
}

/// Whether a node could be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It was.
    Done,
    /// Nothing of it is kept for single records.
    NothingKept,
    /// Its inputs are not in the cache yet; which nodes have to run first.
    Waits(Vec<String>),
}

impl Idle<'_> {
    /// Shows the frozen part of the node at a place.
    ///
    /// # Errors
    /// What `see` returns; whatever keeps the part from being opened.
    pub fn see(
        &self,
        place: usize,
        see: impl FnOnce(&dyn Frozen) -> Result<(), NodeError> + Send,
    ) -> Result<Looked, Failure> {
        let node = self.project.graph.node(self.id(place));
        if node.spec.cut().is_none_or(|cut| cut.sources.is_empty()) {
            return Ok(Looked::NothingKept);
        }
        let waits = self.waits(place);
        if !waits.is_empty() {
            return Ok(Looked::Waits(waits));
        }
        let facts = &self.facts[place];
        let digests: Vec<_> =
            facts.inputs.iter().filter_map(|input| self.digest(input.from, &input.output)).collect();
        let inputs = inputs_of(self.store, self.facts, place, &digests).map_err(Failure::Other)?;
        let (events, _nobody) = Events::channel();
        let (passing, rows) = (AtomicBool::new(false), Mutex::<BTreeMap<_, _>>::default());
        let cx = RunContext {
            node: &facts.name,
            seed: self.project.experiment.seed,
            key: KeyParts::new(facts, &digests).digest(),
            fresh: false,
            inputs,
            files: &facts.files,
            library: self.library,
            store: self.store,
            compute: self.compute,
            progress: events.progress(&facts.name),
            cancel: CancellationToken::new(),
            passing: &passing,
            rows: &rows,
        };
        let pool = device::pool(self.project.experiment.run.threads)
            .map_err(|error| Failure::Other(format!("starting threads: {error}")))?;
        let spec: &dyn Node = &*node.spec;
        let mut see = Some(see);
        pool.install(|| spec.frozen(&cx, &mut |part| see.take().map_or(Ok(()), |see| see(part))))?;
        Ok(if see.is_none() { Looked::Done } else { Looked::NothingKept })
    }

    /// The records that a node gives or takes on a port, if they are in the cache.
    ///
    /// # Errors
    /// If they do not read.
    pub fn records(&self, from: usize, port: &str) -> Result<Option<Records>, Failure> {
        let Some(digest) = self.digest(from, port) else { return Ok(None) };
        let Some(bytes) = self.store.artifact(&digest)? else { return Ok(None) };
        let from = self.facts[from].name.clone();
        let artifact = crate::exec::Artifact { label: None, part: None, from, digest, bytes };
        Ok(Some(Records::read(&artifact)?))
    }

    /// The node at a place.
    pub fn id(&self, place: usize) -> NodeId {
        self.project.graph.ids().nth(place).expect("facts are in the order of the graph")
    }

    fn digest(&self, from: usize, port: &str) -> Option<heddle_graph::digest::Digest> {
        match &self.plan.nodes[from].action {
            Action::Hit { trace } => trace.outputs.get(port).copied(),
            Action::Run { .. } | Action::Skip => None,
        }
    }

    /// The nodes that a node takes something from and that are not in the cache.
    fn waits(&self, place: usize) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for input in &self.facts[place].inputs {
            let name = &self.facts[input.from].name;
            if self.digest(input.from, &input.output).is_none() && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}
