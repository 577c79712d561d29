//! Sets of records that arrive on one port.

use heddle_data::Manifest;
use heddle_graph::graph::{Arity, Class, InPort, Inputs, Mismatch, OutPort, Place, PortType};

use super::Records;
use crate::exec::{NodeError, RunContext};

/// The port of a node that takes several sets of records.
pub fn several_records_in(help: &'static str) -> Vec<InPort> {
    vec![InPort {
        name: "records",
        classes: vec![Class::Records],
        arity: Arity::Many,
        place: Place::In,
        help,
    }]
}

/// The one output of a node whose sets have images of one size.
pub fn same_images(inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
    let types = inputs.all("records");
    let first = types.first().cloned().unwrap_or_else(|| PortType::plain(Class::Records));
    let other = types.iter().find(|ty| {
        ty.shape.len() != first.shape.len() || !ty.shape.iter().zip(&first.shape).all(|(a, b)| a.agrees(b))
    });
    match other {
        None => Ok(vec![OutPort::new("records", first)]),
        Some(other) => Err(Mismatch {
            port: Some("records"),
            param: None,
            message: format!("the sets have images of different sizes: {first} and {other}"),
            help: Some("give the sources the same `image.size`".to_owned()),
        }),
    }
}

/// One of the sets.
pub struct Set {
    /// Its label, else the node that it comes from.
    pub name: String,
    /// The records.
    pub records: Records,
}

/// The sets that arrived, in the order of the file.
pub struct Several {
    /// They.
    pub sets: Vec<Set>,
}

impl Several {
    /// Reads the port `records`.
    pub fn read(cx: &RunContext<'_>) -> Result<Self, NodeError> {
        let set = |artifact: &crate::exec::Artifact| {
            let name = artifact.label.clone().unwrap_or_else(|| artifact.from.clone());
            Ok(Set { name, records: Records::read(artifact)? })
        };
        Ok(Self { sets: cx.all("records").iter().map(set).collect::<Result<_, NodeError>>()? })
    }

    /// Names and manifests.
    pub fn named(&self) -> Vec<(&str, &Manifest)> {
        self.sets.iter().map(|set| (set.name.as_str(), &set.records.manifest)).collect()
    }
}
