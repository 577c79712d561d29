//! Changes to a resolved file by key path: `-S nodes.stage2.steps=100`, and the deltas of ablations and sweeps.

use super::value::{self, Entry, Table, Value, ValueKind};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::{SourceId, Sources, Span},
    suggest,
};

/// Name of the pseudo-source that holds a command-line override.
pub const COMMAND_LINE: &str = "-S";

/// Key paths deeper than this are a mistake.
const MAX_SEGMENTS: usize = 64;

/// One key set to a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The segments of the key, `["nodes", "stage2", "steps"]`.
    pub path: Vec<String>,
    /// Where the key is written.
    pub key_span: Span,
    /// The new value.
    pub value: Value,
}

impl Override {
    /// The key as one writes it: `nodes.stage2.steps`.
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Reads `key.path=value` from the command line, as a source named `-S`.
pub fn parse_override(text: &str, sources: &mut Sources, problems: &mut Problems) -> Option<Override> {
    let source = sources.add(COMMAND_LINE, text);
    let whole = Span { source, start: 0, end: text.len() };
    let Some(equals) = find_unquoted(text, '=') else {
        let help = "write `-S key=value`, as in `-S nodes.stage2.steps=100`".to_owned();
        let message = if text.contains('=') {
            "a quote in the override is not closed"
        } else {
            "an override needs `=`"
        };
        problems.push(Diagnostic::new(message).at(whole).help(help));
        return None;
    };
    let key_span = Span { source, start: 0, end: equals };
    let path = match split_key(&text[..equals]) {
        Ok(path) => path,
        Err(reason) => {
            problems.push(Diagnostic::new(reason).at(key_span));
            return None;
        }
    };
    let value = command_line_value(source, equals + 1, text, problems)?;
    Some(Override { path, key_span, value })
}

/// The value after `=`: TOML, or a bare word as text.
fn command_line_value(source: SourceId, start: usize, text: &str, problems: &mut Problems) -> Option<Value> {
    let written = text[start..].trim();
    let start = start + (text[start..].len() - text[start..].trim_start().len());
    let span = Span { source, start, end: start + written.len() };
    if written.is_empty() {
        let help = "an empty string is written `''`".to_owned();
        problems.push(Diagnostic::new("the override has no value").at(span).help(help));
        return None;
    }
    match value::parse_value(source, start, written, problems) {
        Ok(value) => Some(value),
        Err(reason) if written.starts_with(['[', '{', '"', '\'']) => {
            problems.push(*reason);
            None
        }
        Err(_) => Some(Value::new(ValueKind::String(written.to_owned()), span)),
    }
}

/// Splits a key at its dots; quoted segments may hold dots.
pub fn split_key(key: &str) -> Result<Vec<String>, String> {
    let mut segments = Vec::new();
    let mut rest = key;
    loop {
        let end = find_unquoted(rest, '.').unwrap_or(rest.len());
        segments.push(segment(rest[..end].trim())?);
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("a key has at most {MAX_SEGMENTS} segments"));
        }
        if end == rest.len() {
            return Ok(segments);
        }
        rest = &rest[end + 1..];
    }
}

/// One segment of a key, without its quotes.
fn segment(text: &str) -> Result<String, String> {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return match inner.strip_suffix(quote) {
                Some(name) if !name.contains(quote) => Ok(name.to_owned()),
                _ => Err(format!("the quote in `{text}` is not closed")),
            };
        }
    }
    match text {
        "" => Err("a key has an empty segment".to_owned()),
        _ if text.contains(|c: char| c.is_whitespace() || "\"'[]{}".contains(c)) => {
            Err(format!("`{text}` is not a key; quote it"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// The first `wanted` outside of quotes.
fn find_unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, c)| {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == wanted => return Some(at),
            None => {}
        }
        None
    })
}

/// Sets the key. Tables on the way are made where they are missing, but a node or a model graph must exist: a
/// misspelt name shall not make a new one.
pub fn apply(root: &mut Table, change: &Override, problems: &mut Problems) {
    if let Some(diagnostic) = unknown_target(root, change) {
        problems.absent(diagnostic);
        return;
    }
    let Some((last, parents)) = change.path.split_last() else { return };
    let mut table = root;
    for (depth, segment) in parents.iter().enumerate() {
        let entry = table.entry(segment.clone()).or_insert_with(|| {
            let value = Value::new(ValueKind::Table(Table::new()), change.key_span);
            Entry { key_span: change.key_span, value }
        });
        let found = entry.value.found();
        match &mut entry.value.kind {
            ValueKind::Table(inner) => table = inner,
            _ => {
                let name = change.path[..=depth].join(".");
                let diagnostic = Diagnostic::new(format!(
                    "`{name}` is {found}, it has no key `{}`",
                    change.path[depth + 1]
                ));
                problems.push(diagnostic.at(change.key_span).related(entry.value.span, "it is written here"));
                return;
            }
        }
    }
    let entry = Entry { key_span: change.key_span, value: change.value.clone() };
    table.insert(last.clone(), entry);
}

/// The error for an override of a node or model graph that the file does not have, or of what files it has.
pub fn unknown_target(root: &Table, change: &Override) -> Option<Diagnostic> {
    if change.path.first().is_some_and(|first| first == "extends") {
        let help = "name the other file instead, or write a file that extends both".to_owned();
        return Some(Diagnostic::new("`extends` cannot be overridden").at(change.key_span).help(help));
    }
    let [group, name, _, ..] = change.path.as_slice() else { return None };
    let what = match group.as_str() {
        "nodes" => "node",
        "graphs" => "model graph",
        _ => return None,
    };
    let known = root.get(group).and_then(|entry| entry.value.as_table());
    if known.is_some_and(|table| table.contains_key(name)) {
        return None;
    }
    let names = known.into_iter().flat_map(|table| table.keys().map(String::as_str));
    Some(
        Diagnostic::new(format!("unknown {what} `{name}`"))
            .at(change.key_span)
            .help(suggest::help(name, names)),
    )
}
