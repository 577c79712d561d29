//! Ports of nodes that take records and give records.

use heddle_graph::graph::{Arity, Class, InPort, Inputs, Place, PortType};

/// The one input of a node that goes through records.
pub fn records_in(help: &'static str) -> Vec<InPort> {
    vec![InPort { name: "records", classes: vec![Class::Records], arity: Arity::One, place: Place::In, help }]
}

/// A port for other records beside them.
pub fn other_records_in(name: &'static str, arity: Arity, help: &'static str) -> InPort {
    InPort { name, classes: vec![Class::Records], arity, place: Place::In, help }
}

/// The type of the records that came.
pub fn same_records(inputs: &Inputs) -> PortType {
    inputs.get("records").cloned().unwrap_or_else(|| PortType::plain(Class::Records))
}
