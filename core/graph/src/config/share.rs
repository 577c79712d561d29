//! `share = "NODE"`: a node of a model graph that is another call of the same module with the same parameters.
//!
//! It has the keys of the node that it names, and where it sets one itself, its own; never `in`, which says what
//! this call reads, and never `published`, since the parameters keep their names.

use super::{
    node::ConfigNode,
    value::{Entry, Table, Value, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    suggest,
};

/// The key.
const SHARE: &str = "share";

/// What a sharing node does not take from the node that it names.
const OWN: [&str; 2] = ["in", SHARE];

/// Writes the keys that sharing nodes take from others into their tables. A node whose `share` is wrong loses the
/// key, so that the rest of it is still looked at.
pub(crate) fn expand(nodes: &mut Value, problems: &mut Problems) {
    let ValueKind::Table(nodes) = &mut nodes.kind else { return };
    let before = nodes.clone();
    for (name, entry) in nodes.iter_mut() {
        let ValueKind::Table(table) = &mut entry.value.kind else { continue };
        let Some(share) = table.get(SHARE).cloned() else { continue };
        match owner(name, &share, &before) {
            Ok(owner) => {
                if let (Some(own), Some(theirs)) = (table.get("kind"), owner.get("kind"))
                    && own.value.as_str() != theirs.value.as_str()
                {
                    let message = format!("`{name}` shares the parameters of a node of another kind");
                    let diagnostic = Diagnostic::new(message).related(theirs.value.span, "its kind");
                    problems.push(diagnostic.at(own.value.span));
                }
                if let Some(published) = table.get("published") {
                    let help =
                        "its parameters have the names of the node that it shares them with".to_owned();
                    let diagnostic = Diagnostic::new(format!("`{name}` shares its parameters")).help(help);
                    problems.push(diagnostic.at(published.key_span));
                }
                take(table, owner);
            }
            Err(diagnostic) => {
                problems.absent((*diagnostic).at(share.value.span));
                table.shift_remove(SHARE);
            }
        }
    }
}

/// Notes on a node whose parameters it uses, once the tables are expanded.
pub(crate) fn mark(node: &mut ConfigNode) {
    node.share = node.table.get(SHARE).and_then(|entry| entry.value.as_str()).map(str::to_owned);
}

fn take(table: &mut Table, owner: &Table) {
    for (key, entry) in owner.iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
        if !table.contains_key(key) {
            table.insert(key.clone(), entry.clone());
        }
    }
}

/// The table of the node that `share` names.
fn owner<'a>(name: &str, share: &Entry, nodes: &'a Table) -> Result<&'a Table, Box<Diagnostic>> {
    let wrong = |message: String| Box::new(Diagnostic::new(message));
    let Some(target) = share.value.as_str() else {
        return Err(wrong(format!("`share` names a node, found {}", share.value.found())));
    };
    let Some(entry) = nodes.get(target) else {
        let names = nodes.keys().map(String::as_str).filter(|known| *known != name);
        let help = suggest::help(target, names);
        return Err(Box::new(Diagnostic::new(format!("there is no node `{target}`")).help(help)));
    };
    let table = entry.value.as_table();
    match table.and_then(|table| table.get(SHARE)) {
        None => table.ok_or_else(|| wrong(format!("node `{target}` is no table"))),
        Some(_) if target == name => Err(wrong(format!("`{name}` shares with itself"))),
        Some(further) => {
            let further = further.value.as_str().unwrap_or_default();
            let message = format!("`{target}` has no parameters of its own to share");
            Err(Box::new(Diagnostic::new(message).help(format!("write `share = \"{further}\"`"))))
        }
    }
}
