//! `eval.zero-shot`: classification by comparing image features with prompted class names.

use std::{collections::BTreeMap, sync::Arc};

use heddle_data::{Record, text::templates};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::{
    measure::{Measurement, Metrics},
    tasks::{Tally, Task, asked, classes, rank, read_tasks},
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
    model::{ModelGraph, Models},
    nodes::{
        Node,
        data::{Records, column_text},
        encode::{Rows, TextSide, features_of, text_ports},
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
            version: 1,
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
        let own: IndexMap<String, Vec<String>> = r
            .field(
                "templates",
                "prompts per language, `{}` stands for the name; built in for en, zh, ja, ar, it",
            )
            .or(IndexMap::new());
        let mut all = IndexMap::new();
        for language in &text.languages {
            let prompts = own.get(language).cloned().unwrap_or_else(|| {
                templates::default(language).iter().map(|text| (*text).to_owned()).collect()
            });
            if prompts.iter().any(|prompt| !prompt.contains("{}")) {
                r.error("templates", format!("a template of `{language}` has no `{{}}` for the name"), None);
            }
            all.insert(language.clone(), prompts);
        }
        if let Some(extra) = own.keys().find(|language| !text.languages.contains(language)) {
            r.error("templates", format!("`{extra}` is not among the `languages`"), None);
        }
        Box::new(Eval { text, templates: all, tasks: read_tasks(r) })
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

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let answers = cx.optional("classes").map(Records::read).transpose()?;
        let answers = answers.as_ref().unwrap_or(&records);
        let features = features_of(cx, &records)?;
        let encode = self.text.encoder(cx)?;
        let mut metrics = Metrics::default();
        for (language, prompts) in &self.templates {
            let mut known: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            for (name, task) in &self.tasks {
                cx.check_cancelled()?;
                let classes = classes(task, &answers.manifest.records);
                let missing: Vec<String> = names(&classes, language, cx.node)?
                    .into_iter()
                    .filter(|name| !known.contains_key(name))
                    .collect();
                let vectors = ensemble(&missing, prompts, |texts| encode.texts(cx, texts))?;
                known.extend(missing.into_iter().zip(vectors));
                let candidates = Candidates::new(task, &classes, language, &known);
                let base = Measurement {
                    evaluation: "zero-shot".into(),
                    task: name.clone(),
                    split: String::new(),
                    language: language.clone(),
                    metric: String::new(),
                    value: 0.0,
                    n: 0,
                    candidates: candidates.labels.len(),
                };
                metrics.measurements.extend(score(
                    task,
                    &records.manifest.records,
                    &features,
                    &candidates,
                    &base,
                ));
            }
        }
        Ok(Outputs::from([("metrics".to_owned(), metrics.to_bytes()?)]))
    }
}

/// The names of the classes in one language.
fn names(classes: &[(String, &Record)], language: &str, node: &str) -> Result<Vec<String>, NodeError> {
    let mut names: Vec<String> = classes
        .iter()
        .map(|(class, record)| {
            column_text(record, language).ok_or_else(|| {
                NodeError::Other(format!(
                    "`{node}`: class `{class}` has no name: record `{}` has no text column `{language}`",
                    record.key
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
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
        let mut rows = encode(&texts)?;
        rows.normalise();
        sums.resize_with(names.len(), || vec![0.0; rows.width]);
        for (sum, row) in sums.iter_mut().zip(rows.rows()) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    sums.iter_mut().for_each(|sum| crate::nodes::encode::normalise(sum));
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
            crate::nodes::encode::normalise(&mut mean);
            vectors.data.extend(mean);
        }
        Self { labels: members.into_keys().collect(), vectors }
    }
}

/// The measurements of one task in one language, split by split.
fn score(
    task: &Task,
    records: &[Record],
    features: &Rows,
    candidates: &Candidates,
    base: &Measurement,
) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    for (split, asked) in asked(task, records) {
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
