//! The graph as a drawing: Graphviz DOT and Mermaid.

use std::fmt::Write;

use super::sealed::{Edge, Graph, NodeId, Source};

/// How a node is painted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paint {
    /// `#rrggbb`; as always without.
    pub fill: Option<&'static str>,
    /// A line below its kind.
    pub note: Option<String>,
}

/// The two notations differ in these words alone.
struct Notation {
    open: &'static str,
    close: &'static str,
    node: fn(id: &str, label: &str, fill: Option<&str>) -> String,
    input: fn(id: &str, label: &str) -> String,
    edge: fn(from: &str, to: &str, label: &str) -> String,
    line_break: &'static str,
}

const DOT: Notation = Notation {
    open: "digraph heddle {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
    close: "}\n",
    node: |id, label, fill| {
        let fill = fill.map(|fill| format!(", style=filled, fillcolor=\"{fill}\"")).unwrap_or_default();
        format!("{id} [label=\"{label}\"{fill}];")
    },
    input: |id, label| format!("{id} [label=\"{label}\", shape=oval];"),
    edge: |from, to, label| format!("{from} -> {to} [label=\"{label}\"];"),
    line_break: "\\n",
};

const MERMAID: Notation = Notation {
    open: "flowchart LR\n",
    close: "",
    node: |id, label, fill| {
        let fill = fill.map(|fill| format!("\n  style {id} fill:{fill}")).unwrap_or_default();
        format!("{id}[\"{label}\"]{fill}")
    },
    input: |id, label| format!("{id}([\"{label}\"])"),
    edge: |from, to, label| format!("{from} -->|\"{label}\"| {to}"),
    line_break: "<br/>",
};

impl<N: ?Sized> Graph<N> {
    /// Graphviz DOT: a box for each node with its kind, an arrow for each edge with its type.
    pub fn to_dot(&self, paint: &dyn Fn(NodeId) -> Paint) -> String {
        self.draw(&DOT, paint)
    }

    /// Mermaid, which renders inside Markdown.
    pub fn to_mermaid(&self, paint: &dyn Fn(NodeId) -> Paint) -> String {
        self.draw(&MERMAID, paint)
    }

    fn draw(&self, notation: &Notation, paint: &dyn Fn(NodeId) -> Paint) -> String {
        let mut text = notation.open.to_owned();
        let mut line = |line: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {line}");
        };
        for (at, name) in self.inputs.keys().enumerate() {
            line((notation.input)(&format!("i{at}"), name));
        }
        for id in self.ids() {
            let node = self.node(id);
            let Paint { fill, note } = paint(id);
            let lines =
                [Some(node.name.clone()), Some(node.kind.name.to_owned()), note.map(|note| escape(&note))];
            let label = lines.into_iter().flatten().collect::<Vec<_>>().join(notation.line_break);
            line((notation.node)(&format!("n{}", id.index()), &label, fill));
        }
        for id in self.ids() {
            for edge in self.node(id).edges.values().flatten() {
                let label = escape(&edge_label(edge));
                line((notation.edge)(&self.source_id(&edge.from), &format!("n{}", id.index()), &label));
            }
        }
        text.push_str(notation.close);
        text
    }

    fn source_id(&self, source: &Source) -> String {
        match source {
            Source::Input(name) => format!("i{}", self.inputs.get_index_of(name).unwrap_or(0)),
            Source::Node { id, .. } => format!("n{}", id.index()),
        }
    }
}

/// The port, the part and the type that flow.
fn edge_label(edge: &Edge) -> String {
    let part = edge.part.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
    match &edge.from {
        Source::Input(_) => format!("{}", edge.ty),
        Source::Node { port, .. } => format!("{port}{part}: {}", edge.ty),
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "'").replace('|', "/")
}
