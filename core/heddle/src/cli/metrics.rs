//! The measurements of a run as one list of named numbers: `zero_shot/concept/test-id/en/top-1`.

use heddle_graph::paths::glob_matches;
use indexmap::IndexMap;
use serde::Deserialize;

use crate::{
    exec::{NodeRecord, RunRecord},
    nodes::Measurement,
};

/// What of a metrics artifact is a number.
#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    measurements: Vec<Measurement>,
    #[serde(default)]
    curve: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    /// None if it was no number any more.
    loss: Option<f64>,
}

/// All numbers of a run: evaluations in the order of their nodes, then the last losses of training stages.
pub fn of(record: &RunRecord) -> IndexMap<String, f64> {
    let (mut numbers, mut losses) = (IndexMap::new(), IndexMap::new());
    for NodeRecord { name, .. } in &record.nodes {
        let metrics = record.metrics.get(name).cloned().map(serde_json::from_value::<Metrics>);
        let Some(Ok(Metrics { measurements, curve })) = metrics else { continue };
        for one in measurements {
            let parts = [name, &one.source, &one.task, &one.split, &one.language, &one.metric];
            let parts: Vec<&str> =
                parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            numbers.insert(parts.join("/"), one.value);
        }
        losses.extend(curve.last().and_then(|point| Some((format!("{name}/loss"), point.loss?))));
    }
    numbers.extend(losses);
    numbers
}

/// Whether a metric is meant: by its whole name, by parts that stand in it, or by a pattern with `*`.
pub fn is_meant(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        // In a pattern `*` stops at `/`, in a metric's name it need not.
        let flat = |text: &str| text.replace('/', " ");
        return glob_matches(&flat(pattern), &flat(name));
    }
    format!("/{name}/").contains(&format!("/{pattern}/"))
}

/// A number as tables have it: per cent with two digits, a loss with three.
pub fn show(name: &str, value: Option<f64>) -> String {
    let digits = if name.ends_with("/loss") { 3 } else { 2 };
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The metric that one name stands for: of those that it means the first that is not the same in every row. And how many
/// others it means.
pub fn stands_for(rows: &[&IndexMap<String, f64>], pattern: &str) -> Option<(String, usize)> {
    let meant = choose(rows, &[pattern.to_owned()]);
    let name = meant.iter().find(|name| varies(rows, name)).or(meant.first())?;
    Some((name.clone(), meant.len() - 1))
}

fn varies(rows: &[&IndexMap<String, f64>], name: &str) -> bool {
    let mut values = rows.iter().filter_map(|row| row.get(name));
    let first = values.next();
    values.any(|value| Some(value) != first)
}

/// The most columns of metrics of a table for people.
const SHOWN: usize = 8;

/// The metrics that a table shows: those that are asked for, or else the first ones of every node, leaving out what is
/// the same in every row.
pub fn choose(rows: &[&IndexMap<String, f64>], asked: &[String]) -> Vec<String> {
    let mut all: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if !asked.is_empty() {
        let meant = |name: &&String| asked.iter().any(|pattern| is_meant(pattern, name));
        return all.into_iter().filter(meant).cloned().collect();
    }
    let varying: Vec<&String> = all.iter().filter(|name| varies(rows, name)).copied().collect();
    let candidates = if varying.is_empty() { all } else { varying };
    // The first of every node, then the second of every node, and so on until the table is full.
    let mut seen: IndexMap<&str, usize> = IndexMap::new();
    let mut ranked: Vec<(usize, usize)> = Vec::new();
    for (place, name) in candidates.iter().enumerate() {
        let rank = seen.entry(name.split('/').next().unwrap_or_default()).or_default();
        ranked.push((*rank, place));
        *rank += 1;
    }
    ranked.sort();
    let mut places: Vec<usize> = ranked.into_iter().take(SHOWN).map(|(_, place)| place).collect();
    places.sort();
    places.into_iter().map(|place| candidates[place].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_by_parts_and_patterns() {
        let name = "zero_shot/concept/test-id/en/top-1";
        for meant in [name, "top-1", "zero_shot", "test-id/en", "zero*top-1", "*en*", "zero*"] {
            assert!(is_meant(meant, name), "{meant}");
        }
        for other in ["top", "en/test-id", "shot*", ""] {
            assert!(!is_meant(other, name), "{other}");
        }
    }

    #[test]
    fn a_table_shows_what_differs_and_something_of_every_node() {
        let row = |values: [f64; 3]| -> IndexMap<String, f64> {
            ["a/x", "a/y", "b/x"].iter().map(|name| (*name).to_owned()).zip(values).collect()
        };
        let rows = [row([1.0, 2.0, 3.0]), row([1.0, 4.0, 5.0])];
        let rows: Vec<&IndexMap<String, f64>> = rows.iter().collect();
        assert_eq!(choose(&rows, &[]), ["a/y", "b/x"]);
        assert_eq!(choose(&rows, &["x".to_owned()]), ["a/x", "b/x"]);
        assert_eq!(choose(&rows[..1], &[]), ["a/x", "a/y", "b/x"]);
    }
}
