//! Parameters: `"${params.width}"` as a whole value becomes the value of that parameter, with its type.
//!
//! A value keeps the place where the parameter is written, so that a message points at what has to change, and
//! remembers where it is used. There are no expressions.

use std::collections::HashSet;

use super::value::{Entry, Table, Value, ValueKind};
use crate::{
    diagnostic::{Diagnostic, Problems},
    suggest,
};

/// Substitution may make a file this many values larger, not more.
const MAX_GROWTH: usize = 1_000_000;

/// Parameters that refer to parameters: the longest chain.
const MAX_DEPTH: usize = 64;

/// What to do with a parameter that this scope does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Report it.
    Report,
    /// Leave it for a scope further in.
    Leave,
}

/// The parameters that a file may use.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    values: Table,
    used: HashSet<String>,
    open: Vec<String>,
    /// Parameters that were resolved, or could not be: neither is tried again.
    settled: HashSet<String>,
    growth: usize,
    /// Whether a reference was wrong: what seems unused may be what it meant.
    misspelt: bool,
}

impl Scope {
    /// Resolves references of parameters to each other. Cycles are reported, each once.
    pub fn new(values: Table, problems: &mut Problems) -> Self {
        let mut scope = Self { values, ..Self::default() };
        let names: Vec<String> = scope.values.keys().cloned().collect();
        for name in names {
            scope.resolve(&name, problems);
        }
        scope
    }

    /// Replaces one parameter by its resolved value.
    fn resolve(&mut self, name: &str, problems: &mut Problems) {
        let Some(entry) = self.values.get(name) else { return };
        if !holds_reference(&entry.value) || self.settled.contains(name) {
            return;
        }
        let mut value = entry.value.clone();
        self.open.push(name.to_owned());
        self.substitute(&mut value, Unknown::Report, problems);
        self.open.pop();
        self.settled.insert(name.to_owned());
        if let Some(entry) = self.values.get_mut(name) {
            entry.value = value;
        }
    }

    /// Replaces every reference inside a value.
    pub fn substitute(&mut self, value: &mut Value, unknown: Unknown, problems: &mut Problems) {
        match &mut value.kind {
            ValueKind::Array(items) => {
                items.iter_mut().for_each(|item| self.substitute(item, unknown, problems))
            }
            ValueKind::Table(table) => self.substitute_table(table, unknown, problems),
            ValueKind::String(text) => match reference(text) {
                Reference::None => {}
                Reference::Param(name) => {
                    let name = name.to_owned();
                    self.replace(value, &name, unknown, problems);
                }
                Reference::Malformed(reason) => {
                    self.misspelt = true;
                    let help = "a value is either `\"${params.NAME}\"` as a whole or has none; there are no expressions";
                    problems.lost(value.span, Diagnostic::new(reason).at(value.span).help(help.to_owned()));
                }
            },
            _ => {}
        }
    }

    /// Replaces every reference inside a table.
    pub fn substitute_table(&mut self, table: &mut Table, unknown: Unknown, problems: &mut Problems) {
        table.values_mut().for_each(|entry| self.substitute(&mut entry.value, unknown, problems));
    }

    /// Puts the parameter's value in place of its reference.
    fn replace(&mut self, value: &mut Value, name: &str, unknown: Unknown, problems: &mut Problems) {
        if !self.values.contains_key(name) {
            if unknown == Unknown::Report {
                let help = suggest::help(name, self.values.keys().map(String::as_str));
                let diagnostic = Diagnostic::new(format!("unknown parameter `{name}`"));
                self.misspelt = true;
                problems.lost_if_absent(value.span, diagnostic.at(value.span).help(help));
            }
            return;
        }
        if let Some(start) = self.open.iter().position(|open| open == name) {
            let chain: Vec<&str> = self.open[start..].iter().map(String::as_str).chain([name]).collect();
            let message = format!("parameters refer to each other: {}", chain.join(" -> "));
            problems.lost(value.span, Diagnostic::new(message).at(value.span));
            return;
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} parameters refer to one another");
            problems.lost(value.span, Diagnostic::new(message).at(value.span));
            return;
        }
        self.used.insert(name.to_owned());
        self.resolve(name, problems);
        let Some(entry) = self.values.get(name) else { return };
        self.growth = self.growth.saturating_add(entry.value.size());
        if self.growth > MAX_GROWTH {
            let message = format!("parameters expand to more than {MAX_GROWTH} values");
            problems.lost(value.span, Diagnostic::new(message).at(value.span));
            return;
        }
        let used_at = value.via.unwrap_or(value.span);
        *value = Value { via: Some(used_at), ..entry.value.clone() };
    }

    /// Marks parameters as used.
    pub fn mark<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        self.used.extend(names.into_iter().cloned());
    }

    /// Reports those of the `declared` parameters that nothing uses. `wanted` are further names that have a use.
    pub fn report_unused<'a>(
        &self,
        declared: &Table,
        wanted: impl IntoIterator<Item = &'a str>,
        problems: &mut Problems,
    ) {
        if self.misspelt {
            return;
        }
        let wanted: Vec<&str> = wanted.into_iter().filter(|name| !declared.contains_key(*name)).collect();
        for (name, entry) in declared.iter().filter(|(name, _)| !self.used.contains(*name)) {
            let help = suggest::help(name, wanted.iter().copied());
            let diagnostic = Diagnostic::new(format!("nothing uses the parameter `{name}`"));
            problems.absent(diagnostic.at(entry.key_span).help(help));
        }
    }

    /// The parameters with their resolved values.
    pub fn values(&self) -> &Table {
        &self.values
    }
}

/// What `${` means in a text.
enum Reference<'a> {
    None,
    Param(&'a str),
    Malformed(String),
}

fn reference(text: &str) -> Reference<'_> {
    if !text.contains("${") {
        return Reference::None;
    }
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match inner {
        Some(inner) if !inner.contains(['$', '{', '}']) => match inner.trim().strip_prefix("params.") {
            Some(name) if !name.contains(|c: char| c.is_whitespace() || "*/+()".contains(c)) => {
                Reference::Param(name)
            }
            _ => Reference::Malformed(format!("`{text}` does not name a parameter")),
        },
        _ => Reference::Malformed("`${...}` inside a longer string has no meaning".to_owned()),
    }
}

/// Whether anything inside could refer to a parameter.
fn holds_reference(value: &Value) -> bool {
    match &value.kind {
        ValueKind::String(text) => text.contains("${"),
        ValueKind::Array(items) => items.iter().any(holds_reference),
        ValueKind::Table(table) => table.values().any(|entry| holds_reference(&entry.value)),
        _ => false,
    }
}

/// Collects the names of all parameters that a table refers to.
pub fn references(table: &Table, names: &mut HashSet<String>) {
    table.values().for_each(|entry| collect(&entry.value, names));
}

fn collect(value: &Value, names: &mut HashSet<String>) {
    match &value.kind {
        ValueKind::Array(items) => items.iter().for_each(|item| collect(item, names)),
        ValueKind::Table(table) => references(table, names),
        ValueKind::String(text) => {
            if let Reference::Param(name) = reference(text) {
                names.insert(name.to_owned());
            }
        }
        _ => {}
    }
}

/// Puts parameters from further out over the declared ones of the same name; gives the names that were there.
pub fn overlay(declared: &mut Table, outer: &Table) -> Vec<String> {
    let mut taken = Vec::new();
    for (name, entry) in declared.iter_mut() {
        if let Some(over) = outer.get(name) {
            *entry = Entry { key_span: entry.key_span, value: over.value.clone() };
            taken.push(name.clone());
        }
    }
    taken
}
