//! Documents to a sealed, typed [`Graph`]: every port connected, every class and shape agreed, no cycles.

mod build;
mod connect;
mod cycle;
mod draw;
pub mod gradient;
mod infer;
pub mod kind;
mod lookup;
pub mod port;
mod sealed;

pub use build::build;
pub use draw::Paint;
pub use kind::{Arity, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place};
pub use lookup::PortError;
pub use port::{Class, Dim, PortType};
pub use sealed::{Edge, Graph, Node, NodeId, Source};
