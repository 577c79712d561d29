//! `data.filter`: a plugin keeps or drops records.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use heddle_data::{ManifestError, ManifestWriter, manifest::Step};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use heddle_plugin::World;

use super::{
    calls::Calls,
    settings::{OnError, Plugged, records_in, same_records},
};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::Models,
    nodes::{Node, data::Records},
};

/// The kind.
pub struct Filter;

struct Sieve {
    plugged: Plugged,
}

impl Kind<dyn Node, Models> for Filter {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.filter",
            version: 1,
            summary: "keeps the records that a plugin keeps",
            details: "The plugin is a WebAssembly component of the world `filter-plugin` (plugins/README.md). It sees the \
                      columns that it declares, in chunks, and nothing else. `records` has what it keeps, `dropped` the \
                      rest with the column `reason`. Verdicts are kept for every chunk of records under the plugin's \
                      digest, its config and the chunk, so that a change upstream costs the chunks that changed.",
            example: "[nodes.clean]\nkind = \"data.filter\"\nin = \"pairs\"\nplugin = \"embedded:plugins/caption-length.wasm\"\n\
                      config = { min_words = 2 }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Sieve { plugged: Plugged::read(r, World::Filter) })
    }
}

impl NodeSpec for Sieve {
    fn inputs(&self) -> Vec<InPort> {
        records_in()
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(["records", "dropped"].map(|port| OutPort::new(port, same_records(inputs))).into())
    }
}

impl Node for Sieve {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut calls = Calls::new(cx, &self.plugged, &records)?;
        let reasons: Vec<String> =
            self.plugged.plugin()?.description().reasons.iter().map(|reason| reason.code.clone()).collect();
        let (footer, schema) = (&*records.manifest.footer, records.manifest.schema());
        let mut step = Step::new(calls.name());
        let mut kept = ManifestWriter::new(cx.writer()?, schema.clone(), footer.clone())?;
        let with_reason = with_reason(schema);
        let mut dropped = ManifestWriter::new(cx.writer()?, with_reason.clone(), footer.clone())?;
        let on_error = self.plugged.on_error;
        calls.run(
            |session, batch| session.filter(batch),
            |(chunk, codes)| {
                let codes = match (codes, on_error) {
                    (Some(codes), _) => codes,
                    (None, OnError::Keep) => vec![0; chunk.num_rows()],
                    // One behind the last reason.
                    (None, _) => vec![reasons.len() as u8 + 1; chunk.num_rows()],
                };
                let reason = |code: u8| -> Option<&str> {
                    let place = code.checked_sub(1)?;
                    Some(reasons.get(usize::from(place)).map_or("plugin-failed", String::as_str))
                };
                let sources = chunk.column_by_name("source").map(|column| column.as_string::<i32>());
                for (row, code) in codes.iter().enumerate() {
                    step.count(sources.map_or("", |sources| sources.value(row)), reason(*code));
                }
                let keep: BooleanArray = codes.iter().map(|code| Some(*code == 0)).collect();
                kept.write(filter_record_batch(&chunk, &keep).map_err(ManifestError::from)?)?;
                let drop: BooleanArray = codes.iter().map(|code| Some(*code != 0)).collect();
                let why: StringArray = codes.iter().map(|code| reason(*code)).collect();
                let told = add_reason(&chunk, &with_reason, Arc::new(why))?;
                dropped.write(filter_record_batch(&told, &drop).map_err(ManifestError::from)?)?;
                Ok(())
            },
        )?;
        let (came, stayed) = step.totals();
        cx.progress.note(format!("{stayed} of {came} records stay"));
        kept.footer.steps.push(step.clone());
        dropped.footer.steps.push(step);
        Ok(Outputs::from([
            ("records".to_owned(), Output::Kept(kept.finish()?.finish()?)),
            ("dropped".to_owned(), Output::Kept(dropped.finish()?.finish()?)),
        ]))
    }
}

/// The schema with the column `reason`; one of that name is replaced.
fn with_reason(schema: &SchemaRef) -> SchemaRef {
    let others = schema.fields().iter().filter(|field| field.name() != "reason").cloned();
    let reason = Arc::new(Field::new("reason", DataType::Utf8, true));
    Arc::new(Schema::new(others.chain([reason]).collect::<Vec<_>>()))
}

fn add_reason(chunk: &RecordBatch, schema: &SchemaRef, why: ArrayRef) -> Result<RecordBatch, ManifestError> {
    let own = chunk.schema();
    let others = own.fields().iter().zip(chunk.columns()).filter(|(field, _)| field.name() != "reason");
    let columns = others.map(|(_, column)| column.clone()).chain([why]).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
