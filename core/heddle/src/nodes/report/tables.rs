//! Measurements as tables for people and as CSV.

use comfy_table::{CellAlignment, Table, presets};
use indexmap::{IndexMap, IndexSet};

use crate::{
    exec::NodeError,
    nodes::eval::{Measurement, Metrics},
};

/// The report as the terminal shows it.
pub fn text(
    title: &str,
    measurements: &[Measurement],
    stages: &[(String, Metrics)],
    notes: &[String],
) -> String {
    let mut parts = Vec::new();
    if !title.is_empty() {
        parts.push(title.to_owned());
    }
    if !stages.is_empty() {
        parts.push(format!("Training\n{}", training(stages)));
    }
    let of = |evaluation: &str| -> Vec<&Measurement> {
        measurements.iter().filter(|measurement| measurement.evaluation == evaluation).collect()
    };
    let (zero_shot, floor, retrieval) = (of("zero-shot"), of("pixel-floor"), of("retrieval"));
    if !zero_shot.is_empty() {
        let heading = "Zero-shot classification, per cent (floor: nearest training picture on raw pixels)";
        parts.push(format!("{heading}\n{}", accuracies(&zero_shot, &floor)));
    } else if !floor.is_empty() {
        parts.push(format!("Pixel floor, per cent\n{}", accuracies(&floor, &[])));
    }
    if !retrieval.is_empty() {
        parts.push(format!("Retrieval, per cent of queries\n{}", by_metric(&retrieval, "pairs")));
    }
    let known = ["zero-shot", "pixel-floor", "retrieval"];
    let others: IndexSet<&str> = measurements.iter().map(|m| m.evaluation.as_str()).collect();
    for evaluation in others.into_iter().filter(|evaluation| !known.contains(evaluation)) {
        parts.push(format!("{}\n{}", title_of(evaluation), by_metric(&of(evaluation), "n")));
    }
    parts.extend(notes.iter().map(|note| format!("note: {note}")));
    parts.join("\n\n") + "\n"
}

/// One row a measurement.
pub fn csv(measurements: &[Measurement]) -> Result<Vec<u8>, NodeError> {
    let failed = |error: csv::Error| NodeError::Other(format!("csv: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "source",
            "evaluation",
            "task",
            "split",
            "language",
            "metric",
            "value",
            "n",
            "candidates",
        ])
        .map_err(failed)?;
    for m in measurements {
        let (value, n, candidates) = (m.value.to_string(), m.n.to_string(), m.candidates.to_string());
        writer
            .write_record([
                &m.source,
                &m.evaluation,
                &m.task,
                &m.split,
                &m.language,
                &m.metric,
                &value,
                &n,
                &candidates,
            ])
            .map_err(failed)?;
    }
    writer.into_inner().map_err(|error| NodeError::Other(format!("csv: {error}")))
}

fn training(stages: &[(String, Metrics)]) -> String {
    let mut table = table(["stage", "steps", "samples", "loss", "lr"].map(str::to_owned).to_vec(), 1);
    for (name, metrics) in stages {
        if let Some(last) = metrics.curve.last() {
            table.add_row([
                name.clone(),
                last.step.to_string(),
                last.samples.to_string(),
                format!("{:.3}", last.loss),
                format!("{:.1e}", last.lr),
            ]);
        }
    }
    table.to_string()
}

/// Rows: split and task. Columns: the floor, then top-1 by language; with one language all its metrics.
fn accuracies(measurements: &[&Measurement], floor: &[&Measurement]) -> String {
    let languages: IndexSet<&str> = measurements.iter().map(|m| m.language.as_str()).collect();
    let metrics: IndexSet<&str> = if languages.len() > 1 {
        IndexSet::from(["top-1"])
    } else {
        measurements.iter().map(|m| m.metric.as_str()).collect()
    };
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for metric in &metrics {
        columns.extend(languages.iter().map(|language| (*metric, *language)));
    }
    let mut header = heading(measurements, &["split", "task", "n", "classes"]);
    if !floor.is_empty() {
        header.push("floor".into());
    }
    header.extend(columns.iter().map(|(metric, language)| format!("{metric} {language}").trim().to_owned()));
    let mut rows: IndexMap<(&str, &str, &str), Vec<&Measurement>> = IndexMap::new();
    for m in measurements {
        rows.entry((&m.source, &m.split, &m.task)).or_default().push(m);
    }
    let sourced = header[0] == SOURCE;
    let mut table = table(header, 2 + usize::from(sourced));
    for ((source, split, task), row) in rows {
        let mut cells = if sourced { vec![source.to_owned()] } else { Vec::new() };
        cells.extend([split, task].map(str::to_owned));
        cells.extend([row[0].n.to_string(), row[0].candidates.to_string()]);
        if !floor.is_empty() {
            let found = floor.iter().find(|m| m.split == split && m.task == task);
            cells.push(found.map_or("-".to_owned(), |m| format!("{:.1}", m.value)));
        }
        for (metric, language) in &columns {
            let found = row.iter().find(|m| m.metric == *metric && m.language == *language);
            cells.push(found.map_or("-".to_owned(), |m| format!("{:.1}", m.value)));
        }
        table.add_row(cells);
    }
    table.to_string()
}

/// What stands above the table of an evaluation.
fn title_of(evaluation: &str) -> &str {
    match evaluation {
        "matching" => "Matching of images and texts, per cent",
        "caption" => "Captions (CIDEr x 100; equal to a reference, per cent)",
        other => other,
    }
}

/// Rows: split and language. Columns: how many there are, then the metrics, such as R@K both ways.
fn by_metric(measurements: &[&Measurement], count: &str) -> String {
    let metrics: IndexSet<&str> = measurements.iter().map(|m| m.metric.as_str()).collect();
    let mut header = heading(measurements, &["split", "language", count]);
    header.extend(metrics.iter().map(|metric| (*metric).to_owned()));
    let mut rows: IndexMap<(&str, &str, &str), Vec<&Measurement>> = IndexMap::new();
    for m in measurements {
        rows.entry((&m.source, &m.split, &m.language)).or_default().push(m);
    }
    // By split first, whatever order the evaluation went in.
    rows.sort_by(|a, _, b, _| (a.0, a.1).cmp(&(b.0, b.1)));
    let sourced = header[0] == SOURCE;
    let mut table = table(header, 2 + usize::from(sourced));
    for ((source, split, language), row) in rows {
        let mut cells = if sourced { vec![source.to_owned()] } else { Vec::new() };
        cells.extend([split, language].map(str::to_owned));
        cells.push(row[0].n.to_string());
        for metric in &metrics {
            let found = row.iter().find(|m| m.metric == *metric);
            cells.push(found.map_or("-".to_owned(), |m| format!("{:.1}", m.value)));
        }
        table.add_row(cells);
    }
    table.to_string()
}

/// Heading of the column that tells inputs apart; it is there only where inputs have names.
const SOURCE: &str = "input";

fn heading(measurements: &[&Measurement], columns: &[&str]) -> Vec<String> {
    let named = measurements.iter().any(|m| !m.source.is_empty());
    let source = if named { Some(SOURCE) } else { None };
    source.into_iter().chain(columns.iter().copied()).map(str::to_owned).collect()
}

/// A plain table; the first `words` columns are text, the rest numbers.
fn table(header: Vec<String>, words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        let side = if index < words { CellAlignment::Left } else { CellAlignment::Right };
        column.set_cell_alignment(side);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(evaluation: &str, task: &str, language: &str, metric: &str, value: f64) -> Measurement {
        Measurement {
            metric: metric.into(),
            value,
            n: 500,
            ..Measurement::of(evaluation, task, "test-id", language, 1229)
        }
    }

    #[test]
    fn the_floor_stands_beside_the_accuracy() {
        let measurements = [
            measurement("zero-shot", "concept", "en", "top-1", 12.6),
            measurement("zero-shot", "concept", "zh", "top-1", 12.4),
            measurement("zero-shot", "concept", "zh", "top-5", 30.0),
            measurement("pixel-floor", "concept", "", "top-1", 30.0),
            measurement("retrieval", "", "en", "i2t R@1", 5.0),
            measurement("retrieval", "", "en", "t2i R@1", 6.0),
        ];
        insta::assert_snapshot!(text("quickstart", &measurements, &[], &["2 records were skipped".into()]));
    }

    #[test]
    fn csv_has_a_row_a_measurement() {
        let bytes = csv(&[measurement("zero-shot", "concept", "en", "top-1", 12.5)]).expect("in memory");
        insta::assert_snapshot!(String::from_utf8(bytes).expect("text"));
    }
}
