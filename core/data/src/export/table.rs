//! Tables of paths: a CSV, TSV or JSON-lines file and a folder of pictures.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Export, ExportError, Item, Names, captions_json, create, own_columns, write};

/// What a table is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableForm {
    /// Commas; lists and objects as JSON.
    Csv,
    /// Tabs, and no quotes: tabs and line breaks in values become spaces.
    Tsv,
    /// A JSON object a line.
    JsonLines,
}

/// `records.csv` (or `.tsv`, `.jsonl`) with columns `filepath`, `title` (the first caption), `captions`, and the data set's own;
/// pictures under `images/`. Holds the keys.
pub struct Table {
    folder: PathBuf,
    path: PathBuf,
    columns: Vec<String>,
    names: Names,
    rows: Rows,
    form: TableForm,
}

enum Rows {
    Separated(Box<csv::Writer<BufWriter<File>>>),
    JsonLines(BufWriter<File>),
}

const PATH: &str = "filepath";
const TITLE: &str = "title";
const CAPTIONS: &str = "captions";

impl Table {
    /// A table below `folder`; `columns` are the data set's own, in order.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn new(folder: &Path, form: TableForm, columns: &[String]) -> Result<Self, ExportError> {
        let name = match form {
            TableForm::Csv => "records.csv",
            TableForm::Tsv => "records.tsv",
            TableForm::JsonLines => "records.jsonl",
        };
        let path = folder.join(name);
        let separated = |delimiter| -> Result<Rows, ExportError> {
            // A table of tabs has no quotes: what would need them becomes a space.
            let quotes = if delimiter == b'\t' { csv::QuoteStyle::Never } else { csv::QuoteStyle::Necessary };
            let mut builder = csv::WriterBuilder::new();
            let writer = builder.delimiter(delimiter).quote_style(quotes).from_writer(create(&path)?);
            Ok(Rows::Separated(Box::new(writer)))
        };
        let mut rows = match form {
            TableForm::Csv => separated(b',')?,
            TableForm::Tsv => separated(b'\t')?,
            TableForm::JsonLines => Rows::JsonLines(create(&path)?),
        };
        let taken = |name: &&String| ![PATH, TITLE, CAPTIONS].contains(&name.as_str());
        let columns: Vec<String> = columns.iter().filter(taken).cloned().collect();
        if let Rows::Separated(writer) = &mut rows {
            let header = [PATH, TITLE, CAPTIONS].into_iter().chain(columns.iter().map(String::as_str));
            writer.write_record(header).map_err(|error| failed(&path, error.into()))?;
        }
        Ok(Self { folder: folder.to_owned(), path, columns, names: Names::default(), rows, form })
    }
}

impl Export for Table {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, bytes) = item.image()?;
        let name = format!("{}.{extension}", self.names.name(item.record));
        write(&self.folder.join("images").join(&name), bytes)?;
        let captions = &item.record.captions;
        let mut own = own_columns(item.record);
        let mut row = Map::from_iter([(PATH.to_owned(), Value::from(name))]);
        if let Some(first) = captions.first() {
            row.insert(TITLE.to_owned(), first.text.as_str().into());
            row.insert(CAPTIONS.to_owned(), captions_json(captions));
        }
        for column in &self.columns {
            if let Some(value) = own.shift_remove(column) {
                row.insert(column.clone(), value);
            }
        }
        let written = match &mut self.rows {
            Rows::JsonLines(file) => writeln!(file, "{}", Value::Object(row)),
            Rows::Separated(writer) => {
                let names =
                    [PATH, TITLE, CAPTIONS].into_iter().chain(self.columns.iter().map(String::as_str));
                let cell = |name| {
                    let text = row.get(name).map(cell).unwrap_or_default();
                    if self.form == TableForm::Tsv { text.replace(['\t', '\n', '\r'], " ") } else { text }
                };
                let cells = names.map(cell);
                writer.write_record(cells).map_err(std::io::Error::from)
            }
        };
        written.map_err(|error| failed(&self.path, error))
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        let flushed = match self.rows {
            Rows::JsonLines(mut file) => file.flush(),
            Rows::Separated(mut writer) => writer.flush(),
        };
        flushed.map_err(|error| failed(&self.path, error))
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn failed(path: &Path, error: std::io::Error) -> ExportError {
    ExportError::Io { path: path.to_owned(), error }
}
