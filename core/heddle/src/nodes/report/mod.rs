//! `report`: measurements and curves as a terminal table, JSON, CSV and SVG.

mod curve;
mod tables;

use std::collections::BTreeMap;

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use serde::Serialize;

use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::{
        Node,
        eval::{Measurement, Metrics},
    },
};

/// The kind.
pub struct Report;

struct Writer {
    title: String,
}

impl Kind<dyn Node, Models> for Report {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "report",
            version: 3,
            summary: "result tables, JSON, CSV and learning curves from metrics",
            details: "`txt` is what the terminal shows: accuracies with their pixel floor beside them, retrieval, every other \
                      evaluation, and the ends of the training stages. `csv` has a row per measurement, `json` everything, `svg` the \
                      learning curves. Inputs that measure the same are told apart by their labels: \
                      `in = { metrics = { wide = \"zero_shot_a\", deep = \"zero_shot_b\" } }`.",
            example: "[nodes.report]\nkind = \"report\"\nin = [\"stage1.metrics\", \"zero_shot\", \"floor\"]\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Writer { title: r.field("title", "heading of the report").or(String::new()) })
    }
}

impl NodeSpec for Writer {
    fn inputs(&self) -> Vec<InPort> {
        vec![InPort {
            name: "metrics",
            classes: vec![Class::Metrics],
            arity: Arity::Many,
            place: Place::In,
            help: "metrics of evaluations and training stages",
        }]
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(["txt", "json", "csv", "svg"].map(|port| OutPort::new(port, PortType::plain(Class::Table))).into())
    }
}

/// The report as JSON.
#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    measurements: &'a [Measurement],
    stages: &'a [(String, Metrics)],
    notes: &'a [String],
}

/// Numbers the inputs that measure the same thing and have no labels (`in = { wide = "a", deep = "b" }`).
fn tell_apart(measurements: &mut [Measurement]) {
    let mut seen: BTreeMap<[String; 6], usize> = BTreeMap::new();
    for m in measurements {
        let what = [&m.source, &m.evaluation, &m.task, &m.split, &m.language, &m.metric].map(String::clone);
        let count = seen.entry(what).or_default();
        *count += 1;
        if *count > 1 {
            m.source = format!("{} {count}", m.source).trim().to_owned();
        }
    }
}

impl Node for Writer {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let mut measurements = Vec::new();
        let mut stages = Vec::new();
        let mut notes = Vec::new();
        for artifact in cx.all("metrics") {
            let mut metrics = Metrics::read(artifact)?;
            notes.append(&mut metrics.notes);
            let source = artifact.label.clone().unwrap_or_default();
            measurements.extend(
                metrics.measurements.drain(..).map(|one| Measurement { source: source.clone(), ..one }),
            );
            if !metrics.curve.is_empty() {
                // Inputs are told apart by their place, not by their node's name, which is in no key.
                let name = if stages.is_empty() {
                    "train".to_owned()
                } else {
                    format!("train {}", stages.len() + 1)
                };
                stages.push((name, metrics));
            }
        }
        tell_apart(&mut measurements);
        let document =
            Document { title: &self.title, measurements: &measurements, stages: &stages, notes: &notes };
        let json =
            serde_json::to_vec_pretty(&document).map_err(|error| NodeError::Other(error.to_string()))?;
        Ok(Outputs::from([
            ("txt".to_owned(), tables::text(&self.title, &measurements, &stages, &notes).into_bytes().into()),
            ("json".to_owned(), json.into()),
            ("csv".to_owned(), tables::csv(&measurements)?.into()),
            ("svg".to_owned(), curve::svg(&stages)?.into_bytes().into()),
        ]))
    }
}
