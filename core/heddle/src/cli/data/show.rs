//! `heddle data show`: how many records, of what, the first of them, and what was skipped.

use std::collections::BTreeMap;

use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use heddle_data::{
    Footer, Manifest, ManifestError, Record,
    export::{captions_json, own_columns},
    record::FIXED_COLUMNS,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        args::{Common, DataShow},
        exit::{Exit, Failure},
        output,
    },
    Opened,
};
use crate::exec::NodeError;

/// Records that are shown where the user does not say.
const ROWS: usize = 3;
/// Skipped members that are named.
const SKIPPED: usize = 10;

/// Runs the command.
pub fn run(options: &DataShow, common: &Common) -> Result<Exit, Failure> {
    let opened = Opened::of(&options.of, common)?;
    let manifest = &opened.records.manifest;
    let wanted = options.rows.unwrap_or(if options.json { usize::MAX } else { ROWS });
    if options.json {
        for record in manifest.records().take(wanted) {
            output::result(&row(&record.map_err(NodeError::from)?).to_string());
        }
        return Ok(Exit::Done);
    }
    output::result(&summary(manifest).map_err(NodeError::from)?);
    for record in manifest.records().take(wanted) {
        output::result(&row(&record.map_err(NodeError::from)?).to_string());
    }
    let left = left_out(&manifest.footer);
    if !left.is_empty() {
        output::result(&left);
    }
    Ok(Exit::Done)
}

/// A record as JSON: its fields, its parts with their lengths, its columns.
fn row(record: &Record) -> Value {
    let parts: Map<String, Value> =
        record.parts.iter().map(|(name, part)| (name.clone(), part.len.into())).collect();
    let mut row = Map::new();
    row.insert("key".into(), record.key.as_str().into());
    row.insert("source".into(), record.source.as_str().into());
    row.insert("parts".into(), parts.into());
    if let Some(size) = record.size {
        row.insert("size".into(), json!(size));
    }
    row.insert("captions".into(), captions_json(&record.captions));
    row.extend(own_columns(record));
    // Control characters of the data never reach the terminal: JSON writes them out.
    Value::Object(row)
}

/// What a manifest holds, counted.
#[derive(Default)]
struct Counts {
    sources: BTreeMap<String, u64>,
    parts: BTreeMap<String, (u64, u64)>,
    languages: BTreeMap<String, u64>,
    captioned: u64,
    sized: u64,
    present: BTreeMap<String, u64>,
}

impl Counts {
    fn take(&mut self, manifest: &Manifest, batch: &RecordBatch) -> Result<(), ManifestError> {
        for record in manifest.records_of(batch)? {
            *self.sources.entry(record.source).or_default() += 1;
            for (name, part) in record.parts {
                let (count, bytes) = self.parts.entry(name).or_default();
                *count += 1;
                *bytes += part.len;
            }
            self.captioned += u64::from(!record.captions.is_empty());
            for caption in record.captions {
                *self.languages.entry(caption.language.unwrap_or_else(|| "unknown".into())).or_default() += 1;
            }
            self.sized += u64::from(record.size.is_some());
        }
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            *self.present.entry(field.name().clone()).or_default() += (column.len() - absent(column)) as u64;
        }
        Ok(())
    }
}

fn absent(column: &dyn Array) -> usize {
    column.logical_nulls().map_or(0, |nulls| nulls.null_count())
}

fn summary(manifest: &Manifest) -> Result<String, ManifestError> {
    let mut counts = Counts::default();
    for batch in manifest.batches() {
        counts.take(manifest, &batch?)?;
    }
    let mut table = table();
    let mut line = |name: &str, ty: &str, records: u64| {
        table.add_row([output::printable(name), ty.to_owned(), records.to_string()]);
    };
    line("records", "", manifest.len() as u64);
    counts.sources.iter().for_each(|(source, count)| line(source, "source", *count));
    for (name, (count, bytes)) in &counts.parts {
        line(name, &format!("part, {} kB", bytes.div_ceil(1000)), *count);
    }
    for (language, count) in &counts.languages {
        line(language, "language of captions", *count);
    }
    line("captions", "records with one", counts.captioned);
    line("width, height", "known", counts.sized);
    let own =
        manifest.schema().fields().iter().filter(|field| !FIXED_COLUMNS.contains(&field.name().as_str()));
    for field in own {
        line(
            field.name(),
            &type_name(field.data_type()),
            counts.present.get(field.name()).copied().unwrap_or(0),
        );
    }
    let shards: Vec<String> =
        manifest.footer.shards.iter().take(20).map(|shard| output::printable(&shard.name)).collect();
    let more = manifest.footer.shards.len().saturating_sub(shards.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut text = format!("{table}\nshards: {}{more}\n", shards.join(", "));
    for step in &manifest.footer.steps {
        let (came, stayed) = step.totals();
        text.push_str(&format!("{}: {stayed} of {came} kept\n", output::printable(&step.rule)));
    }
    Ok(text.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "", "records"]);
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A column's type in words.
fn type_name(ty: &DataType) -> String {
    match ty {
        DataType::Utf8 | DataType::LargeUtf8 => "text".into(),
        DataType::Boolean => "true or false".into(),
        DataType::Int64 | DataType::UInt64 | DataType::UInt32 | DataType::Int32 => "whole number".into(),
        DataType::Float64 | DataType::Float32 => "number".into(),
        DataType::Binary => "bytes".into(),
        DataType::Null => "nothing".into(),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let names: Vec<&str> = fields.iter().take(6).map(|field| field.name().as_str()).collect();
            let more = if fields.len() > names.len() { ", .." } else { "" };
            format!("object of {}{more}", output::printable(&names.join(", ")))
        }
        other => other.to_string(),
    }
}

/// What the sources skipped, by name.
fn left_out(footer: &Footer) -> String {
    let left = &footer.left;
    if left.count == 0 {
        return String::new();
    }
    let named: String = left
        .first
        .iter()
        .take(SKIPPED)
        .map(|skipped| format!("\n  {}", output::printable(&skipped.to_string())))
        .collect();
    let more = left.count.saturating_sub(SKIPPED as u64);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("skipped {}:{named}{more}", left.count)
}
