//! The `[nodes.NAME]` tables of either kind of file, before their kinds look at them.

use indexmap::IndexMap;

use super::{
    keep::{Keep, Stored},
    model::GraphId,
    value::{Table, Value},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::Span,
};

/// One node as the file has it.
#[derive(Debug, Clone)]
pub struct ConfigNode {
    /// Its name, the key of its table.
    pub name: String,
    /// `family.name` and where it stands.
    pub kind: (String, Span),
    /// All of its keys, `kind` and `in` among them.
    pub table: Table,
    /// The model graph that its key `graph` names; `None` also if that could not be read.
    pub graph: Option<GraphId>,
    /// The node of the same model graph whose parameters it uses.
    pub share: Option<String>,
    /// Whether values of this node of a model graph are kept, if it says so.
    pub keep: Option<Keep>,
    /// How exactly they are kept, if it says so.
    pub stored: Option<Stored>,
    /// Where its name is written.
    pub span: Span,
}

/// The nodes of a document; one that cannot be understood is reported and named in the second part, so that
/// nothing is said about those who refer to it.
pub(crate) fn read_nodes(
    nodes: Option<&Value>,
    problems: &mut Problems,
) -> (IndexMap<String, ConfigNode>, Vec<String>) {
    let mut good = IndexMap::new();
    let mut bad = Vec::new();
    let Some(nodes) = nodes else { return (good, bad) };
    let Some(table) = nodes.as_table() else {
        problems.push(Diagnostic::new(format!("`nodes` is a table, found {}", nodes.found())).at(nodes.span));
        return (good, bad);
    };
    for (name, entry) in table {
        match read_node(name, entry.key_span, &entry.value, problems) {
            Some(node) => {
                good.insert(name.clone(), node);
            }
            None => bad.push(name.clone()),
        }
    }
    (good, bad)
}

fn read_node(name: &str, span: Span, value: &Value, problems: &mut Problems) -> Option<ConfigNode> {
    if !is_name(name) {
        let help = "names begin with a letter or `_`, then letters, digits, `_` and `-`".to_owned();
        problems.push(
            Diagnostic::new(format!("`{}` is no name for a node", name.escape_debug())).at(span).help(help),
        );
        return None;
    }
    let Some(table) = value.as_table() else {
        let message = format!("node `{name}` is a table, found {}", value.found());
        problems.push(Diagnostic::new(message).at(value.span));
        return None;
    };
    let Some(kind) = table.get("kind") else {
        let help = "add `kind = \"family.name\"`".to_owned();
        problems.absent(Diagnostic::new(format!("node `{name}` has no `kind`")).at(span).help(help));
        return None;
    };
    let Some(text) = kind.value.as_str() else {
        let message = format!("`kind` is a string, found {}", kind.value.found());
        problems.push(Diagnostic::new(message).at(kind.value.span));
        return None;
    };
    let kind = (text.to_owned(), kind.value.span);
    Some(ConfigNode {
        name: name.to_owned(),
        kind,
        table: table.clone(),
        graph: None,
        share: None,
        keep: None,
        stored: None,
        span,
    })
}

/// Whether a text can be the name of a node, an input or an output: no dots, no slashes.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
