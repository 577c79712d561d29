//! [`Value`]: TOML with the place of every key and value, and the parser that makes it.
//!
//! Knows nothing of what the keys mean.

use indexmap::IndexMap;
use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    diagnostic::{Diagnostic, Problems},
    source::{SourceId, Sources, Span},
};

/// A value of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it is written.
    pub span: Span,
    /// Where `"${params.x}"` stood, if the value came from a parameter.
    pub via: Option<Span>,
}

/// The content of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a point or exponent.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// A table, in the order of the file.
    Table(Table),
}

/// Keys and values in the order of the file.
pub type Table = IndexMap<String, Entry>;

/// A value under its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the key is written.
    pub key_span: Span,
    /// The value.
    pub value: Value,
}

impl Value {
    /// A value at a place.
    pub fn new(kind: ValueKind, span: Span) -> Self {
        Self { kind, span, via: None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// What it is, with an article, for messages: `a string`.
    pub fn found(&self) -> &'static str {
        match self.kind {
            ValueKind::Bool(_) => "a boolean",
            ValueKind::Int(_) => "an integer",
            ValueKind::Float(_) => "a float",
            ValueKind::String(_) => "a string",
            ValueKind::Array(_) => "an array",
            ValueKind::Table(_) => "a table",
        }
    }

    /// The value without places. Numbers that JSON lacks (`nan`, `inf`) become strings.
    pub fn to_json(&self) -> Json {
        match &self.kind {
            ValueKind::Bool(value) => (*value).into(),
            ValueKind::Int(value) => (*value).into(),
            ValueKind::Float(value) => {
                serde_json::Number::from_f64(*value).map_or_else(|| value.to_string().into(), Json::Number)
            }
            ValueKind::String(text) => text.as_str().into(),
            ValueKind::Array(items) => items.iter().map(Self::to_json).collect(),
            ValueKind::Table(table) => table_json(table),
        }
    }

    /// How many values it is made of, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.kind {
            ValueKind::Array(items) => items.iter().map(Self::size).sum(),
            ValueKind::Table(table) => table.values().map(|entry| entry.value.size()).sum(),
            _ => 0,
        }
    }
}

/// A table without places, in its order.
pub fn table_json(table: &Table) -> Json {
    Json::Object(table.iter().map(|(key, entry)| (key.clone(), entry.value.to_json())).collect())
}

/// Reads one TOML text. Syntax errors are reported, all of them, and what could be understood is returned.
pub fn parse(source: SourceId, sources: &Sources, problems: &mut Problems) -> Table {
    let text = sources.text(source);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span { source, start: range.start, end: range.end };
        problems.gap(whole_lines(span, text), Diagnostic::new(lower(error.message())).at(span));
    }
    Converter { source, start: 0, problems }.table(document.into_inner())
}

/// Reads one TOML value that stands at byte `start` of a source; `Err` says why it is none.
pub fn parse_value(
    source: SourceId,
    start: usize,
    text: &str,
    problems: &mut Problems,
) -> Result<Value, Box<Diagnostic>> {
    let value = DeValue::parse(text).map_err(|error| {
        let range = error.span().unwrap_or(0..text.len());
        let span = Span { source, start: start + range.start, end: start + range.end };
        Box::new(Diagnostic::new(lower(error.message())).at(span))
    })?;
    Ok(Converter { source, start, problems }.value(value))
}

/// Messages begin in lower case here.
fn lower(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The lines that a span touches: nothing on them is known for sure.
fn whole_lines(span: Span, text: &str) -> Span {
    let bytes = text.as_bytes();
    let (start, end) = (span.start.min(bytes.len()), span.end.min(bytes.len()));
    let first = bytes[..start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let last = bytes[end..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| end + at);
    Span { source: span.source, start: first, end: last }
}

/// From the parser's values to ours.
struct Converter<'a> {
    source: SourceId,
    start: usize,
    problems: &'a mut Problems,
}

impl Converter<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { source: self.source, start: self.start + range.start, end: self.start + range.end }
    }

    /// The parser sorts keys; their places give the order of the file back.
    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut result = Table::with_capacity(entries.len());
        for (key, value) in entries {
            let key_span = self.span(key.span());
            result.insert(key.into_inner().into_owned(), Entry { key_span, value: self.value(value) });
        }
        result
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>) -> Value {
        let span = self.span(value.span());
        let kind = match value.into_inner() {
            DeValue::Boolean(value) => ValueKind::Bool(value),
            DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix()).map_or_else(
                |_| self.lost(span, "integer is out of range", "integers have 64 bits and a sign"),
                ValueKind::Int,
            ),
            DeValue::Float(value) => match value.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() || !value.as_str().contains(['e', 'E', '.']) => {
                    ValueKind::Float(number)
                }
                _ => self.lost(span, "float is out of range", "floats have 64 bits"),
            },
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            DeValue::Datetime(_) => {
                self.lost(span, "dates and times have no meaning here", "quote it to make it a string")
            }
            DeValue::Array(items) => {
                ValueKind::Array(items.into_iter().map(|item| self.value(item)).collect())
            }
            DeValue::Table(table) => ValueKind::Table(self.table(table)),
        };
        Value::new(kind, span)
    }

    /// Reports a value that cannot be kept; what stands in for it causes no further message.
    fn lost(&mut self, span: Span, message: &str, help: &str) -> ValueKind {
        self.problems.lost(span, Diagnostic::new(message).at(span).help(help.to_owned()));
        ValueKind::Bool(false)
    }
}
