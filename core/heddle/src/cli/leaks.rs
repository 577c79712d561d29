//! Records that a stage learnt from and that a score is about to be told of.

use std::collections::{HashMap, HashSet};

use heddle_graph::{
    digest::Digest,
    graph::{Class, Graph, NodeId, Source},
};
use serde::Serialize;

use crate::{
    exec::{Artifact, Store},
    nodes::{ModelNode, Node, Records},
};

/// Pictures that occur in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The evaluation.
    pub evaluation: String,
    /// A training stage upstream of it.
    pub stage: String,
    /// Records of the evaluation whose picture the stage has seen, byte for byte.
    pub shared: usize,
    /// Records of the evaluation.
    pub records: usize,
}

impl Leak {
    /// In a sentence.
    pub fn line(&self) -> String {
        let Self { evaluation, stage, shared, records } = self;
        format!(
            "leak: {shared} of the {records} records that `{evaluation}` scores are among those that `{stage}` learns from"
        )
    }
}

/// Looks at every evaluation and every stage upstream of it whose records are known. `output` gives the digest of a node's
/// artifact, if it is there.
pub fn leaks(
    graph: &Graph<dyn Node>,
    store: &Store,
    output: &dyn Fn(NodeId, &str) -> Option<Digest>,
) -> Vec<Leak> {
    let mut seen: HashMap<Digest, Option<Vec<[u8; 32]>>> = HashMap::new();
    let mut pictures = |id: NodeId| -> Option<Vec<[u8; 32]>> {
        let edge = graph.node(id).edges.values().flatten().find(|edge| edge.ty.class == Class::Records)?;
        let Source::Node { id: from, port } = &edge.from else { return None };
        let digest = output(*from, port)?;
        seen.entry(digest).or_insert_with(|| pictures_of(store, digest, &graph.node(*from).name)).clone()
    };
    let scores = |id: &NodeId| {
        let node = graph.node(*id);
        node.spec.trains("").is_none() && node.outputs.iter().any(|port| port.ty.class == Class::Metrics)
    };
    let mut leaks = Vec::new();
    for id in graph.ids().filter(scores) {
        let Some(scored) = pictures(id) else { continue };
        for stage in graph.upstream(&[id]).into_iter().filter(|id| learns_from_images(graph, *id)) {
            let Some(learnt) = pictures(stage) else { continue };
            let learnt: HashSet<[u8; 32]> = learnt.into_iter().collect();
            let shared = scored.iter().filter(|picture| learnt.contains(*picture)).count();
            if shared > 0 {
                let (evaluation, stage) = (graph.node(id).name.clone(), graph.node(stage).name.clone());
                leaks.push(Leak { evaluation, stage, shared, records: scored.len() });
            }
        }
    }
    leaks
}

/// Whether a node is a training stage whose model sees images.
fn learns_from_images(graph: &Graph<dyn Node>, id: NodeId) -> bool {
    let spec = &graph.node(id).spec;
    let sees =
        |inputs: &Graph<dyn ModelNode>| inputs.inputs.values().any(|input| input.ty.class == Class::Image);
    spec.trains("").is_some() && spec.model().is_some_and(|model| sees(model.graph()))
}

/// Digests of the pictures of a records artifact; none if it does not read.
fn pictures_of(store: &Store, digest: Digest, from: &str) -> Option<Vec<[u8; 32]>> {
    // What is only in a remote is not fetched for this.
    let bytes = store.here(&digest).ok()??;
    let artifact = Artifact { label: None, part: None, from: from.to_owned(), digest, bytes };
    let records = Records::read(&artifact).ok()?;
    let mut pictures = Vec::new();
    for record in records.manifest.records() {
        pictures.extend(record.ok()?.image().map(|part| part.digest));
    }
    Some(pictures)
}
