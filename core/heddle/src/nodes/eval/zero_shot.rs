//! `eval.zero-shot`: classification by comparing image features with prompted class names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_data::Record;
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::{
    labels::name_in,
    measure::{Measurement, Metrics, rank},
    tasks::{Tally, Task, read_tasks},
};
use crate::{
    device::Need,
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::{ModelGraph, Models},
    nodes::{
        Node,
        data::{Records, column_text, read_templates},
        towers::{Features, Rows, TextSide, features_of, normalise, read_languages, text_ports},
    },
};

/// The kind.
pub struct ZeroShot;

struct Eval {
    text: TextSide,
    templates: IndexMap<String, Vec<String>>,
    tasks: IndexMap<String, Task>,
}

impl Kind<dyn Node, Models> for ZeroShot {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.zero-shot",
            version: 2,
            summary: "zero-shot classification with prompt ensembles, per language and split",
            details: "Per class: every template is filled with the class's name in that language and encoded, each \
                      vector normalised, their mean normalised again; an image is given the class with the largest \
                      cosine (CLIP; InternVL, Tables 5 to 7). Reports top-1, top-5 and the mean of the per-class \
                      recalls, in per cent. A task with `through` scores a coarser column by the mean embedding of \
                      its member classes.",
            example: "[nodes.zero_shot]\nkind = \"eval.zero-shot\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\n\
                      in = { records = \"heldout\", features = \"embed\", tokenizer = \"bpe\" }\nlanguages = [\"en\", \"zh\"]\n\n\
                      [nodes.zero_shot.tasks.concept]\nclass = \"cp\"\nof = { novel = false }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let text = TextSide::read(r, models);
        let languages = read_languages(r);
        let templates = read_templates(r, &languages);
        Box::new(Eval { text, templates, tasks: read_tasks(r) })
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        let mut ports = text_ports("records that are classified; their column `split` groups the results");
        ports.push(InPort {
            name: "classes",
            classes: vec![Class::Records],
            arity: Arity::Optional,
            place: Place::In,
            help: "records whose classes may be answered; default: the records themselves",
        });
        ports
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        self.text.check(inputs)?;
        Ok(vec![OutPort::new("metrics", PortType::plain(Class::Metrics))])
    }
}

impl Node for Eval {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.text.graph.as_ref()
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn need(&self) -> Option<Need> {
        Some(self.text.need())
    }

    fn memory_bytes(&self) -> u64 {
        self.text.memory_bytes()
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let answers = cx.optional("classes").map(Records::read).transpose()?;
        let records_asked = &records.collect()?;
        let answers = answers.map(|answers| answers.collect()).transpose()?;
        let answers = answers.as_ref().unwrap_or(records_asked);
        for (name, task) in &self.tasks {
            task.check(name, records_asked, answers)?;
        }
        let features = features_of(cx, &records)?;
        let encode = self.text.encoder(cx)?;
        let mut metrics = Metrics { notes: features.notes(), ..Metrics::default() };
        for (language, prompts) in &self.templates {
            let mut known: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            for (name, task) in &self.tasks {
                cx.check_cancelled()?;
                let classes = task.classes(answers);
                let names: BTreeSet<String> =
                    classes.iter().map(|(_, record)| name_in(record, language)).collect::<Result<_, _>>()?;
                let missing: Vec<String> =
                    names.into_iter().filter(|name| !known.contains_key(name)).collect();
                let vectors = ensemble(&missing, prompts, |texts| encode.texts(cx, texts))?;
                known.extend(missing.into_iter().zip(vectors));
                let candidates = Candidates::new(task, &classes, language, &known);
                let base = Measurement::of("zero-shot", name, "", language, candidates.labels.len());
                metrics.measurements.extend(score(task, records_asked, &features, &candidates, &base));
            }
        }
        Ok(output("metrics", metrics.to_bytes()?))
    }
}

/// One vector a name: the normalised mean of its normalised prompts.
fn ensemble(
    names: &[String],
    prompts: &[String],
    encode: impl Fn(&[String]) -> Result<Rows, NodeError>,
) -> Result<Vec<Vec<f32>>, NodeError> {
    let mut sums: Vec<Vec<f32>> = Vec::new();
    for prompt in prompts {
        let texts: Vec<String> = names.iter().map(|name| prompt.replace("{}", name)).collect();
        let rows = encode(&texts)?;
        sums.resize_with(names.len(), || vec![0.0; rows.width]);
        for (sum, row) in sums.iter_mut().zip(rows.rows()) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    sums.iter_mut().for_each(|sum| normalise(sum));
    Ok(sums)
}

/// The embeddings that an image is compared with.
struct Candidates {
    labels: Vec<String>,
    vectors: Rows,
}

impl Candidates {
    fn new(
        task: &Task,
        classes: &[(String, &Record)],
        language: &str,
        known: &BTreeMap<String, Vec<f32>>,
    ) -> Self {
        let vector = |record: &Record| column_text(record, language).and_then(|name| known.get(&name));
        let mut members: BTreeMap<String, Vec<&Vec<f32>>> = BTreeMap::new();
        for (class, record) in classes {
            let label = match &task.through {
                Some(column) => column_text(record, column).unwrap_or_default(),
                None => class.clone(),
            };
            members.entry(label).or_default().extend(vector(record));
        }
        let width = known.values().next().map_or(0, Vec::len);
        let mut vectors = Rows { width, data: Vec::with_capacity(members.len() * width) };
        for group in members.values() {
            let mut mean = vec![0.0; width];
            for member in group {
                mean.iter_mut().zip(*member).for_each(|(mean, value)| *mean += value);
            }
            normalise(&mut mean);
            vectors.data.extend(mean);
        }
        Self { labels: members.into_keys().collect(), vectors }
    }
}

/// The measurements of one task in one language, split by split.
fn score(
    task: &Task,
    records: &[Record],
    features: &Features,
    candidates: &Candidates,
    base: &Measurement,
) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    for (split, asked) in task.asked(records) {
        let ranks: Vec<Option<(String, usize)>> = asked
            .par_iter()
            .map(|(index, record)| {
                let answer = column_text(record, task.answer())?;
                let right = candidates.labels.binary_search(&answer).ok()?;
                let scores = candidates.vectors.scores(features.row(*index)?);
                Some((answer, rank(&scores, right)))
            })
            .collect();
        let mut tally = Tally::default();
        for (class, rank) in ranks.into_iter().flatten() {
            tally.add(&class, rank);
        }
        measurements.extend(tally.measurements(&Measurement { split, ..base.clone() }));
    }
    measurements
}
