//! `data.table`: pictures whose paths are in a table.

use heddle_data::sources::{TableKind, table, table_rows};
use heddle_graph::{config::Reader, graph::KindSpec};

use super::{
    parquet::{broken_row, open_parquet},
    pictures::{Opened, read_pictures},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct Table {
    path_column: String,
    form: Option<Form>,
}

/// What a table is written in.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text(TableKind),
    Parquet,
}

impl Form {
    fn of(name: &str) -> Option<Self> {
        let parquet = name.to_ascii_lowercase().ends_with(".parquet").then_some(Self::Parquet);
        parquet.or_else(|| TableKind::of(name).map(Self::Text))
    }
}

impl Format for Table {
    const SPEC: KindSpec = KindSpec {
        name: "data.table",
        version: 1,
        summary: "pictures whose paths are in a table",
        details: "CSV, TSV, JSON lines or parquet (by the file's ending, or `format`), a picture a row, as open_clip reads them. The path \
                  is below `folder`; all other values are columns, and `captions = { en = \"title\" }` says which are \
                  captions. Rows that do not read and paths without a file are skipped, up to `max-bad` of them.",
        example: "[nodes.pictures]\nkind = \"data.table\"\nfile = \"pairs.csv\"\nfolder = \"images\"\ncaptions = { und = \"title\" }\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let file = r.file("file", "the table").required();
        read_pictures(r);
        let path_column: String = r.field("path", "column with the picture's path").or("filepath".to_owned());
        let format = r
            .choice(
                "format",
                "form of the table; default: by the file's ending",
                &[
                    ("csv", Some(Form::Text(TableKind::Csv)), "commas, names in the first row"),
                    ("tsv", Some(Form::Text(TableKind::Tsv)), "tabs, names in the first row"),
                    ("jsonl", Some(Form::Text(TableKind::JsonLines)), "a JSON object a line"),
                    ("parquet", Some(Form::Parquet), "parquet, paths in a column of text"),
                    ("by-name", None, "`.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet`"),
                ],
            )
            .or("by-name");
        let form = format.or_else(|| Form::of(&file.path));
        if form.is_none() && !file.path.is_empty() {
            r.error(
                "file",
                "the file's ending does not say what it is",
                Some("set `format`: csv, tsv, jsonl or parquet"),
            );
        }
        Self { path_column, form }
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let form = self.form.ok_or_else(|| NodeError::Other("the table's form is not known".into()))?;
        let opened = Opened::open(cx, sink)?;
        let pictures = opened.pictures()?;
        match form {
            Form::Text(kind) => {
                let file = cx.files("file").first();
                let file = file.ok_or_else(|| NodeError::Other("the node names no table".into()))?;
                // Mapped: a table may be larger than memory.
                let text = cx.library.shard(&file.digest, "table")?;
                sink.take(
                    table(text.as_bytes(), kind, "table", &self.path_column, &pictures)
                        .map_err(not_a_table)?,
                )
            }
            Form::Parquet => {
                let table = open_parquet(cx, cx.files("file").first())?;
                table.require(&[&self.path_column]).map_err(not_a_table)?;
                let rows = table.rows(None).map_err(not_a_table)?;
                // A file that breaks in its middle is named once, and ends.
                let rows =
                    rows.map(|row| row.map(|row| row.columns).map_err(|error| broken_row("table", &error)));
                sink.take(table_rows(rows, "table", &self.path_column, &pictures))
            }
        }
    }
}

fn not_a_table(error: impl std::fmt::Display) -> NodeError {
    NodeError::Other(format!("the table does not read: {error}"))
}
