//! The cut: which part of a model graph gives the same for a record every time, and where the rest begins.
//!
//! ```text
//! ModelGraph, wanted sources, what learns, what inputs do ──▶ Cut: a state for each node, and the sources to keep
//! ```
//!
//! A node is frozen if nothing in it learns, it draws no random numbers, it mixes no records, and everything that it reads is
//! frozen. A module that can begin at an output of its own ([`heddle_tensor::Resume`]) is cut inside: a vision transformer whose last block
//! learns is frozen up to the block before. The values on the edges from frozen to moving are worth keeping, one a record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use heddle_graph::{
    config::{Keep, Stored},
    graph::{Class, Dim, NodeId, Source},
};
use heddle_tensor::{PerRecord, Resume};

use super::{ModelGraph, node_macs};

/// Multiply-adds a second, and bytes a second from the cache, that decide what is worth keeping.
const MACS_PER_SECOND: f64 = 6e10;
const READ_BYTES_PER_SECOND: f64 = 1e9;

/// What an input of the graph gives for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The same every time.
    Same,
    /// Something else each time, for this reason.
    Varies(&'static str),
}

/// What a node does in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A record gives the same every time.
    Frozen,
    /// So does the part of it up to an output.
    FrozenUpTo(String, Moving),
    /// It has to be computed each time.
    Moving(Moving),
}

/// Why a node is not frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moving {
    /// A parameter learns.
    Learns(String),
    /// It draws random numbers in training.
    Draws,
    /// It mixes the records of a batch.
    Mixes,
    /// It reads an input that varies.
    Reads(String, &'static str),
    /// It reads what is not frozen.
    Follows(String),
    /// It reads values that are kept rounded (`store`).
    Rounded(String),
}

impl fmt::Display for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learns(parameter) => write!(f, "`{parameter}` learns"),
            Self::Draws => f.write_str("it draws random numbers"),
            Self::Mixes => f.write_str("it mixes the records of a batch"),
            Self::Reads(input, why) => write!(f, "`{input}` {why}"),
            Self::Follows(node) => write!(f, "it follows `{node}`"),
            Self::Rounded(node) => write!(f, "it reads what `store` rounds of `{node}`"),
        }
    }
}

/// Where a graph is cut.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    /// The state of every node that the wanted sources need.
    pub states: BTreeMap<NodeId, State>,
    /// Frozen sources that something moving reads, or that are wanted; ports by their canonical names.
    pub sources: Vec<Source>,
    /// Frozen nodes that are computed each time, since that takes no longer than reading.
    pub cheap: BTreeSet<NodeId>,
}

impl ModelGraph {
    /// Cuts the part of the graph that `wanted` needs.
    pub fn cut(&self, wanted: &[Source], learns: &dyn Fn(&str) -> bool, feed: &dyn Fn(&str) -> Feed) -> Cut {
        let ends: Vec<NodeId> = wanted.iter().filter_map(node_of).collect();
        let needed = self.graph.upstream(&ends);
        let mut states = BTreeMap::new();
        for id in self.graph.ids().filter(|id| needed.contains(id)) {
            let state = self.state(id, &states, learns, feed);
            states.insert(id, state);
        }
        let mut cut = Cut { states, ..Cut::default() };
        for source in wanted {
            self.meet(source, &mut cut);
        }
        for id in self.graph.ids().rev().filter(|id| needed.contains(id)) {
            let begins_inside = match cut.states[&id].clone() {
                State::Frozen if !cut.cheap.contains(&id) => true,
                State::FrozenUpTo(port, _) => self.meet(&Source::Node { id, port }, &mut cut),
                State::Frozen | State::Moving(_) => false,
            };
            for edge in self.graph.node(id).edges.values().flatten().filter(|_| !begins_inside) {
                self.meet(&edge.from, &mut cut);
            }
        }
        cut
    }

    /// A source that something reads which is computed each time: kept if it is frozen, unless it is cheaper to compute.
    /// Whether it is kept.
    fn meet(&self, source: &Source, cut: &mut Cut) -> bool {
        let Source::Node { id, .. } = source else { return false };
        let source = self.canonical_source(source);
        if cut.sources.contains(&source) {
            return true;
        }
        if !cut.states.get(id).is_some_and(|state| self.is_frozen(state, &source)) {
            return false;
        }
        let keeps = self.is_worth_keeping(&source, *id);
        match keeps {
            true => cut.sources.push(source),
            false => {
                cut.cheap.insert(*id);
            }
        }
        keeps
    }

    /// Whether reading a source takes less time than computing it from the graph's inputs.
    fn is_worth_keeping(&self, source: &Source, id: NodeId) -> bool {
        let Some(bytes) = self.row_bytes(source) else { return false };
        let node = self.graph.node(id);
        match node.keep {
            Keep::Never => return false,
            Keep::Always => return true,
            // Rounded values must not depend on what this machine takes for cheap.
            Keep::Auto if node.stored != Stored::F32 => return true,
            // A module that begins at one of its outputs must find all frozen ones that somebody reads.
            Keep::Auto if self.resume(source).is_some() => return true,
            Keep::Auto => {}
        }
        let macs: Option<u64> = self.graph.upstream(&[id]).into_iter().map(|id| node_macs(self, id)).sum();
        macs.is_none_or(|macs| macs as f64 / MACS_PER_SECOND > bytes as f64 / READ_BYTES_PER_SECOND)
    }

    /// Bytes that the cache takes for one record's value, if it is a tensor of a known size.
    pub fn row_bytes(&self, source: &Source) -> Option<usize> {
        let Source::Node { id, .. } = source else { return None };
        Some(self.graph.node(*id).stored.bytes() * self.row_shape(source)?.iter().product::<usize>())
    }

    /// The shape of one record's value, if it is a tensor of a known one.
    pub fn row_shape(&self, source: &Source) -> Option<Vec<usize>> {
        let ty = self.type_of(source)?;
        if !matches!(ty.class, Class::Sequence | Class::Vector) || ty.shape.first()?.known().is_some() {
            return None;
        }
        ty.shape[1..].iter().map(Dim::known).collect()
    }

    fn state(
        &self,
        id: NodeId,
        states: &BTreeMap<NodeId, State>,
        learns: &dyn Fn(&str) -> bool,
        feed: &dyn Fn(&str) -> Feed,
    ) -> State {
        let module = &self.modules[&id];
        let owner = &self.graph.node(self.graph.owner(id)).name;
        let names = module.parameters().into_iter().map(|spec| spec.name);
        let trained: Vec<String> = names.filter(|local| learns(&format!("{owner}/{local}"))).collect();
        let why = trained.first().map(|first| Moving::Learns(format!("{owner}.{first}")));
        let is_before = |resume: &Resume| {
            !trained.iter().any(|local| resume.before.iter().any(|prefix| local.starts_with(prefix)))
        };
        let begins = module.resumes().into_iter().rev().find(is_before);
        if let (Some(why), None) = (&why, &begins) {
            return State::Moving(why.clone());
        }
        for edge in self.graph.node(id).edges.values().flatten() {
            match &edge.from {
                Source::Input(name) => {
                    if let Feed::Varies(why) = feed(name) {
                        return State::Moving(Moving::Reads(name.clone(), why));
                    }
                }
                source @ Source::Node { id: from, .. } => {
                    let source = self.canonical_source(source);
                    if !states.get(from).is_some_and(|state| self.is_frozen(state, &source)) {
                        return State::Moving(Moving::Follows(self.graph.node(*from).name.clone()));
                    }
                    // Whether a value is rounded must depend on nothing but `store`: the graph is cut here.
                    if self.graph.node(*from).stored != Stored::F32 {
                        return State::Moving(Moving::Rounded(self.graph.node(*from).name.clone()));
                    }
                }
            }
        }
        match (module.per_record(), why, begins) {
            (PerRecord::Draws, ..) => State::Moving(Moving::Draws),
            (PerRecord::Mixes, ..) => State::Moving(Moving::Mixes),
            (PerRecord::Fixed, Some(why), Some(resume)) => State::FrozenUpTo(resume.port, why),
            (PerRecord::Fixed, ..) => State::Frozen,
        }
    }

    /// Whether a source (with a canonical port) of a node in this state is frozen.
    fn is_frozen(&self, state: &State, source: &Source) -> bool {
        let (State::FrozenUpTo(last, _), Source::Node { id, port }) = (state, source) else {
            return *state == State::Frozen;
        };
        let resumes = self.modules[id].resumes();
        let place = |port: &String| resumes.iter().position(|resume| resume.port == *port);
        place(port).zip(place(last)).is_some_and(|(place, last)| place <= last)
    }

    /// A source under the name of its port at which a pass can begin, where it has one.
    pub fn canonical_source(&self, source: &Source) -> Source {
        let Source::Node { id, port } = source else { return source.clone() };
        let resume = self.modules[id].resumes().into_iter().find(|resume| resume.aliases.contains(port));
        Source::Node { id: *id, port: resume.map_or_else(|| port.clone(), |resume| resume.port) }
    }

    /// The resume behind a source, if a pass can begin at it.
    pub fn resume(&self, source: &Source) -> Option<Resume> {
        let Source::Node { id, .. } = source else { return None };
        let canonical = self.canonical_source(source);
        let Source::Node { port, .. } = &canonical else { return None };
        self.modules[id].resumes().into_iter().find(|resume| resume.port == *port)
    }

    /// `node.port`, or the name of an input.
    pub fn source_name(&self, source: &Source) -> String {
        match source {
            Source::Input(name) => name.clone(),
            Source::Node { id, port } => format!("{}.{port}", self.graph.node(*id).name),
        }
    }

    /// How deep in its module a source lies at which a pass can begin.
    pub fn resume_place(&self, source: &Source) -> Option<usize> {
        let resume = self.resume(source)?;
        let Source::Node { id, .. } = source else { return None };
        self.modules[id].resumes().iter().position(|other| *other == resume)
    }

    /// The graph's inputs that have to be given if some sources are.
    pub fn inputs_beside(&self, given: &[Source], wanted: &[Source]) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let (mut open, mut seen) = (wanted.to_vec(), BTreeSet::new());
        while let Some(source) = open.pop() {
            match &source {
                Source::Input(name) => {
                    names.insert(name.clone());
                }
                Source::Node { id, port } => {
                    let own = |other: &&Source| node_of(other) == Some(*id) && self.resume(other).is_some();
                    let begins =
                        given.contains(&self.canonical_source(&source)) || given.iter().any(|g| own(&g));
                    if !begins && seen.insert((*id, port.clone())) {
                        open.extend(
                            self.graph.node(*id).edges.values().flatten().map(|edge| edge.from.clone()),
                        );
                    }
                }
            }
        }
        names
    }
}

fn node_of(source: &Source) -> Option<NodeId> {
    match source {
        Source::Node { id, .. } => Some(*id),
        Source::Input(_) => None,
    }
}
