//! [`KindDoc`]: everything that a kind says of itself.

use indexmap::IndexMap;

use crate::{
    MapLoader,
    config::{FieldDoc, ReadEnv, Reader},
    diagnostic::Problems,
    graph::{Class, Dim, InPort, Inputs, Kind, KindSpec, NodeSpec, OutPort, PortType},
    source::{Sources, Span},
};

/// The documentation of a kind.
#[derive(Debug, Clone)]
pub struct KindDoc {
    /// Name, version, summary, details, example.
    pub spec: KindSpec,
    /// The ports that take values.
    pub inputs: Vec<InPort>,
    /// The ports that give values, with the types that they have for symbolic inputs and default parameters; empty
    /// if there are no such types.
    pub outputs: Vec<OutPort>,
    /// The parameters, in the order in which they are read.
    pub fields: Vec<FieldDoc>,
}

/// Documents a kind by letting it read an empty table.
pub fn describe<N: NodeSpec + ?Sized, C: ?Sized>(kind: &dyn Kind<N, C>, context: &C) -> KindDoc {
    let (loader, sources) = (MapLoader::new(), Sources::new());
    let mut env = ReadEnv::new(&loader, &sources, Problems::default());
    env.documenting = true;
    let mut reader = Reader::new(&env, None, Span::NOWHERE);
    let node = kind.read(&mut reader, context);
    let inputs = node.inputs();
    let outputs = node.infer(&symbolic(&inputs)).unwrap_or_default();
    KindDoc { spec: kind.spec(), inputs, outputs, fields: reader.finish(&[]).docs }
}

/// One symbolic value on every port that must be connected.
fn symbolic(ports: &[InPort]) -> Inputs {
    let needed = ports.iter().filter(|port| port.arity.is_required());
    let typed = needed.filter_map(|port| Some((port.name, vec![symbolic_type(*port.classes.first()?)])));
    Inputs { ports: typed.collect::<IndexMap<_, _>>() }
}

fn symbolic_type(class: Class) -> PortType {
    let symbols: &[&str] = match class {
        Class::Image => {
            return PortType::new(class, [Dim::sym("B"), Dim::Const(3), Dim::sym("H"), Dim::sym("W")]);
        }
        Class::Text => &["B", "T"],
        Class::Sequence => &["B", "N", "C"],
        Class::Vector => &["B", "C"],
        Class::Map => &["B", "C", "H", "W"],
        Class::Logits => &["B", "K"],
        Class::Features => &["n", "C"],
        _ => &[],
    };
    PortType::new(class, symbols.iter().map(|symbol| Dim::sym(*symbol)))
}
