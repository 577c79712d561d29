//! Classification tasks on labelled records: which column is the class, which records ask, which classes answer.

use std::collections::BTreeMap;

use heddle_data::Record;
use heddle_graph::config::Reader;
use indexmap::IndexMap;

use super::measure::Measurement;
use crate::nodes::data::{Filters, column_text, read_filters};

/// One task as the file writes it.
#[derive(Debug, Clone)]
pub struct Task {
    /// The column whose values are the classes.
    pub class: String,
    /// Score this column instead, each of its values through the mean of its member classes.
    pub through: Option<String>,
    /// Which records are asked.
    pub of: Filters,
    /// Which classes may be answered: those of the records that pass.
    pub among: Filters,
}

/// Reads `[nodes.NAME.tasks.TASK]`.
pub fn read_tasks(r: &mut Reader<'_>) -> IndexMap<String, Task> {
    r.tables("tasks", "what is asked: a table per task", |r| Task {
        class: r.field("class", "column whose distinct values are the classes").required(),
        through: r
            .field("through", "score this column instead: each of its values is the mean of the embeddings of its member classes")
            .optional(),
        of: read_filters(r, "of", "records that are asked, by column: `{ novel = false }`; default: all"),
        among: read_filters(r, "among", "records whose classes may be answered; default: all"),
    })
}

impl Task {
    /// The column whose value a right answer has.
    pub fn answer(&self) -> &str {
        self.through.as_deref().unwrap_or(&self.class)
    }
}

/// The classes that may be answered: class value and one record that carries it, sorted by value.
pub fn classes<'a>(task: &Task, records: &'a [Record]) -> Vec<(String, &'a Record)> {
    let mut classes = BTreeMap::new();
    for record in records.iter().filter(|record| task.among.pass(record)) {
        if let Some(value) = column_text(record, &task.class) {
            classes.entry(value).or_insert(record);
        }
    }
    classes.into_iter().collect()
}

/// The records that are asked, by split, in the order of the manifest.
pub fn asked<'a>(task: &Task, records: &'a [Record]) -> IndexMap<String, Vec<(usize, &'a Record)>> {
    let mut splits: IndexMap<String, Vec<(usize, &Record)>> = IndexMap::new();
    for (index, record) in records.iter().enumerate().filter(|(_, record)| task.of.pass(record)) {
        splits.entry(column_text(record, "split").unwrap_or_default()).or_default().push((index, record));
    }
    splits
}

/// Counts of one task on one split.
#[derive(Debug, Default)]
pub struct Tally {
    asked: usize,
    top1: usize,
    top5: usize,
    per_class: BTreeMap<String, (usize, usize)>,
}

impl Tally {
    /// Notes one answer: how many candidates were ranked before the right one.
    pub fn add(&mut self, class: &str, rank: usize) {
        self.asked += 1;
        self.top1 += usize::from(rank == 0);
        self.top5 += usize::from(rank < 5);
        let (right, all) = self.per_class.entry(class.to_owned()).or_default();
        *right += usize::from(rank == 0);
        *all += 1;
    }

    /// Top-1, top-5 (with more than five candidates), and the mean of the per-class recalls, in per cent.
    pub fn measurements(&self, base: &Measurement) -> Vec<Measurement> {
        if self.asked == 0 {
            return Vec::new();
        }
        let share = |count: usize| 100.0 * count as f64 / self.asked as f64;
        let recalls: f64 = self.per_class.values().map(|(right, all)| *right as f64 / *all as f64).sum();
        let mut numbers = vec![("top-1", share(self.top1))];
        if base.candidates > 5 {
            numbers.push(("top-5", share(self.top5)));
        }
        numbers.push(("mean per class", 100.0 * recalls / self.per_class.len() as f64));
        let measurement = |(metric, value): (&str, f64)| Measurement {
            metric: metric.into(),
            value,
            n: self.asked,
            ..base.clone()
        };
        numbers.into_iter().map(measurement).collect()
    }
}

/// How many scores stand before the right one, as `topk` orders them: higher first, then the earlier index.
pub fn rank(scores: &[f32], right: usize) -> usize {
    let target = scores[right];
    let before = |(index, score): (usize, &f32)| *score > target || (*score == target && index < right);
    scores.iter().enumerate().filter(|entry| before((entry.0, entry.1))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_topk() {
        assert_eq!(rank(&[0.1, 0.9, 0.5], 1), 0);
        assert_eq!(rank(&[0.1, 0.9, 0.5], 0), 2);
        // Constant scores are no success: the earlier index wins.
        assert_eq!(rank(&[0.5, 0.5, 0.5], 2), 2);
    }

    #[test]
    fn balanced_accuracy_weighs_classes_alike() {
        let mut tally = Tally::default();
        for rank in [0, 0, 0, 1] {
            tally.add("common", rank);
        }
        tally.add("rare", 7);
        let base = Measurement {
            evaluation: "zero-shot".into(),
            task: "t".into(),
            split: "s".into(),
            language: String::new(),
            metric: String::new(),
            value: 0.0,
            n: 0,
            candidates: 10,
        };
        let values: Vec<f64> = tally.measurements(&base).iter().map(|m| m.value).collect();
        assert_eq!(values, [60.0, 80.0, 37.5]);
    }
}
