//! [`Reader`]: the one way in which parameters are read.
//!
//! The same calls read a table, check it, give its canonical form for cache keys, and document it. Nothing stops
//! at the first mistake: a wrong value is reported, a placeholder takes its place, reading goes on. What is left
//! unread at the end is an unknown key.

use std::cell::RefCell;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use super::{
    docs::{FieldDoc, FieldShape},
    field::{Choice, Field},
    files::{FileField, FilesField, InputFile, Want},
    from_value::FromValue,
    model::GraphId,
    value::{Entry, Table, Value, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::{Load, Sources, Span},
    suggest,
};

/// What all readers of one document share.
pub(crate) struct ReadEnv<'a> {
    pub loader: &'a dyn Load,
    pub sources: &'a Sources,
    pub problems: RefCell<Problems>,
    /// Whether an empty table is read only to document it.
    pub documenting: bool,
}

impl<'a> ReadEnv<'a> {
    pub fn new(loader: &'a dyn Load, sources: &'a Sources, problems: Problems) -> Self {
        Self { loader, sources, problems: RefCell::new(problems), documenting: false }
    }
}

/// What reading a table gives besides its values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Every value that counts in a cache key, defaults included, keys sorted; files are not in it.
    pub canonical: Map<String, Json>,
    /// What does not count, by dotted name, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// The files that the table names, by dotted name of the field.
    pub files: Vec<(String, InputFile)>,
    /// The fields, in documentation mode only.
    pub docs: Vec<FieldDoc>,
}

/// A word, its help, and how the fields that come with it are read.
pub type Variant<T> = (&'static str, &'static str, fn(&mut Reader<'_>) -> T);

/// Reads one table.
pub struct Reader<'a> {
    pub(super) env: &'a ReadEnv<'a>,
    table: Option<&'a Table>,
    /// Where something missing is reported.
    span: Span,
    known: Vec<&'static str>,
    graph: Option<GraphId>,
    pub(super) reading: Reading,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(env: &'a ReadEnv<'a>, table: Option<&'a Table>, span: Span) -> Self {
        Self { env, table, span, known: Vec::new(), graph: None, reading: Reading::default() }
    }

    pub(crate) fn with_graph(mut self, graph: Option<GraphId>) -> Self {
        self.graph = graph;
        self
    }

    /// A value of any type; the builder says what it may be and what happens without it.
    pub fn field<T: FromValue>(&mut self, name: &'static str, help: &'static str) -> Field<'_, 'a, T> {
        Field::new(self, name, help)
    }

    /// One of a few words: `(word, meaning, help)`.
    pub fn choice<T: Clone>(
        &mut self,
        name: &'static str,
        help: &'static str,
        choices: &[(&'static str, T, &'static str)],
    ) -> Choice<'_, 'a, T> {
        Choice::new(self, name, help, choices.to_vec())
    }

    /// The path of a file that must exist.
    pub fn file(&mut self, name: &'static str, help: &'static str) -> FileField<'_, 'a> {
        FileField::new(self, name, help, Want::File)
    }

    /// The path of a folder that must exist; all that is in it counts in the cache key.
    pub fn folder(&mut self, name: &'static str, help: &'static str) -> FileField<'_, 'a> {
        FileField::new(self, name, help, Want::Folder)
    }

    /// Paths or patterns of files, each matching at least one.
    pub fn files(&mut self, name: &'static str, help: &'static str) -> FilesField<'_, 'a> {
        FilesField::new(self, name, help)
    }

    /// A table with fields of its own. Without it, all of its defaults hold.
    pub fn table<T>(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let entry = self.take(name);
        let table = entry.and_then(|entry| self.expect_table(&entry.value));
        let at = entry.map_or(self.span, |entry| entry.key_span);
        let (value, mut inner) = self.nested(table, at, read);
        let docs = std::mem::take(&mut inner.docs);
        self.absorb(name, inner);
        self.document(|| FieldDoc::table(name, help, docs, FieldShape::Table));
        value
    }

    /// A table with fields of its own, or nothing.
    pub fn optional_table<T>(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let entry = self.take(name);
        if entry.is_none() && !self.env.documenting {
            return None;
        }
        let table = entry.and_then(|entry| self.expect_table(&entry.value));
        if table.is_none() && !self.env.documenting {
            return None;
        }
        let at = entry.map_or(self.span, |entry| entry.key_span);
        let (value, mut inner) = self.nested(table, at, read);
        let docs = std::mem::take(&mut inner.docs);
        self.document(|| FieldDoc::table(name, help, docs, FieldShape::OptionalTable));
        if entry.is_some() {
            self.absorb(name, inner);
        }
        entry.map(|_| value)
    }

    /// A table whose keys are the author's, each with a value; empty without it.
    pub fn map<T: FromValue>(&mut self, name: &'static str, help: &'static str) -> IndexMap<String, T> {
        let mut values = IndexMap::new();
        if let Some(table) = self.take(name).and_then(|entry| self.expect_table(&entry.value)) {
            for (key, entry) in table {
                match T::from_value(&entry.value) {
                    Ok(value) => {
                        values.insert(key.clone(), value);
                    }
                    Err(wrong) => self.wrong(&format!("{name}.{key}"), wrong, &entry.value),
                }
            }
        }
        self.record(name, values.to_json());
        self.document(|| FieldDoc::map(name, help, T::ty(), T::schema()));
        values
    }

    /// A table that somebody else knows the meaning of, as JSON; empty without it. What is wrong in it is reported
    /// with [`Reader::error`] at a dotted path (`config.words.1`).
    pub fn foreign_table(&mut self, name: &'static str, help: &'static str) -> Json {
        let entry = self.take(name);
        let value = match entry.and_then(|entry| self.expect_table(&entry.value).and(Some(entry))) {
            Some(entry) => entry.value.to_json(),
            None => Json::Object(Map::new()),
        };
        self.record(name, value.clone());
        self.document(|| {
            FieldDoc::value(name, help, "table".to_owned(), serde_json::json!({ "type": "object" }))
        });
        value
    }

    /// A table whose keys are the author's, each with a table of fields; empty without it.
    pub fn tables<T>(
        &mut self,
        name: &'static str,
        help: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> IndexMap<String, T> {
        let mut values = IndexMap::new();
        let mut all = Reading::default();
        if let Some(table) = self.take(name).and_then(|entry| self.expect_table(&entry.value)) {
            for (key, entry) in table {
                let Some(table) = self.expect_table(&entry.value) else { continue };
                let (value, inner) = self.nested(Some(table), entry.key_span, &mut read);
                all.absorb(key, inner);
                values.insert(key.clone(), value);
            }
        }
        all.canonical.sort_keys();
        self.absorb(name, all);
        if self.env.documenting {
            let (_, inner) = self.nested(None, self.span, &mut read);
            self.document(|| FieldDoc::table(name, help, inner.docs, FieldShape::Tables));
        }
        values
    }

    /// One of several sets of fields, chosen by a word in the same table: `kind = "adamw"`. `variants` are
    /// `(word, help, read)`; without the word the `default` holds, or the first variant with an error.
    pub fn variant<T>(
        &mut self,
        name: &'static str,
        help: &'static str,
        default: Option<&'static str>,
        variants: &[Variant<T>],
    ) -> T {
        let words: Vec<_> =
            variants.iter().enumerate().map(|(at, (word, help, _))| (*word, at, *help)).collect();
        if self.env.documenting {
            let docs = variants.iter().map(|(word, help, read)| {
                let (_, inner) = self.nested(None, self.span, read);
                (*word, *help, inner.docs)
            });
            let doc = FieldDoc::variant(name, help, default, docs.collect());
            self.reading.docs.push(doc);
        }
        let outer = std::mem::take(&mut self.reading.docs);
        let chosen = match default {
            Some(default) => self.choice(name, help, &words).or(default),
            None => self.choice(name, help, &words).required(),
        };
        let (_, _, read) = &variants[chosen];
        let value = read(self);
        self.reading.docs = outer;
        value
    }

    /// The model graph that this node names, if it names one. What is wrong with the name is already said.
    pub fn graph(&mut self, name: &'static str, help: &'static str) -> Option<GraphId> {
        self.take(name);
        self.left_out(name, "the structure of the model graph counts, not where it is written");
        self.document(|| FieldDoc::graph(name, help, false));
        self.graph
    }

    /// As [`Reader::graph`], and a missing key is an error.
    pub fn required_graph(&mut self, name: &'static str, help: &'static str) -> Option<GraphId> {
        if self.take(name).is_none() {
            self.missing(name, "model graph: a path, a name in `[graphs]` or a table");
        }
        self.left_out(name, "the structure of the model graph counts, not where it is written");
        self.document(|| FieldDoc::graph(name, help, true));
        self.graph
    }

    /// Reports a further mistake of a field, at its value; `name` may be a dotted path into it (`betas.1`).
    pub fn error(&mut self, name: &str, message: impl Into<String>, help: Option<&str>) {
        let value = self.table.and_then(|table| find(table, name));
        let diagnostic = Diagnostic::new(message).help(help.map(str::to_owned));
        let diagnostic = match value {
            Some(value) => diagnostic.at(value.span).related(value.via, "used here"),
            None => diagnostic.at(self.span),
        };
        self.push(diagnostic);
    }

    /// Whether the table has a key, read or not.
    pub fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Whether an empty table is read only to document the fields.
    pub fn is_documenting(&self) -> bool {
        self.env.documenting
    }

    /// Ends reading; keys that nobody read and that are not in `known` are errors.
    pub(crate) fn finish(mut self, known: &[&str]) -> Reading {
        let names: Vec<&str> = self.known.iter().copied().chain(known.iter().copied()).collect();
        for (key, entry) in self.table.into_iter().flatten() {
            if !names.contains(&key.as_str()) {
                let help = suggest::help(key, names.iter().copied());
                self.push(Diagnostic::new(format!("unknown key `{key}`")).at(entry.key_span).help(help));
            }
        }
        self.reading.canonical.sort_keys();
        self.reading
    }

    /// Reads a table inside this one.
    fn nested<T>(
        &self,
        table: Option<&'a Table>,
        span: Span,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> (T, Reading) {
        let mut reader = Reader::new(self.env, table, span);
        let value = read(&mut reader);
        (value, reader.finish(&[]))
    }

    /// The entry of a key, which from now on is known.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a Entry> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table.and_then(|table| table.get(name))
    }

    fn expect_table(&self, value: &'a Value) -> Option<&'a Table> {
        let table = value.as_table();
        if table.is_none() {
            let diagnostic = Diagnostic::new(format!("expected a table, found {}", value.found()));
            self.push(diagnostic.at(value.span).related(value.via, "used here"));
        }
        table
    }

    /// Adds what a nested table gave, under its name.
    fn absorb(&mut self, name: &str, inner: Reading) {
        self.reading.absorb(name, inner);
    }

    pub(super) fn record(&mut self, name: &str, value: Json) {
        self.reading.canonical.insert(name.to_owned(), value);
    }

    pub(super) fn left_out(&mut self, name: &str, reason: &'static str) {
        self.reading.left_out.push((name.to_owned(), reason));
    }

    pub(super) fn document(&mut self, doc: impl FnOnce() -> FieldDoc) {
        if self.env.documenting {
            self.reading.docs.push(doc());
        }
    }

    pub(super) fn missing(&self, name: &str, what: &str) {
        let diagnostic = Diagnostic::new(format!("missing key `{name}`")).at(self.span);
        self.env.problems.borrow_mut().absent(diagnostic.help(format!("add `{name}`, {}", article(what))));
    }

    pub(super) fn wrong(&self, name: &str, wrong: super::Wrong, value: &Value) {
        let message = format!("`{name}`: {}", wrong.message);
        self.push(Diagnostic::new(message).at(wrong.span).help(wrong.help).related(value.via, "used here"));
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.env.problems.borrow_mut().push(diagnostic);
    }

    /// Where something missing is reported.
    pub(super) fn span(&self) -> Span {
        self.span
    }
}

impl Reading {
    fn absorb(&mut self, name: &str, inner: Self) {
        self.canonical.insert(name.to_owned(), Json::Object(inner.canonical));
        self.left_out.extend(inner.left_out.into_iter().map(|(field, why)| (format!("{name}.{field}"), why)));
        self.files.extend(inner.files.into_iter().map(|(field, file)| (format!("{name}.{field}"), file)));
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The value at a dotted path, array positions as numbers; the deepest value on the way if it ends early.
fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut segments = path.split('.');
    let mut value = &table.get(segments.next()?)?.value;
    for segment in segments {
        let inner = match &value.kind {
            ValueKind::Table(table) => table.get(segment).map(|entry| &entry.value),
            ValueKind::Array(items) => segment.parse::<usize>().ok().and_then(|at| items.get(at)),
            _ => None,
        };
        match inner {
            Some(inner) => value = inner,
            None => break,
        }
    }
    Some(value)
}
