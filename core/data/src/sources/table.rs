//! Tables with a picture's path in each row, as open_clip reads them: CSV, TSV or JSON lines.

use serde_json::{Map, Value};

use super::{AnnotationError, Found, Pictures};
use crate::record::{SkipReason, Skipped};

/// The form of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Values between commas, names in the first row.
    Csv,
    /// Values between tabs, names in the first row.
    Tsv,
    /// A JSON object a line.
    JsonLines,
}

impl TableKind {
    /// By a file's name: `.csv`, `.tsv`, `.jsonl` or `.ndjson`.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// A table that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The first row is no row of names.
    #[error(transparent)]
    Header(#[from] AnnotationError),
    /// There is no column with the path.
    #[error("there is no column `{column}`; there are {}", known.join(", "))]
    NoColumn {
        /// The column asked for.
        column: String,
        /// The columns of the first row.
        known: Vec<String>,
    },
}

/// A picture a row, with the other values as columns. Rows that do not read, and paths without a file, are named.
///
/// # Errors
/// [`TableError`] if the first row does not have the column with the path.
pub fn table<'a>(
    bytes: &'a [u8],
    kind: TableKind,
    name: &'a str,
    path_column: &'a str,
    pictures: &'a Pictures<'a>,
) -> Result<impl Iterator<Item = Found> + 'a, TableError> {
    let rows: Box<dyn Iterator<Item = Result<Map<String, Value>, Skipped>> + 'a> = match kind {
        TableKind::JsonLines => Box::new(json_rows(bytes, name)),
        TableKind::Csv => Box::new(separated_rows(bytes, b',', name, path_column)?),
        TableKind::Tsv => Box::new(separated_rows(bytes, b'\t', name, path_column)?),
    };
    Ok(table_rows(rows, name, path_column, pictures))
}

/// The same over rows that were read elsewhere.
pub fn table_rows<'a>(
    rows: impl Iterator<Item = Result<Map<String, Value>, Skipped>> + 'a,
    name: &'a str,
    path_column: &'a str,
    pictures: &'a Pictures<'a>,
) -> impl Iterator<Item = Found> + 'a {
    let records = rows.map(move |row| {
        let mut row = row?;
        match row.shift_remove(path_column) {
            Some(Value::String(path)) => pictures.named(&path, row, name),
            _ => Err(Skipped {
                shard: name.to_owned(),
                key: String::new(),
                member: name.to_owned(),
                reason: SkipReason::NoPath { column: path_column.to_owned() },
            }),
        }
    });
    pictures.broken().chain(records)
}

fn json_rows<'a>(
    bytes: &'a [u8],
    name: &'a str,
) -> impl Iterator<Item = Result<Map<String, Value>, Skipped>> + 'a {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(move |(index, line)| {
        serde_json::from_slice(line).map_err(|error: serde_json::Error| {
            let reason = SkipReason::InvalidJson {
                line: index + 1,
                column: error.column(),
                message: error.to_string(),
            };
            Skipped { shard: name.to_owned(), key: String::new(), member: name.to_owned(), reason }
        })
    })
}

fn separated_rows<'a>(
    bytes: &'a [u8],
    separator: u8,
    name: &'a str,
    path_column: &'a str,
) -> Result<impl Iterator<Item = Result<Map<String, Value>, Skipped>> + 'a, TableError> {
    // Tabs need no quotes, and captions have them.
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).quoting(separator == b',').from_reader(bytes);
    let wrong = |error: csv::Error| AnnotationError { line: 1, column: 1, message: error.to_string() };
    let header = reader.headers().map_err(wrong)?.clone();
    if !header.iter().any(|column| column == path_column) {
        let known = header.iter().map(str::to_owned).collect();
        return Err(TableError::NoColumn { column: path_column.to_owned(), known });
    }
    Ok(reader.into_records().map(move |row| {
        let row = row.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            let reason = SkipReason::InvalidRow { line, message: error.to_string() };
            Skipped { shard: name.to_owned(), key: String::new(), member: name.to_owned(), reason }
        })?;
        let cell =
            |(column, text): (&str, &str)| (!text.is_empty()).then(|| (column.to_owned(), value(text)));
        let mut columns: Map<String, Value> = header.iter().zip(row.iter()).filter_map(cell).collect();
        // A path of digits is still a path.
        if let Some(place) = header.iter().position(|column| column == path_column)
            && let Some(path) = row.get(place)
        {
            columns.insert(header[place].to_owned(), path.into());
        }
        Ok(columns)
    }))
}

/// A number, if it is written as numbers are; else text (`007` is text).
fn value(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return number.into();
    }
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e' | b'E' | b'+'));
    match text.parse::<f64>() {
        Ok(number) if plain && number.is_finite() && text.contains('.') && !text.starts_with("00") => {
            number.into()
        }
        _ => text.into(),
    }
}
