//! Ports by name: `"node"`, `"node.port"`, `"input"`.

use super::{
    kind::OutPort,
    port::PortType,
    sealed::{Graph, Source},
};
use crate::suggest;

/// Why a text names no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No node and no input has the name.
    #[error("unknown node `{name}`")]
    UnknownNode {
        /// The name.
        name: String,
        /// The nearest known one.
        help: Option<String>,
    },
    /// The node has no such port.
    #[error("`{node}` has no port `{port}`")]
    UnknownPort {
        /// The node or input.
        node: String,
        /// The port.
        port: String,
        /// The nearest known one.
        help: Option<String>,
    },
    /// The node ends the graph.
    #[error("`{node}` gives nothing")]
    NoOutput {
        /// The node.
        node: String,
    },
}

impl PortError {
    /// What would be right.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::UnknownNode { help, .. } | Self::UnknownPort { help, .. } => help.as_deref(),
            Self::NoOutput { .. } => None,
        }
    }
}

/// Splits `node.port` at its first dot; names of ports may hold dots, names of nodes may not.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    text.split_once('.').map_or((text, None), |(node, port)| (node, Some(port)))
}

/// The port of a name among the outputs of a node; the first without one.
pub(super) fn find_port<'a>(
    node: &str,
    outputs: &'a [OutPort],
    port: Option<&str>,
) -> Result<&'a OutPort, PortError> {
    let Some(port) = port else {
        return outputs.first().ok_or_else(|| PortError::NoOutput { node: node.to_owned() });
    };
    outputs.iter().find(|output| output.name == port).ok_or_else(|| PortError::UnknownPort {
        node: node.to_owned(),
        port: port.to_owned(),
        help: suggest::help(port, outputs.iter().map(|output| output.name.as_str())),
    })
}

impl<N: ?Sized> Graph<N> {
    /// The source and the type that a text names.
    ///
    /// # Errors
    /// The node, the input or the port does not exist.
    pub fn resolve_port(&self, text: &str) -> Result<(Source, PortType), PortError> {
        let (name, port) = split_port(text);
        if let Some(input) = self.inputs.get(name) {
            return match port {
                None => Ok((Source::Input(name.to_owned()), input.ty.clone())),
                Some(port) => {
                    Err(PortError::UnknownPort { node: name.to_owned(), port: port.to_owned(), help: None })
                }
            };
        }
        let id = self.find(name).ok_or_else(|| {
            let nodes = self.ids().map(|id| self.node(id).name.as_str());
            let names = nodes.chain(self.inputs.keys().map(String::as_str));
            PortError::UnknownNode { name: name.to_owned(), help: suggest::help(name, names) }
        })?;
        let output = find_port(name, &self.node(id).outputs, port)?;
        Ok((Source::Node { id, port: output.name.clone() }, output.ty.clone()))
    }
}
