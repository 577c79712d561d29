//! Records that a stage learnt from and that a score is about to be told of.

use std::collections::{HashMap, HashSet};

use heddle_graph::{
    digest::Digest,
    graph::{Class, Graph, NodeId, Source},
};
use serde::Serialize;

use crate::{
    exec::{Artifact, Store},
    nodes::{ModelNode, Near, Node, Records},
};

/// Bits in which the perceptual hashes of pictures that look alike differ at most.
const DISTANCE: u32 = 4;

/// Pictures that occur in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The evaluation.
    pub evaluation: String,
    /// A training stage upstream of it.
    pub stage: String,
    /// Records of the evaluation whose picture the stage has seen, byte for byte.
    pub shared: usize,
    /// Of the others, those that look like one that it has seen: their perceptual hashes differ in few bits. Only of records that
    /// have a column `phash`, from `data.decode`.
    pub near: usize,
    /// Records of the evaluation.
    pub records: usize,
}

impl Leak {
    /// In a sentence.
    pub fn line(&self) -> String {
        let Self { evaluation, stage, shared, near, records } = self;
        let of = format!("of the {records} records that `{evaluation}` scores");
        let alike =
            format!("look like one that `{stage}` learns from (perceptual hashes within {DISTANCE} bits)");
        match (*shared, *near) {
            (0, near) => format!("perhaps a leak: {near} {of} {alike}"),
            (shared, 0) => format!("leak: {shared} {of} are among those that `{stage}` learns from"),
            (shared, near) => format!(
                "leak: {shared} {of} are among those that `{stage}` learns from, and {near} more look like one of them \
                 (perceptual hashes within {DISTANCE} bits)"
            ),
        }
    }
}

/// Looks at every evaluation and every stage upstream of it whose records are known. `output` gives the digest of a node's
/// artifact, if it is there.
pub fn leaks(
    graph: &Graph<dyn Node>,
    store: &Store,
    output: &dyn Fn(NodeId, &str) -> Option<Digest>,
) -> Vec<Leak> {
    let mut seen: HashMap<Digest, Option<Vec<Picture>>> = HashMap::new();
    let mut pictures = |id: NodeId| -> Option<Vec<Picture>> {
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
            let (shared, near) = count(&scored, &learnt);
            if shared + near > 0 {
                let (evaluation, stage) = (graph.node(id).name.clone(), graph.node(stage).name.clone());
                leaks.push(Leak { evaluation, stage, shared, near, records: scored.len() });
            }
        }
    }
    leaks
}

/// A record's picture.
#[derive(Debug, Clone, Copy)]
struct Picture {
    digest: [u8; 32],
    /// Its perceptual hash, if the records have one.
    hash: Option<u64>,
}

/// How many of the scored pictures were learnt from, and how many others look like one that was.
fn count(scored: &[Picture], learnt: &[Picture]) -> (usize, usize) {
    let digests: HashSet<[u8; 32]> = learnt.iter().map(|picture| picture.digest).collect();
    let mut alike = Near::new(DISTANCE);
    learnt.iter().filter_map(|picture| picture.hash).for_each(|hash| alike.add(hash));
    let (same, others): (Vec<&Picture>, Vec<&Picture>) =
        scored.iter().partition(|picture| digests.contains(&picture.digest));
    let near = others.iter().filter(|picture| picture.hash.is_some_and(|hash| alike.find(hash).is_some()));
    (same.len(), near.count())
}

/// Whether a node is a training stage whose model sees images.
fn learns_from_images(graph: &Graph<dyn Node>, id: NodeId) -> bool {
    let spec = &graph.node(id).spec;
    let sees =
        |inputs: &Graph<dyn ModelNode>| inputs.inputs.values().any(|input| input.ty.class == Class::Image);
    spec.trains("").is_some() && spec.model().is_some_and(|model| sees(model.graph()))
}

/// The pictures of a records artifact; none if it does not read.
fn pictures_of(store: &Store, digest: Digest, from: &str) -> Option<Vec<Picture>> {
    // What is only in a remote is not fetched for this.
    let bytes = store.here(&digest).ok()??;
    let artifact = Artifact { label: None, part: None, from: from.to_owned(), digest, bytes };
    let records = Records::read(&artifact).ok()?;
    let mut pictures = Vec::new();
    for record in records.manifest.records() {
        let record = record.ok()?;
        let hash = record.column("phash").and_then(serde_json::Value::as_u64);
        pictures.extend(record.image().map(|part| Picture { digest: part.digest, hash }));
    }
    Some(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(byte: u8, hash: Option<u64>) -> Picture {
        Picture { digest: [byte; 32], hash }
    }

    #[test]
    fn equal_pictures_are_leaks_and_alike_ones_are_suspects() {
        let learnt = [picture(1, Some(0)), picture(2, Some(u64::MAX)), picture(3, None)];
        let scored = [
            picture(1, Some(0)),
            picture(4, Some(0b1011)),
            picture(5, Some(0b11_1111)),
            picture(6, None),
            picture(3, Some(7)),
        ];
        assert_eq!(count(&scored, &learnt), (2, 1));
        assert_eq!(count(&scored[3..4], &learnt), (0, 0));
        let line = |shared, near| {
            let names = ("zero_shot".to_owned(), "stage1".to_owned());
            Leak { evaluation: names.0, stage: names.1, shared, near, records: 9 }.line()
        };
        insta::assert_snapshot!([line(2, 0), line(2, 1), line(0, 1)].join("\n"), @r"
        leak: 2 of the 9 records that `zero_shot` scores are among those that `stage1` learns from
        leak: 2 of the 9 records that `zero_shot` scores are among those that `stage1` learns from, and 1 more look like one of them (perceptual hashes within 4 bits)
        perhaps a leak: 1 of the 9 records that `zero_shot` scores look like one that `stage1` learns from (perceptual hashes within 4 bits)
        ");
    }
}
