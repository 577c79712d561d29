//! What travels on an edge: a class of value and, for tensors, its shape with symbolic dimensions.

use std::fmt;

/// One dimension of a shape: known, or a symbol that some input will fix at run time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known from the file.
    Const(usize),
    /// A size known only at run time, by name: `B`, `T`, `H`, or a formula over them such as `1+(H/14)*(W/14)`.
    Sym(String),
}

impl Dim {
    /// A named symbol.
    pub fn sym(name: impl Into<String>) -> Self {
        Self::Sym(name.into())
    }

    /// The size, if known.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Const(size) => Some(*size),
            Self::Sym(_) => None,
        }
    }

    /// Whether both can be the same size: equal constants, equal symbols, or at least one symbol.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Const(a), Self::Const(b)) => a == b,
            _ => true,
        }
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Const(size)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(size) => write!(f, "{size}"),
            Self::Sym(name) => f.write_str(name),
        }
    }
}

/// The class of a value. The first group lives in model graphs, the second in experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Images `[B,3,H,W]`, normalised.
    Image,
    /// Token ids `[B,T]`; id 0 is padding.
    Text,
    /// A sequence of vectors `[B,N,C]`.
    Sequence,
    /// One vector a record `[B,C]`.
    Vector,
    /// A feature map `[B,C,H,W]`.
    Map,
    /// Scores `[B,K]` before a softmax.
    Logits,
    /// A scalar loss `[]`.
    Loss,
    /// A class for each row `[R]`, or none where the row does not count.
    Targets,

    /// A manifest of records.
    Records,
    /// A tokenizer; shape `[vocabulary]`.
    Tokenizer,
    /// The parameters of a model graph.
    Weights,
    /// Exported vectors of records `[n,C]`.
    Features,
    /// Named numbers.
    Metrics,
    /// A tar of images that a node made.
    Shard,
    /// Rows for people: the report.
    Table,
}

impl Class {
    /// The lower-case name that messages, docs and schemas use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Sequence => "sequence",
            Self::Vector => "vector",
            Self::Map => "map",
            Self::Logits => "logits",
            Self::Loss => "loss",
            Self::Targets => "targets",
            Self::Records => "records",
            Self::Tokenizer => "tokenizer",
            Self::Weights => "weights",
            Self::Features => "features",
            Self::Metrics => "metrics",
            Self::Shard => "shard",
            Self::Table => "table",
        }
    }
}

/// The type of a port: a class and, for tensors, a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortType {
    /// What kind of value.
    pub class: Class,
    /// Its dimensions, outermost first; empty where the class has none or they are unknown.
    pub shape: Vec<Dim>,
}

impl PortType {
    /// A port type from a class and its dimensions.
    pub fn new(class: Class, shape: impl IntoIterator<Item = Dim>) -> Self {
        Self { class, shape: shape.into_iter().collect() }
    }

    /// A port type without a shape.
    pub fn plain(class: Class) -> Self {
        Self::new(class, [])
    }
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.name())?;
        if !self.shape.is_empty() {
            let dims: Vec<String> = self.shape.iter().map(Dim::to_string).collect();
            write!(f, " [{}]", dims.join(", "))?;
        }
        Ok(())
    }
}
