//! Ablations and sweeps: named deltas on one base, and products of them.
//!
//! A delta is a table of quoted key paths (`"nodes.stage2.in" = "pairs"`, which sets the key) or of nested tables
//! (`nodes.stage2.in = "pairs"`, which sets every key inside).

use indexmap::IndexMap;

use super::{
    overrides::{Override, split_key, unknown_target},
    value::{Entry, Table, Value, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    source::Span,
    suggest,
};

/// The most cells of one sweep.
pub const MAX_CELLS: usize = 10_000;

/// The top-level keys that a delta may change.
const CHANGEABLE: [&str; 6] = ["nodes", "params", "graphs", "seed", "run", "cache"];

/// The keys of a sweep.
const SWEEP_KEYS: [&str; 4] = ["grid", "zip", "list", "exclude"];

/// One point of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What distinguishes it, as `nodes.stage2.optimizer.lr=0.001`.
    pub label: String,
    /// The changes on the base.
    pub overrides: Vec<Override>,
}

/// Reads `[ablations]`.
pub(crate) fn read_ablations(
    root: &Table,
    ablations: &Table,
    problems: &mut Problems,
) -> IndexMap<String, Vec<Override>> {
    let read = |(name, entry): (&String, &Entry)| (name.clone(), delta(root, &entry.value, problems));
    ablations.iter().map(read).collect()
}

/// Reads `[sweeps]`.
pub(crate) fn read_sweeps(
    root: &Table,
    sweeps: &Table,
    problems: &mut Problems,
) -> IndexMap<String, Vec<Cell>> {
    let mut read = IndexMap::new();
    for (name, entry) in sweeps {
        if let Some(cells) = read_sweep(root, &entry.value, entry.key_span, problems) {
            read.insert(name.clone(), cells);
        }
    }
    read
}

/// `grid x zip x list` without what `exclude` removes.
fn read_sweep(root: &Table, value: &Value, at: Span, problems: &mut Problems) -> Option<Vec<Cell>> {
    let Some(table) = value.as_table() else {
        problems.push(Diagnostic::new(format!("a sweep is a table, found {}", value.found())).at(value.span));
        return None;
    };
    for (key, entry) in table.iter().filter(|(key, _)| !SWEEP_KEYS.contains(&key.as_str())) {
        let help = suggest::help(key, SWEEP_KEYS);
        problems
            .push(Diagnostic::new(format!("unknown key `{key}` of a sweep")).at(entry.key_span).help(help));
    }
    let before = problems.raised();
    let axes = axes(root, table, problems);
    let exclude = table.get("exclude").map(|entry| deltas(root, &entry.value, problems)).unwrap_or_default();
    if problems.raised() > before {
        return None;
    }
    if axes.is_empty() {
        let help = "add `grid`, `zip` or `list`".to_owned();
        problems.absent(Diagnostic::new("the sweep has no cells").at(at).help(help));
        return None;
    }
    let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.len()));
    if count.is_none_or(|count| count > MAX_CELLS) {
        let count = count.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        problems.push(
            Diagnostic::new(format!("the sweep has {count} cells, at most {MAX_CELLS} are allowed")).at(at),
        );
        return None;
    }
    check_exclude(&axes, &exclude, problems);
    let cells: Vec<Vec<Override>> = product(&axes);
    let kept: Vec<Cell> = cells
        .into_iter()
        .filter(|cell| !exclude.iter().any(|pairs| holds(cell, pairs)))
        .map(Cell::new)
        .collect();
    if kept.is_empty() {
        problems.push(Diagnostic::new("`exclude` removes every cell of the sweep").at(at));
    }
    Some(kept)
}

/// The independent directions of a sweep: each key of `grid`, all of `zip` together, `list`.
fn axes(root: &Table, sweep: &Table, problems: &mut Problems) -> Vec<Vec<Vec<Override>>> {
    let mut axes = Vec::new();
    if let Some(grid) = sweep.get("grid") {
        axes.extend(columns(root, &grid.value, problems));
    }
    if let Some(zip) = sweep.get("zip") {
        let columns = columns(root, &zip.value, problems);
        let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
        if columns.iter().any(|column| column.len() != longest) {
            let lengths: Vec<String> = columns.iter().map(|column| column.len().to_string()).collect();
            let message = format!("the lists of `zip` have different lengths: {}", lengths.join(", "));
            problems.push(Diagnostic::new(message).at(zip.key_span));
        } else if longest > 0 {
            let row = |at: usize| columns.iter().flat_map(|column| column[at].clone()).collect();
            axes.push((0..longest).map(row).collect());
        }
    }
    if let Some(list) = sweep.get("list") {
        let rows = deltas(root, &list.value, problems);
        if rows.is_empty() {
            problems.push(Diagnostic::new("`list` is empty").at(list.value.span));
        } else {
            axes.push(rows);
        }
    }
    axes
}

/// `{ "key" = [a, b] }`: per key its values as changes.
fn columns(root: &Table, value: &Value, problems: &mut Problems) -> Vec<Vec<Vec<Override>>> {
    let mut columns = Vec::new();
    for change in delta(root, value, problems) {
        match &change.value.kind {
            ValueKind::Array(items) if !items.is_empty() => {
                let set = |item: &Value| vec![Override { value: item.clone(), ..change.clone() }];
                columns.push(items.iter().map(set).collect());
            }
            _ => {
                let message = format!("`{}` needs a list of values", change.key());
                problems.push(Diagnostic::new(message).at(change.value.span));
            }
        }
    }
    columns
}

/// `[{..}, {..}]`: several deltas.
fn deltas(root: &Table, value: &Value, problems: &mut Problems) -> Vec<Vec<Override>> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(|item| delta(root, item, problems)).collect(),
        _ => {
            let message = format!("expected an array of tables, found {}", value.found());
            problems.push(Diagnostic::new(message).at(value.span));
            Vec::new()
        }
    }
}

/// One delta, its keys checked against the base.
fn delta(root: &Table, value: &Value, problems: &mut Problems) -> Vec<Override> {
    let mut changes = Vec::new();
    match value.as_table() {
        Some(table) => flatten(table, &[], &mut changes, problems),
        None => {
            let message = format!("expected a table of changes, found {}", value.found());
            problems.push(Diagnostic::new(message).at(value.span));
        }
    }
    for change in &changes {
        let first = change.path.first().map_or("", String::as_str);
        if !CHANGEABLE.contains(&first) {
            let help = suggest::help(first, CHANGEABLE);
            let diagnostic = Diagnostic::new(format!("`{}` cannot be changed here", change.key()));
            problems.push(diagnostic.at(change.key_span).help(help));
        } else if let Some(diagnostic) = unknown_target(root, change) {
            problems.absent(diagnostic);
        }
    }
    changes
}

/// Key paths and their values. A key that is itself a path sets its value as a whole; plain keys lead further in.
fn flatten(table: &Table, prefix: &[String], changes: &mut Vec<Override>, problems: &mut Problems) {
    for (key, entry) in table {
        let segments = match split_key(key) {
            Ok(segments) => segments,
            Err(reason) => {
                problems.push(Diagnostic::new(reason).at(entry.key_span));
                continue;
            }
        };
        let path: Vec<String> = prefix.iter().cloned().chain(segments.clone()).collect();
        match entry.value.as_table() {
            Some(inner) if segments.len() == 1 => flatten(inner, &path, changes, problems),
            _ => changes.push(Override { path, key_span: entry.key_span, value: entry.value.clone() }),
        }
    }
}

/// All combinations, the last axis fastest.
fn product(axes: &[Vec<Vec<Override>>]) -> Vec<Vec<Override>> {
    axes.iter().fold(vec![Vec::new()], |cells, axis| {
        let join = |cell: &Vec<Override>, step: &Vec<Override>| cell.iter().chain(step).cloned().collect();
        cells.iter().flat_map(|cell| axis.iter().map(move |step| join(cell, step))).collect()
    })
}

/// An excluded key that no cell sets would exclude nothing, in silence.
fn check_exclude(axes: &[Vec<Vec<Override>>], exclude: &[Vec<Override>], problems: &mut Problems) {
    let mut keys: Vec<String> = axes.iter().flatten().flatten().map(Override::key).collect();
    keys.sort();
    keys.dedup();
    for pair in exclude.iter().flatten().filter(|pair| !keys.contains(&pair.key())) {
        let help = suggest::help(&pair.key(), keys.iter().map(String::as_str));
        let diagnostic = Diagnostic::new(format!("no cell of the sweep sets `{}`", pair.key()));
        problems.push(diagnostic.at(pair.key_span).help(help));
    }
}

/// Whether a cell has all of these values; the last change of a key counts.
fn holds(cell: &[Override], pairs: &[Override]) -> bool {
    let value =
        |key: &[String]| cell.iter().rev().find(|change| change.path == key).map(|change| &change.value);
    !pairs.is_empty()
        && pairs.iter().all(|pair| value(&pair.path).is_some_and(|found| same(found, &pair.value)))
}

/// Equal values, wherever they stand; `1` equals `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a.to_json(), b.to_json()) {
        (serde_json::Value::Number(a), serde_json::Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

impl Cell {
    fn new(overrides: Vec<Override>) -> Self {
        let set = |change: &Override| format!("{}={}", change.key(), change.value.to_json());
        Self { label: overrides.iter().map(set).collect::<Vec<_>>().join(" "), overrides }
    }
}
