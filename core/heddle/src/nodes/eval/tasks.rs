//! Classification tasks on labelled records: which column is the class, which records ask, which classes answer.

use std::collections::{BTreeMap, BTreeSet};

use heddle_data::Record;
use heddle_graph::config::Reader;
use indexmap::IndexMap;

use super::{
    labels::{Splits, by_split, require_column},
    measure::Measurement,
};
use crate::{
    exec::NodeError,
    nodes::data::{Filters, column_text, read_filters},
};

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
    let tasks = r.tables("tasks", "what is asked: a table per task", |r| Task {
        class: r.field("class", "column whose distinct values are the classes").required(),
        through: r
            .field("through", "score this column instead: each of its values is the mean of the embeddings of its member classes")
            .optional(),
        of: read_filters(r, "of", "records that are asked, by column: `{ novel = false }`; default: all"),
        among: read_filters(r, "among", "records whose classes may be answered; default: all"),
    });
    if tasks.is_empty() {
        r.error(
            "tasks",
            "at least one task is needed",
            Some("for example `[nodes.NAME.tasks.concept]` with `class = \"cp\"`"),
        );
    }
    tasks
}

impl Task {
    /// The column whose value a right answer has.
    pub fn answer(&self) -> &str {
        self.through.as_deref().unwrap_or(&self.class)
    }

    /// Fails on a column that no record has: a misspelt one would silently ask nothing.
    pub fn check(&self, name: &str, asked: &[Record], answers: &[Record]) -> Result<(), NodeError> {
        for filter in &self.of.0 {
            require_column(asked, &filter.column)?;
        }
        for column in
            self.among.0.iter().map(|filter| &filter.column).chain([&self.class]).chain(&self.through)
        {
            require_column(answers, column)?;
        }
        if self.classes(answers).is_empty() {
            return Err(NodeError::Other(format!("task `{name}`: no record passes `among`")));
        }
        if self.asked(asked).is_empty() {
            return Err(NodeError::Other(format!("task `{name}`: no record passes `of`")));
        }
        Ok(())
    }

    /// The classes that may be answered: class value and one record that carries it, sorted by value.
    pub fn classes<'a>(&self, records: &'a [Record]) -> Vec<(String, &'a Record)> {
        let mut classes = BTreeMap::new();
        for record in records.iter().filter(|record| self.among.pass(record)) {
            if let Some(value) = column_text(record, &self.class) {
                classes.entry(value).or_insert(record);
            }
        }
        classes.into_iter().collect()
    }

    /// The labels that may be answered: the values of [`Task::answer`], sorted.
    pub fn labels(&self, records: &[Record]) -> Vec<String> {
        let labels =
            self.classes(records).into_iter().filter_map(|(_, record)| column_text(record, self.answer()));
        let labels: BTreeSet<String> = labels.collect();
        labels.into_iter().collect()
    }

    /// The records that are asked, by split.
    pub fn asked<'a>(&self, records: &'a [Record]) -> Splits<'a> {
        by_split(records, |_, record| self.of.pass(record))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_accuracy_weighs_classes_alike() {
        let mut tally = Tally::default();
        for rank in [0, 0, 0, 1] {
            tally.add("common", rank);
        }
        tally.add("rare", 7);
        let base = Measurement::of("zero-shot", "t", "s", "", 10);
        let values: Vec<f64> = tally.measurements(&base).iter().map(|m| m.value).collect();
        assert_eq!(values, [60.0, 80.0, 37.5]);
    }
}
