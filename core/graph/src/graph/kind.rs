//! What the graph stage knows of a kind of node: its name, its ports, how its parameters are read.
//!
//! The registry itself (`KINDS`) lives where the nodes do. The graph is generic over `N`, what a checked node
//! can do beyond ports and shapes, and over `C`, what reading its parameters may look at: model graphs have
//! modules and no context; experiments have runnable nodes and the model graphs that they name.

use indexmap::IndexMap;

use super::port::{Class, PortType};
use crate::config::Reader;

/// The fixed facts of a kind, the same for every node of it.
#[derive(Debug, Clone)]
pub struct KindSpec {
    /// `family.name`, as `kind = "..."` says it.
    pub name: &'static str,
    /// Raised when the same inputs and parameters give other results; part of every cache key.
    pub version: u32,
    /// One line for lists.
    pub summary: &'static str,
    /// A paragraph or two: formula, paper section, what it costs.
    pub details: &'static str,
    /// A TOML excerpt that uses it; a test parses every one.
    pub example: &'static str,
}

/// A kind of node. `read` takes the parameters off a table; it never fails, the reader collects the mistakes.
pub trait Kind<N: NodeSpec + ?Sized, C: ?Sized>: Sync {
    /// Its fixed facts.
    fn spec(&self) -> KindSpec;
    /// Reads the parameters and gives the checked node. Also called on an empty table to document them.
    fn read(&self, reader: &mut Reader<'_>, context: &C) -> Box<N>;
}

/// What the graph stage asks of a node once its parameters are read.
pub trait NodeSpec {
    /// The ports that take values, the primary one (`in = "x"`) first.
    fn inputs(&self) -> Vec<InPort>;

    /// The types of all outputs, the default one (`in = "node"`) first, from the types of the connected inputs.
    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch>;
}

/// A port that takes values.
#[derive(Debug, Clone)]
pub struct InPort {
    /// Its name in `in = { name = "node.port" }`.
    pub name: &'static str,
    /// The classes that it takes.
    pub classes: Vec<Class>,
    /// How many edges it takes.
    pub arity: Arity,
    /// Where the file names its source.
    pub place: Place,
    /// One line for the docs.
    pub help: &'static str,
}

/// How many edges a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one.
    Optional,
    /// One or more, in the order of the file: `in = ["a", "b"]`, or labelled `{ vit = "a/vit" }`.
    Many,
    /// None, one or more, written as for `Many`.
    Any,
}

impl Arity {
    /// Whether the file has to name a source.
    pub fn is_required(self) -> bool {
        matches!(self, Self::One | Self::Many)
    }

    /// Whether it takes more than one source.
    pub fn takes_several(self) -> bool {
        matches!(self, Self::Many | Self::Any)
    }
}

/// Where the file names the source of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Under `in`.
    In,
    /// Under a key of its own, named as the port: `weights = "stage1"`.
    Key,
}

/// A port that gives values.
#[derive(Debug, Clone)]
pub struct OutPort {
    /// Its name after the node's: `node.name`; may hold dots (`hidden.-4`).
    pub name: String,
    /// What it gives.
    pub ty: PortType,
}

impl OutPort {
    /// An output port.
    pub fn new(name: impl Into<String>, ty: PortType) -> Self {
        Self { name: name.into(), ty }
    }
}

/// The types that arrive at a node, by port, in the order of the file.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Per port the types of its edges.
    pub ports: IndexMap<&'static str, Vec<PortType>>,
}

impl Inputs {
    /// The type on a port of arity `One`, or on a connected `Optional`.
    pub fn get(&self, port: &str) -> Option<&PortType> {
        self.ports.get(port).and_then(|types| types.first())
    }

    /// All types on a port.
    pub fn all(&self, port: &str) -> &[PortType] {
        self.ports.get(port).map_or(&[], Vec::as_slice)
    }
}

/// Why the types on a node's inputs do not fit; the graph stage adds the place in the file.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The port at fault (its span is underlined), or the whole node.
    pub port: Option<&'static str>,
    /// The parameter at fault, if it is one.
    pub param: Option<&'static str>,
    /// Lower-case message that names both shapes or sizes.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}
