//! One file with everything that it extends, merged into one table.
//!
//! `extends = ["a.toml", "b.toml"]`: depth first, later wins, the file itself last. Each file is read once, however
//! often it is named.

use std::collections::{HashMap, HashSet};

use super::{
    merge::merge,
    params::references,
    value::{self, Entry, Table, Value, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::{Load, Sources, Span},
};

/// Files larger than this are not settings.
const MAX_FILE_BYTES: usize = 16 << 20;

/// Chains of includes longer than this are a mistake.
const MAX_DEPTH: usize = 64;

/// Reads files and what they extend.
pub struct Includer<'a> {
    loader: &'a dyn Load,
    sources: &'a mut Sources,
    /// Merged tables by resolved path; `None` where reading failed, which is said once.
    merged: HashMap<String, Option<Table>>,
    /// The files that are being read now, outermost first.
    stack: Vec<String>,
    /// The parameters that any of the files refers to, also where another file replaces the value.
    references: HashSet<String>,
}

impl<'a> Includer<'a> {
    /// Nothing read yet.
    pub fn new(loader: &'a dyn Load, sources: &'a mut Sources) -> Self {
        Self { loader, sources, merged: HashMap::new(), stack: Vec::new(), references: HashSet::new() }
    }

    /// The merged table of a resolved path, without `extends`; `named` is where a file names it. `None` if it
    /// cannot be read, which is reported at `named`.
    pub fn load(&mut self, path: &str, named: Option<Span>, problems: &mut Problems) -> Option<Table> {
        if self.stack.iter().any(|open| open == path) {
            let start = self.stack.iter().position(|open| open == path).unwrap_or(0);
            let chain: Vec<&str> = self.stack[start..].iter().map(String::as_str).chain([path]).collect();
            problems
                .push(Diagnostic::new(format!("files include each other: {}", chain.join(" -> "))).at(named));
            return None;
        }
        if self.stack.len() >= MAX_DEPTH {
            problems
                .push(Diagnostic::new(format!("more than {MAX_DEPTH} files extend one another")).at(named));
            return None;
        }
        if let Some(known) = self.merged.get(path) {
            return known.clone();
        }
        self.stack.push(path.to_owned());
        let table = self.load_new(path, named, problems);
        self.stack.pop();
        self.merged.insert(path.to_owned(), table.clone());
        table
    }

    fn load_new(&mut self, path: &str, named: Option<Span>, problems: &mut Problems) -> Option<Table> {
        let text = match read_text(self.loader, path) {
            Ok(text) => text,
            Err(reason) => {
                let diagnostic = Diagnostic::new(format!("cannot read `{path}`: {reason}")).at(named);
                match named {
                    Some(span) => problems.gap(span, diagnostic),
                    None => problems.push(diagnostic),
                }
                return None;
            }
        };
        let source = self.sources.add(path, &text);
        let own = value::parse(source, self.sources, problems);
        Some(self.extend(own, problems))
    }

    /// Puts a table over what its key `extends` names.
    pub fn extend(&mut self, mut own: Table, problems: &mut Problems) -> Table {
        references(&own, &mut self.references);
        let Some(entry) = own.shift_remove("extends") else { return own };
        let mut merged = Table::new();
        for (name, span) in included(&entry, problems) {
            let resolved = self.loader.resolve(self.sources.name(span.source), &name);
            if let Some(table) = self.load(&resolved, Some(span), problems) {
                merge(&mut merged, table);
            }
        }
        merge(&mut merged, own);
        merged
    }

    /// The parameters that the files refer to.
    pub fn into_references(self) -> HashSet<String> {
        self.references
    }
}

/// The text of a file, or why it has none.
pub(crate) fn read_text(loader: &dyn Load, path: &str) -> Result<String, String> {
    let bytes = loader.read(path)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!(
            "it has {} MiB; settings have at most {}",
            bytes.len() >> 20,
            MAX_FILE_BYTES >> 20
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
    String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
}

/// The names in `extends`, a string or an array of strings.
fn included(entry: &Entry, problems: &mut Problems) -> Vec<(String, Span)> {
    let mut name = |value: &Value| match value.as_str() {
        Some(name) => Some((name.to_owned(), value.span)),
        None => {
            let message = format!("`extends` names files, found {}", value.found());
            problems
                .push(Diagnostic::new(message).at(value.span).help("extends = [\"base.toml\"]".to_owned()));
            None
        }
    };
    match &entry.value.kind {
        ValueKind::Array(items) => items.iter().filter_map(&mut name).collect(),
        _ => name(&entry.value).into_iter().collect(),
    }
}
