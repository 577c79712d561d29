//! `eval.pixel-floor`: what the nearest training picture on raw pixels scores.

use std::collections::BTreeMap;

use heddle_data::{
    Record,
    image::{DecodeLimits, Prepared},
    loader::{Images, load_images},
    pixel_floor::pixel_floor,
};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use indexmap::IndexMap;

use super::{
    measure::{Measurement, Metrics},
    tasks::{Tally, Task, read_tasks},
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::Models,
    nodes::{
        Node,
        data::{Records, column_text},
    },
};

/// The kind.
pub struct PixelFloor;

struct Floor {
    tasks: IndexMap<String, Task>,
}

impl Kind<dyn Node, Models> for PixelFloor {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.pixel-floor",
            version: 3,
            summary: "the floor under an accuracy: nearest training picture by raw pixels",
            details: "Every picture is averaged down to 24 x 24, its mean taken off and scaled to length one; a \
                      held-out picture gets the label of the training picture with the largest correlation. Where \
                      drawing styles copy each other's layout this floor is high, and an accuracy without it misleads.",
            example: "[nodes.floor]\nkind = \"eval.pixel-floor\"\nin = { records = \"heldout\", train = \"pairs\" }\n\n\
                      [nodes.floor.tasks.concept]\nclass = \"cp\"\nof = { novel = false }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Floor { tasks: read_tasks(r) })
    }
}

impl NodeSpec for Floor {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, help| InPort {
            name,
            classes: vec![Class::Records],
            arity: Arity::One,
            place: Place::In,
            help,
        };
        vec![
            port("records", "records that are classified"),
            port("train", "records whose labels are looked up"),
        ]
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("metrics", PortType::plain(Class::Metrics))])
    }
}

impl Node for Floor {
    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let test = Records::read(cx.input("records")?)?;
        let train = Records::read(cx.input("train")?)?;
        let (asked, looked_up) = (&test.collect()?, &train.collect()?);
        let (test_images, train_images) = (images(cx, &test, asked)?, images(cx, &train, looked_up)?);
        let skipped = test_images.skipped.iter().chain(&train_images.skipped);
        let notes = skipped.map(|one| format!("skipped {one}")).collect();
        let mut metrics = Metrics { notes, ..Metrics::default() };
        for (name, task) in &self.tasks {
            let labels = task.labels(looked_up);
            if labels.is_empty() {
                // No training picture carries a class of this task, so there is nothing to look up.
                continue;
            }
            let places = train_images.kept.iter().enumerate();
            let among = places.filter(|(_, record)| task.among.pass(&looked_up[**record as usize]));
            let (chosen, records): (Vec<Prepared>, Vec<u32>) =
                among.map(|(place, record)| (train_images.images[place].clone(), *record)).unzip();
            let near: BTreeMap<usize, usize> = pixel_floor(&chosen, &test_images.images)
                .into_iter()
                .zip(&test_images.kept)
                .map(|(near, record)| (*record as usize, records[near.index as usize] as usize))
                .collect();
            for (split, members) in task.asked(asked) {
                let mut tally = Tally::default();
                for (index, record) in members {
                    let right = column_text(record, task.answer())
                        .filter(|right| labels.binary_search(right).is_ok());
                    if let (Some(right), Some(near)) = (right, near.get(&index)) {
                        let answer = column_text(&looked_up[*near], task.answer());
                        tally.add(&right, usize::from(answer.as_ref() != Some(&right)));
                    }
                }
                let base = Measurement::of("pixel-floor", name, &split, "", labels.len());
                metrics
                    .measurements
                    .extend(tally.measurements(&base).into_iter().filter(|m| m.metric == "top-1"));
            }
        }
        Ok(output("metrics", metrics.to_bytes()?))
    }
}

/// All pictures of the records, up to their limit of broken ones.
fn images(cx: &RunContext<'_>, from: &Records, records: &[Record]) -> Result<Images, NodeError> {
    let shards = cx.library.shards(&from.manifest)?;
    let settings = &from.settings;
    load_images(records, &shards, &settings.image, &DecodeLimits::default(), settings.max_bad)
        .map_err(NodeError::data)
}
