//! Choosing records: filters on columns, a joined side table, a limit.
//!
//! A [`Manifest`] and a [`Select`] enter, a smaller or wider manifest leaves; order is kept. Bytes are never
//! looked at.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use crate::{manifest::Manifest, record::Record};

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

/// Which records to keep; the steps apply in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// A side table whose columns are added first, so that filters see them.
    pub join: Option<Join>,
    /// Conditions that all must hold.
    pub filters: Vec<Filter>,
    /// Keep at most this many records, from the front.
    pub limit: Option<usize>,
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

impl Manifest {
    /// The records that a selection keeps, with joined columns. Shards and skipped members stay listed.
    ///
    /// # Errors
    /// [`SelectError::NoColumn`] if a filter or the join names a column that no record has.
    pub fn select(&self, select: &Select) -> Result<Self, SelectError> {
        let mut records = self.records.clone();
        if let Some(join) = &select.join {
            require_column(&records, &join.on)?;
            records.iter_mut().for_each(|record| join.widen(record));
        }
        for filter in &select.filters {
            require_column(&records, &filter.column)?;
        }
        records.retain(|record| select.filters.iter().all(|filter| filter.passes(record)));
        records.truncate(select.limit.unwrap_or(usize::MAX));
        Ok(Self { records, shards: self.shards.clone(), skipped: self.skipped.clone() })
    }
}

fn require_column(records: &[Record], column: &str) -> Result<(), SelectError> {
    if records.is_empty() || records.iter().any(|record| record.column(column).is_some()) {
        return Ok(());
    }
    let known: BTreeSet<&String> = records.iter().flat_map(|record| record.columns.keys()).collect();
    Err(SelectError::NoColumn { column: column.into(), known: known.into_iter().cloned().collect() })
}
