//! Artifacts of a finished run, for commands that use a trained model.

use std::path::Path;

use heddle_data::image::{DecodeLimits, ImageSpec, decode, preprocess};
use heddle_graph::{
    graph::{Graph, NodeId, Source},
    plan,
};
use heddle_tensor::HostTensor;

use super::{
    args::FinishedRun,
    exit::Failure,
    prepare::{Asked, Prepared},
};
use crate::{
    exec::{Artifact, Outcome},
    nodes::Node,
};

/// The node that a command works with: the one that is named, or else the only one that `fits`.
pub fn find_node(
    graph: &Graph<dyn Node>,
    name: Option<&str>,
    kind: &str,
    fits: impl Fn(&dyn Node) -> bool,
) -> Result<NodeId, Failure> {
    let fitting: Vec<NodeId> = graph.ids().filter(|id| fits(&*graph.node(*id).spec)).collect();
    let names = || fitting.iter().map(|id| graph.node(*id).name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, fitting.as_slice()) {
        (_, []) => Err(Failure::Other(format!("the experiment has no `{kind}` node"))),
        (None, [only]) => Ok(*only),
        (None, _) => Err(Failure::Other(format!("say which `{kind}` node with `--node`: {}", names()))),
        (Some(name), _) => {
            let found = fitting.iter().copied().find(|id| graph.node(*id).name == name);
            found
                .ok_or_else(|| Failure::Other(format!("`{name}` is no `{kind}` node; there are {}", names())))
        }
    }
}

/// The names of the nodes that a node takes values from on some ports.
pub fn sources(graph: &Graph<dyn Node>, id: NodeId, ports: &[&str]) -> Vec<String> {
    let node = graph.node(id);
    let edges = ports.iter().filter_map(|port| node.edges.get(*port)).flatten();
    let mut names: Vec<String> =
        edges.filter_map(|edge| Some(graph.node(edge.node()?).name.clone())).collect();
    names.sort();
    names.dedup();
    names
}

/// The artifact on a port of a node, out of the cache. `ready` was asked for [`sources`].
pub fn artifact(ready: &Prepared, id: NodeId, port: &str, quiet: bool) -> Result<Artifact, Failure> {
    let graph = &ready.project.graph;
    let node = graph.node(id);
    let edge = node.edges.get(port).and_then(|edges| edges.first());
    let Some(Source::Node { id: from, port: output }) = edge.map(|edge| &edge.from) else {
        return Err(Failure::Other(format!("nothing is connected to `{port}` of `{}`", node.name)));
    };
    let from = graph.node(*from);
    let unfinished =
        ready.plan.nodes.iter().find(|planned| matches!(planned.action, plan::Action::Run { .. }));
    if let Some(unfinished) = unfinished {
        let file = &ready.project.file;
        return Err(Failure::Other(format!(
            "`{}` is not in the cache: run `heddle run {file} {}` first",
            unfinished.name, node.name
        )));
    }
    let (outcome, done) = ready.run(quiet)?;
    if matches!(outcome, Outcome::Interrupted) {
        return Err(Failure::Interrupted);
    }
    let made = done.iter().find(|done| done.name == from.name).and_then(|done| done.outputs.get(output));
    let digest = made.map(|output| output.digest);
    let digest =
        digest.ok_or_else(|| Failure::Other(format!("`{}` gave nothing on `{output}`", from.name)))?;
    let bytes = ready.store.artifact(&digest)?;
    let bytes = bytes.ok_or_else(|| {
        Failure::Other(format!("the artifact `{}.{output}` is damaged; run again", from.name))
    })?;
    Ok(Artifact { label: None, part: None, from: from.name.clone(), digest, bytes })
}

impl Asked<'_> {
    /// What a command that uses a finished run asks for.
    pub fn finished<'a>(nodes: &'a [String], run: &'a FinishedRun) -> Asked<'a> {
        let (threads, caches) = (run.threads.map(usize::from), Some(&run.caches));
        Asked { nodes, wait: run.wait, threads, caches, ..Asked::default() }
    }
}

/// Images `[n,3,H,W]` as the model was trained on them.
pub fn read_images(files: &[impl AsRef<Path>], spec: &ImageSpec) -> Result<HostTensor, Failure> {
    let [height, width] = spec.size.map(|side| side as usize);
    let mut data = Vec::with_capacity(files.len() * 3 * height * width);
    for file in files.iter().map(AsRef::as_ref) {
        let bytes = std::fs::read(file).map_err(Failure::io(format!("reading {}", file.display())))?;
        let image = decode(&bytes, &DecodeLimits::default())
            .map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
        data.extend(preprocess(&image, spec));
    }
    Ok(HostTensor { shape: vec![files.len(), 3, height, width], data })
}
