//! Columns of labelled records as evaluations read them.

use heddle_data::Record;
use indexmap::IndexMap;

use crate::{exec::NodeError, nodes::data::column_text};

/// Records by split, each with its place, in the order of the records.
pub type Splits<'a> = IndexMap<String, Vec<(usize, &'a Record)>>;

/// The records that pass, by split.
pub fn by_split(records: &[Record], pass: impl Fn(usize, &Record) -> bool) -> Splits<'_> {
    let mut splits = Splits::new();
    for (index, record) in records.iter().enumerate().filter(|(index, record)| pass(*index, record)) {
        let split = column_text(record, "split").unwrap_or_default();
        splits.entry(split).or_default().push((index, record));
    }
    splits
}

/// The text of a record in one language.
pub fn name_in(record: &Record, language: &str) -> Result<String, NodeError> {
    column_text(record, language)
        .ok_or_else(|| NodeError::Other(format!("record `{}` has no text column `{language}`", record.key)))
}

/// Fails with the known columns if no record has this one.
pub fn require_column(records: &[Record], column: &str) -> Result<(), NodeError> {
    if records.iter().any(|record| record.column(column).is_some()) {
        return Ok(());
    }
    let mut known: Vec<&String> = records.iter().flat_map(|record| record.columns.keys()).collect();
    known.sort();
    known.dedup();
    let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    Err(NodeError::Other(format!("no record has a column `{column}`; there are {}", known.join(", "))))
}
