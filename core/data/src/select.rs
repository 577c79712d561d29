//! Choosing records: filters on columns, a joined side table, a limit.
//!
//! Records enter a [`Select`] one by one; those that are kept leave, wider where a table is joined. Bytes are never
//! looked at.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use crate::record::Record;

/// A selection or a side table that makes no sense for the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No record has the column.
    #[error("no record has a column `{column}`; there are {}", known.join(", "))]
    NoColumn {
        /// The column asked for.
        column: String,
        /// The columns that some record has, sorted.
        known: Vec<String>,
    },
    /// A line of a side table is no JSON object.
    #[error("line {line} of the side table is not a JSON object: {message}")]
    TableLine {
        /// Line number, from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A row of a side table lacks the column that it is joined on.
    #[error("line {line} of the side table has no column `{column}`")]
    NoKeyColumn {
        /// Line number, from 1.
        line: usize,
        /// The column joined on.
        column: String,
    },
    /// Two rows of a side table have the same key.
    #[error("line {line} of the side table repeats `{key}`")]
    RepeatedKey {
        /// Line number, from 1.
        line: usize,
        /// The key, as JSON.
        key: String,
    },
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The column, or a path into one (`captions.en`).
    pub column: String,
    /// The record passes if its value equals one of these.
    pub any_of: Vec<Value>,
}

impl Filter {
    /// Equality with a value, or with any element where the value is a list.
    pub fn new(column: impl Into<String>, value: Value) -> Self {
        let any_of = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        Self { column: column.into(), any_of }
    }

    fn passes(&self, record: &Record) -> bool {
        record.column(&self.column).is_some_and(|value| self.any_of.contains(value))
    }
}

/// Which records to keep; the steps apply in the order of the fields. Records pass through [`Select::apply`] one by
/// one, [`Select::finish`] says whether every column that was asked for existed.
#[derive(Debug, Default)]
pub struct Select {
    /// A side table whose columns are added first, so that filters see them.
    pub join: Option<Join>,
    /// Conditions that all must hold.
    pub filters: Vec<Filter>,
    /// Keep at most this many records, from the front.
    pub limit: Option<usize>,
    kept: usize,
    /// Columns of the records so far.
    known: BTreeSet<String>,
    /// Columns asked for that some record had.
    found: BTreeSet<String>,
    came: u64,
}

/// Rows of a JSON-lines table by the value of one column.
#[derive(Debug, Clone)]
pub struct Join {
    on: String,
    rows: HashMap<String, Map<String, Value>>,
}

impl Join {
    /// Reads a JSON-lines table; empty lines are ignored.
    ///
    /// # Errors
    /// [`SelectError`] names the first bad line.
    pub fn from_jsonl(on: impl Into<String>, table: &[u8]) -> Result<Self, SelectError> {
        let mut join = Self { on: on.into(), rows: HashMap::new() };
        for (index, line) in table.split(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                join.add_row(index + 1, line)?;
            }
        }
        Ok(join)
    }

    fn add_row(&mut self, line: usize, text: &[u8]) -> Result<(), SelectError> {
        let row: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| SelectError::TableLine { line, message: error.to_string() })?;
        let key = row
            .get(&self.on)
            .ok_or_else(|| SelectError::NoKeyColumn { line, column: self.on.clone() })?
            .to_string();
        match self.rows.insert(key.clone(), row) {
            Some(_) => Err(SelectError::RepeatedKey { line, key }),
            None => Ok(()),
        }
    }

    /// The row that belongs to a record.
    pub fn row(&self, record: &Record) -> Option<&Map<String, Value>> {
        self.rows.get(&record.column(&self.on)?.to_string())
    }

    /// All rows, in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.rows.values()
    }

    fn widen(&self, record: &mut Record) {
        let Some(row) = self.row(record).cloned() else { return };
        for (name, value) in row {
            // A record's own column wins: it is closer to the image.
            record.columns.entry(name).or_insert(value);
        }
    }
}

impl Select {
    /// A selection.
    pub fn new(join: Option<Join>, filters: Vec<Filter>, limit: Option<usize>) -> Self {
        Self { join, filters, limit, ..Self::default() }
    }

    /// The record with joined columns, if it is kept.
    pub fn apply(&mut self, mut record: Record) -> Option<Record> {
        self.came += 1;
        if let Some(join) = &self.join {
            if record.column(&join.on).is_some() {
                note(&mut self.found, &join.on);
            }
            join.widen(&mut record);
        }
        for name in record.columns.keys() {
            note(&mut self.known, name);
        }
        for filter in &self.filters {
            if record.column(&filter.column).is_some() {
                note(&mut self.found, &filter.column);
            }
        }
        let kept = self.filters.iter().all(|filter| filter.passes(&record));
        if !kept || self.is_full() {
            return None;
        }
        self.kept += 1;
        Some(record)
    }

    /// Whether the limit is reached: no record that comes is kept.
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.kept >= limit)
    }

    /// To be called behind the last record.
    ///
    /// # Errors
    /// [`SelectError::NoColumn`] if a filter or the join names a column that no record has.
    pub fn finish(self) -> Result<(), SelectError> {
        let joined = self.join.iter().map(|join| &join.on);
        let asked = joined.chain(self.filters.iter().map(|filter| &filter.column));
        match asked.into_iter().find(|column| self.came > 0 && !self.found.contains(*column)) {
            None => Ok(()),
            Some(column) => Err(SelectError::NoColumn {
                column: column.clone(),
                known: self.known.iter().cloned().collect(),
            }),
        }
    }
}

/// Adds a name without a copy if it is there already.
fn note(names: &mut BTreeSet<String>, name: &str) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}
