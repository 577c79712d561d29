//! What a source of a model graph computes, as a digest: equal digests, equal functions, whatever things are called.
//!
//! | in | out |
//! |---|---|
//! | kind, version and parameters of every node that the source depends on | names of nodes, and names in weight files (`published`) |
//! | how they are connected: ports, labels, parts | order of nodes and keys, comments |
//! | name within its module, shape and bytes of every parameter that the source depends on | parameters behind the output of a module that is meant |
//! | what the inputs are (the caller says so) | |

use std::collections::HashMap;

use heddle_graph::{
    digest::{Digest, DigestWriter},
    graph::{NodeId, Source},
};
use serde_json::Value as Json;

use super::ModelGraph;

/// The digests of a parameter's bytes and of an input's meaning.
pub struct Contents<'a> {
    /// By the parameter's name within heddle.
    pub parameter: &'a dyn Fn(&str) -> Option<Digest>,
    /// By the input's name.
    pub input: &'a dyn Fn(&str) -> Digest,
}

impl ModelGraph {
    /// What a source computes. None if the bytes of a parameter that it depends on are not known.
    pub fn identity(&self, source: &Source, contents: &Contents<'_>) -> Option<Digest> {
        Identities { model: self, contents, known: HashMap::new() }.of(source)
    }
}

struct Identities<'a> {
    model: &'a ModelGraph,
    contents: &'a Contents<'a>,
    known: HashMap<Source, Digest>,
}

impl Identities<'_> {
    fn of(&mut self, source: &Source) -> Option<Digest> {
        let source = self.model.canonical_source(source);
        if let Some(known) = self.known.get(&source) {
            return Some(*known);
        }
        let digest = match &source {
            Source::Input(name) => (self.contents.input)(name),
            Source::Node { id, port } => self.of_port(*id, port, &source)?,
        };
        self.known.insert(source, digest);
        Some(digest)
    }

    fn of_port(&mut self, id: NodeId, port: &str, source: &Source) -> Option<Digest> {
        let graph = self.model.graph();
        let node = graph.node(id);
        let mut writer = DigestWriter::new("heddle model source 1");
        writer.str(node.kind.name).u64(node.kind.version.into()).str(port);
        let mut settings = node.canonical.clone();
        if let Json::Object(settings) = &mut settings {
            settings.remove("published");
        }
        settings.sort_all_objects();
        writer.str(&settings.to_string());
        let mut ports: Vec<_> = node.edges.iter().collect();
        ports.sort_by_key(|(port, _)| **port);
        for (port, edges) in ports {
            let mut edges: Vec<_> = edges.iter().collect();
            edges.sort_by(|a, b| a.label.cmp(&b.label));
            writer.str(port).u64(edges.len() as u64);
            for edge in edges {
                let from = self.of(&edge.from)?;
                writer.str(edge.label.as_deref().unwrap_or_default());
                writer.str(edge.part.as_deref().unwrap_or_default()).digest(&from);
            }
        }
        let before = self.model.resume(source).map(|resume| resume.before);
        let counts = |local: &str| {
            before.as_ref().is_none_or(|before| before.iter().any(|prefix| local.starts_with(prefix)))
        };
        let owner = format!("{}/", graph.node(graph.owner(id)).name);
        for parameter in self.model.used_by(id) {
            let local = parameter.name.strip_prefix(&owner).unwrap_or(&parameter.name);
            if counts(local) {
                writer.str(local).u64(parameter.spec.shape.len() as u64);
                for size in &parameter.spec.shape {
                    writer.u64(*size as u64);
                }
                writer.digest(&(self.contents.parameter)(&parameter.name)?);
            }
        }
        Some(writer.finish())
    }
}
