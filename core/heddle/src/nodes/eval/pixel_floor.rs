//! `eval.pixel-floor`: what the nearest training picture on raw pixels scores.

use std::collections::{BTreeMap, BTreeSet};

use heddle_data::{
    image::DecodeLimits,
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
    tasks::{Tally, Task, asked, classes, read_tasks},
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
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
            version: 2,
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
        let (test_images, train_images) = (images(cx, &test)?, images(cx, &train)?);
        let nearest: BTreeMap<usize, usize> = pixel_floor(&train_images.images, &test_images.images)
            .into_iter()
            .zip(&test_images.kept)
            .map(|(near, index)| (*index as usize, train_images.kept[near.index as usize] as usize))
            .collect();
        let skipped = test_images.skipped.iter().chain(&train_images.skipped);
        let mut metrics =
            Metrics { notes: skipped.map(|one| format!("skipped {one}")).collect(), ..Metrics::default() };
        for (name, task) in &self.tasks {
            let known: BTreeSet<String> = train
                .manifest
                .records
                .iter()
                .filter_map(|record| column_text(record, task.answer()))
                .collect();
            for (split, asked) in asked(task, &test.manifest.records) {
                let mut tally = Tally::default();
                for (index, record) in asked {
                    let (Some(right), Some(near)) = (column_text(record, task.answer()), nearest.get(&index))
                    else {
                        continue;
                    };
                    // A class without a training picture has no floor: it cannot be looked up.
                    if !known.contains(&right) {
                        continue;
                    }
                    let answer = column_text(&train.manifest.records[*near], task.answer());
                    tally.add(&right, usize::from(answer.as_ref() != Some(&right)));
                }
                let base = Measurement {
                    evaluation: "pixel-floor".into(),
                    task: name.clone(),
                    split,
                    language: String::new(),
                    metric: String::new(),
                    value: 0.0,
                    n: 0,
                    candidates: classes(task, &train.manifest.records).len(),
                };
                let top1 = tally.measurements(&base).into_iter().filter(|m| m.metric == "top-1");
                metrics.measurements.extend(top1);
            }
        }
        Ok(Outputs::from([("metrics".to_owned(), metrics.to_bytes()?)]))
    }
}

/// All pictures of the records, up to their limit of broken ones.
fn images(cx: &RunContext<'_>, records: &Records) -> Result<Images, NodeError> {
    let shards = cx.library.shards(&records.manifest)?;
    let Records { manifest, settings } = records;
    load_images(&manifest.records, &shards, &settings.image, &DecodeLimits::default(), settings.max_bad)
        .map_err(NodeError::data)
}
