//! Variants side by side: a row a cell, columns for what they change and for what came out.

use comfy_table::{CellAlignment, Table, presets};
use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use serde_json::Value as Json;

use super::super::{exit::Failure, explain::duration, metrics};
use crate::exec::{CellKind, CellState, GroupRecord, RunsDir, short_keys};

/// One cell with its results.
#[derive(Serialize)]
pub struct Row {
    /// What it is.
    pub kind: CellKind,
    /// The name of the ablation or sweep.
    pub name: String,
    /// Its run.
    pub run: Option<String>,
    /// How it stands.
    pub state: CellState,
    /// Wall time of its run, seconds.
    pub seconds: f64,
    /// What it changes on the base.
    pub overrides: IndexMap<String, Json>,
    /// The value of every key that some cell changes; none if its configuration does not have the key.
    #[serde(skip)]
    pub values: Vec<Option<Json>>,
    /// What came out.
    pub metrics: IndexMap<String, f64>,
}

/// The cells of a set.
pub struct Cells {
    /// The keys that some cell changes.
    pub keys: Vec<String>,
    /// The metrics that a table shows.
    pub shown: Vec<String>,
    /// How many metrics it does not show.
    pub left_out: usize,
    /// The cells.
    pub rows: Vec<Row>,
}

/// Text in a cell of the terminal's table.
const WIDTH: usize = 24;

impl Cells {
    /// The cells of a set with the results of their last runs.
    pub fn of(group: &GroupRecord, runs: &RunsDir, asked: &[String]) -> Self {
        let keys: IndexSet<&String> =
            group.cells.iter().flat_map(|entry| entry.cell.overrides.keys()).collect();
        let mut rows = Vec::new();
        for entry in &group.cells {
            let record = entry.run.as_ref().and_then(|id| runs.read(id).ok());
            let value = |key: &&String| {
                let own = entry.cell.overrides.get(*key).cloned();
                own.or_else(|| record.as_ref().and_then(|record| at(&record.config, key)).cloned())
            };
            rows.push(Row {
                kind: entry.cell.kind,
                name: entry.cell.name.clone(),
                run: entry.run.clone(),
                state: entry.state,
                seconds: record.as_ref().map_or(0.0, |record| record.seconds),
                overrides: entry.cell.overrides.clone(),
                values: keys.iter().map(value).collect(),
                metrics: record.as_ref().map(metrics::of).unwrap_or_default(),
            });
        }
        let numbers: Vec<&IndexMap<String, f64>> = rows.iter().map(|row| &row.metrics).collect();
        let shown = metrics::choose(&numbers, asked);
        let all: IndexSet<&String> = numbers.iter().flat_map(|row| row.keys()).collect();
        let left_out = all.len() - shown.len();
        Self { keys: keys.into_iter().cloned().collect(), shown, left_out, rows }
    }

    /// As the terminal shows it; metrics are written downwards, so that their columns are narrow.
    pub fn text(&self) -> String {
        let mut header = vec!["cell".to_owned()];
        header.extend(short_keys(&self.keys));
        header.extend(["state", "time"].map(str::to_owned));
        header.extend(self.shown.iter().map(|name| name.replace('/', "\n")));
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        for row in &self.rows {
            let time = if row.seconds > 0.0 { duration(row.seconds) } else { String::new() };
            table.add_row(self.words(row, WIDTH, [row.state.word().to_owned(), time]));
        }
        for column in table.column_iter_mut().skip(1 + self.keys.len() + 1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let escaped = |text: &str| text.replace('|', "\\|");
        let line = |cells: Vec<String>| {
            let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut header = vec!["cell".to_owned()];
        header.extend(self.keys.iter().map(|key| format!("`{key}`")));
        header.push("state".to_owned());
        header.extend(self.shown.iter().cloned());
        let mut rule = vec!["---"; 2 + self.keys.len()];
        rule.extend(vec!["---:"; self.shown.len()]);
        let mut text = line(header) + &format!("|{}|\n", rule.join("|"));
        for row in &self.rows {
            text.push_str(&line(self.words(row, usize::MAX, [row.state.word().to_owned()])));
        }
        text
    }

    /// As CSV, with all metrics and unshortened numbers.
    pub fn csv(&self) -> Result<String, Failure> {
        let failed = |error: String| Failure::Other(format!("csv: {error}"));
        let all: IndexSet<&String> = self.rows.iter().flat_map(|row| row.metrics.keys()).collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = ["cell", "run", "state", "seconds"].into_iter();
        let header = header.chain(self.keys.iter().map(String::as_str));
        let header = header.chain(all.iter().map(|name| name.as_str()));
        writer.write_record(header).map_err(|error| failed(error.to_string()))?;
        for row in &self.rows {
            let mut cells = vec![
                row.name.clone(),
                row.run.clone().unwrap_or_default(),
                row.state.word().to_owned(),
                format!("{:.3}", row.seconds),
            ];
            cells.extend(row.values.iter().map(|value| said(value.as_ref(), usize::MAX, "")));
            let number = |name: &&String| row.metrics.get(*name).map(f64::to_string).unwrap_or_default();
            cells.extend(all.iter().map(number));
            writer.write_record(cells).map_err(|error| failed(error.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
    }

    /// A row: name, values, what stands between, metrics.
    fn words<const N: usize>(&self, row: &Row, width: usize, between: [String; N]) -> Vec<String> {
        let values = row.values.iter().map(|value| said(value.as_ref(), width, "-"));
        let numbers = self.shown.iter().map(|name| metrics::show(name, row.metrics.get(name).copied()));
        std::iter::once(row.name.clone()).chain(values).chain(between).chain(numbers).collect()
    }
}

/// A value as a table has it.
fn said(value: Option<&Json>, width: usize, nothing: &str) -> String {
    let text = match value {
        None => return nothing.to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// The value of a key in a configuration. A name may hold dots, so the longest one that is there leads on.
pub fn at<'a>(config: &'a Json, key: &str) -> Option<&'a Json> {
    if let Some(value) = config.get(key) {
        return Some(value);
    }
    let ends = key.match_indices('.').map(|(end, _)| end).rev();
    ends.filter_map(|end| at(config.get(&key[..end])?, &key[end + 1..])).next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_under_names_with_dots() {
        let config = json!({ "nodes": { "a.b": { "lr": 1 }, "a": { "lr": 2 } } });
        assert_eq!(at(&config, "nodes.a.b.lr"), Some(&json!(1)));
        assert_eq!(at(&config, "nodes.a.lr"), Some(&json!(2)));
        assert_eq!(at(&config, "nodes.c.lr"), None);
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(said(Some(&json!("abcdef")), 4, "-"), "abc…");
        assert_eq!(said(Some(&json!([1, 2])), 24, "-"), "[1,2]");
        assert_eq!(said(None, 4, "-"), "-");
    }
}
