//! Where records go that a node keeps or drops: two manifests and the counts by source and reason.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::{DataType, Field, SchemaRef};
use arrow_select::filter::filter_record_batch;
use heddle_cache::PayloadWriter;
use heddle_data::{
    Footer, ManifestError, ManifestWriter,
    dirt::DIRT,
    manifest::{Added, Step},
};
use heddle_graph::graph::{Inputs, OutPort};

use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    nodes::data::same_records,
};

/// The outputs of a node that drops records.
pub fn sieve_ports(inputs: &Inputs) -> Vec<OutPort> {
    ["records", "dropped"].map(|port| OutPort::new(port, same_records(inputs))).into()
}

/// Takes chunks with a reason for every record that is dropped.
pub struct Sieve<'a> {
    cx: &'a RunContext<'a>,
    step: Step,
    kept: ManifestWriter<PayloadWriter>,
    dropped: ManifestWriter<PayloadWriter>,
    with_reason: Added,
}

impl<'a> Sieve<'a> {
    /// A sieve for records of this schema; `rule` is what reports call it.
    pub fn new(
        cx: &'a RunContext<'a>,
        rule: &str,
        schema: &SchemaRef,
        footer: &Footer,
    ) -> Result<Self, NodeError> {
        let reason = Arc::new(Field::new("reason", DataType::Utf8, true));
        let with_reason = Added::new(schema, vec![reason]);
        Ok(Self {
            cx,
            step: Step::new(rule),
            kept: ManifestWriter::new(cx.writer()?, schema.clone(), footer.clone())?,
            dropped: ManifestWriter::new(cx.writer()?, with_reason.schema.clone(), footer.clone())?,
            with_reason,
        })
    }

    /// Takes records, with a reason for each that is dropped.
    pub fn write(&mut self, chunk: &RecordBatch, reasons: &[Option<&str>]) -> Result<(), NodeError> {
        let sources = chunk.column_by_name("source").map(|column| column.as_string::<i32>());
        for (row, reason) in reasons.iter().enumerate() {
            self.step.count(sources.map_or("", |sources| sources.value(row)), *reason);
        }
        if let Some(kinds) = chunk.column_by_name(DIRT).and_then(|column| column.as_string_opt::<i32>()) {
            for (row, reason) in reasons.iter().enumerate() {
                let kind = if kinds.is_valid(row) { kinds.value(row) } else { "" };
                self.step.count_truth(kind, reason.is_some());
            }
        }
        let arrow = |error| NodeError::from(ManifestError::from(error));
        let keep: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
        self.kept.write(filter_record_batch(chunk, &keep).map_err(arrow)?)?;
        if reasons.iter().any(Option::is_some) {
            let drop: BooleanArray = reasons.iter().map(|reason| Some(reason.is_some())).collect();
            let why: StringArray = reasons.iter().collect();
            let told = self.with_reason.batch(chunk, &[Arc::new(why)])?;
            self.dropped.write(filter_record_batch(&told, &drop).map_err(arrow)?)?;
        }
        Ok(())
    }

    /// Writes both manifests.
    pub fn finish(mut self) -> Result<Outputs, NodeError> {
        let (came, stayed) = self.step.totals();
        self.cx.progress.note(format!("{stayed} of {came} records stay"));
        self.kept.footer.steps.push(self.step.clone());
        self.dropped.footer.steps.push(self.step);
        Ok(Outputs::from([
            ("records".to_owned(), Output::Kept(self.kept.finish()?.finish()?)),
            ("dropped".to_owned(), Output::Kept(self.dropped.finish()?.finish()?)),
        ]))
    }
}
