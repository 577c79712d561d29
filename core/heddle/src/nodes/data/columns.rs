//! Columns of a record as text.

use heddle_data::Record;
use serde_json::Value as Json;

/// A column's value as text: a string as it is, a number or truth value as written; none if absent or a container.
pub fn column_text(record: &Record, column: &str) -> Option<String> {
    plain(record.column(column)?)
}

/// All texts of a column: one for a plain value, each of a list.
pub fn column_texts(record: &Record, column: &str) -> Vec<String> {
    match record.column(column) {
        Some(Json::Array(items)) => items.iter().filter_map(plain).collect(),
        Some(value) => plain(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn plain(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
