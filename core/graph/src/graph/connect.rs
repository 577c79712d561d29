//! The links of one node as its table writes them: `in = "x"`, `in = { port = "x.y" }`, `in = ["a", "b"]`,
//! `weights = { vit = "stage1/vit" }`. Whether their targets exist is asked later.

use super::{
    kind::{InPort, KindSpec, Place},
    lookup::split_port,
};
use crate::{
    config::{ConfigNode, Value, ValueKind},
    diagnostic::{Diagnostic, Problems},
    source::Span,
    suggest,
};

/// A connection as written.
#[derive(Debug)]
pub(super) struct Link {
    /// The port that takes the value.
    pub port: &'static str,
    /// The node or input that it names.
    pub target: String,
    /// The port of the target, if it names one.
    pub target_port: Option<String>,
    pub label: Option<String>,
    pub part: Option<String>,
    pub span: Span,
}

/// All links of a node. Ports that are not connected and have to be, and ports with too many sources, are
/// reported; an error in a link is not also a missing port.
pub(super) fn links(
    node: &ConfigNode,
    kind: &KindSpec,
    ports: &[InPort],
    problems: &mut Problems,
) -> Vec<Link> {
    let mut found = Vec::new();
    let mut tried: Vec<&str> = Vec::new();
    if let Some(entry) = node.table.get("in") {
        in_links(&entry.value, kind, ports, &mut tried, &mut found, problems);
    }
    for port in ports.iter().filter(|port| port.place == Place::Key) {
        if let Some(entry) = node.table.get(port.name) {
            tried.push(port.name);
            port_links(&entry.value, port, &mut found, problems);
        }
    }
    for port in ports.iter().filter(|port| port.arity.is_required() && !tried.contains(&port.name)) {
        report_missing(node, port, ports, problems);
    }
    found
}

/// The links under `in`.
fn in_links<'a>(
    value: &Value,
    kind: &KindSpec,
    ports: &'a [InPort],
    tried: &mut Vec<&'a str>,
    found: &mut Vec<Link>,
    problems: &mut Problems,
) {
    let own: Vec<&InPort> = ports.iter().filter(|port| port.place == Place::In).collect();
    let Some(primary) = own.first() else {
        problems.push(Diagnostic::new(format!("`{}` takes no `in`", kind.name)).at(value.span));
        return;
    };
    let ValueKind::Table(table) = &value.kind else {
        tried.push(primary.name);
        port_links(value, primary, found, problems);
        return;
    };
    for (key, entry) in table {
        match own.iter().find(|port| port.name == key) {
            Some(port) => {
                tried.push(port.name);
                port_links(&entry.value, port, found, problems);
            }
            None => {
                // The author meant some port by it: what is then missing is not worth a second message.
                tried.extend(own.iter().map(|port| port.name));
                let help = suggest::help(key, own.iter().map(|port| port.name));
                let diagnostic = Diagnostic::new(format!("`{}` has no port `{key}`", kind.name));
                problems.push(diagnostic.at(entry.key_span).help(help));
            }
        }
    }
}

/// The links into one port: a string, for `Many` also an array or a labelled table.
fn port_links(value: &Value, port: &InPort, found: &mut Vec<Link>, problems: &mut Problems) {
    let many = port.arity.takes_several();
    match &value.kind {
        ValueKind::String(_) => found.extend(link(value, port, None, problems)),
        ValueKind::Array(items) if many && !items.is_empty() => {
            items.iter().for_each(|item| found.extend(link(item, port, None, problems)));
        }
        ValueKind::Table(table) if many && !table.is_empty() => {
            for (label, entry) in table {
                found.extend(link(&entry.value, port, Some(label), problems));
            }
        }
        ValueKind::Array(_) | ValueKind::Table(_) if many => {
            let diagnostic = Diagnostic::new(format!("port `{}` needs at least one source", port.name));
            problems.push(diagnostic.at(value.span));
        }
        ValueKind::Array(items) if items.len() > 1 => {
            let message =
                format!("port `{}` is connected {} times, it takes one source", port.name, items.len());
            problems.push(Diagnostic::new(message).at(value.span));
        }
        _ => {
            let wanted =
                if many { "a node, an array or a table of nodes" } else { "one node or `node.port`" };
            let message = format!("port `{}` takes {wanted}, found {}", port.name, value.found());
            problems.push(Diagnostic::new(message).at(value.span));
        }
    }
}

/// One link: `node`, `node.port`, and under a key of its own also `node/part`.
fn link(value: &Value, port: &InPort, label: Option<&str>, problems: &mut Problems) -> Option<Link> {
    let Some(text) = value.as_str() else {
        let message = format!("port `{}` takes the name of a node, found {}", port.name, value.found());
        problems.push(Diagnostic::new(message).at(value.span));
        return None;
    };
    let (source, part) = match port.place {
        Place::Key => text.split_once('/').map_or((text, None), |(source, part)| (source, Some(part))),
        Place::In => (text, None),
    };
    let (target, target_port) = split_port(source);
    if target.is_empty() || target_port == Some("") || part == Some("") {
        problems.push(Diagnostic::new(format!("`{text}` names no node")).at(value.span));
        return None;
    }
    Some(Link {
        port: port.name,
        target: target.to_owned(),
        target_port: target_port.map(str::to_owned),
        label: label.map(str::to_owned),
        part: part.map(str::to_owned),
        span: value.span,
    })
}

fn report_missing(node: &ConfigNode, port: &InPort, ports: &[InPort], problems: &mut Problems) {
    let primary =
        ports.iter().find(|port| port.place == Place::In).is_some_and(|first| first.name == port.name);
    let at =
        node.table.get("in").filter(|_| port.place == Place::In).map_or(node.span, |entry| entry.value.span);
    let classes: Vec<&str> = port.classes.iter().map(|class| class.name()).collect();
    let example = match port.place {
        Place::Key => format!("{} = \"node\"", port.name),
        Place::In if primary => "in = \"node\"".to_owned(),
        Place::In => format!("in = {{ {} = \"node\" }}", port.name),
    };
    let message =
        format!("`{}` needs a source for its port `{}` ({})", node.name, port.name, classes.join(" or "));
    problems.absent(Diagnostic::new(message).at(at).help(format!("write `{example}`: {}", port.help)));
}
