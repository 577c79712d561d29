//! `heddle diff`: two runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, Table, presets};
use heddle_graph::{
    digest::Digest,
    plan::{Change, Known, RunReason},
};
use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use serde_json::Value as Json;

use super::{
    args::{Common, DiffOptions},
    exit::{Exit, Failure},
    home, metrics, output,
    plan::Memory,
    runs,
};
use crate::exec::{CacheUse, NodeRecord, RunRecord, RunsDir};

/// Runs the command.
pub fn run(options: &DiffOptions, common: &Common) -> Result<Exit, Failure> {
    let home = home::here(common);
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    let read = |wanted: &str| {
        let id = runs::find(&ids, wanted).map_err(Failure::Other)?;
        runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))
    };
    let (a, b) = (read(&options.a)?, read(&options.b)?);
    // The cache knows what keys are made of. Where another heddle holds it, the records have to do.
    let memory = Memory::open(&home, "diff", false, &CacheUse::default()).ok();
    let known = memory.as_ref().map(Memory::known);
    let difference = Difference::of(&a, &b, known, known);
    if options.json {
        output::json(&difference)?;
    } else {
        output::result(&difference.text());
    }
    Ok(if difference.same { Exit::Done } else { Exit::Different })
}

/// What two runs differ in.
#[derive(Serialize)]
pub struct Difference {
    /// The first run.
    pub a: String,
    /// The second run.
    pub b: String,
    /// Whether every artifact that both have is the same, and there is one.
    pub same: bool,
    /// Keys of the configuration.
    pub config: Vec<Change>,
    /// Model graphs, with the nodes that run them.
    pub models: Vec<ModelChange>,
    /// What computed them.
    pub machine: Vec<Change>,
    /// Measurements.
    pub metrics: Vec<Pair>,
    /// Nodes whose artifacts are the same.
    pub equal: Vec<String>,
    /// Nodes whose artifacts differ, in topological order.
    pub different: Vec<String>,
    /// Nodes that only the first run has artifacts of.
    pub only_a: Vec<String>,
    /// Nodes that only the second run has artifacts of.
    pub only_b: Vec<String>,
    /// The first node whose artifacts differ.
    pub first: Option<First>,
}

/// Two versions of a model graph.
#[derive(Serialize)]
pub struct ModelChange {
    /// The nodes that run it.
    pub nodes: Vec<String>,
    /// What differs.
    pub changes: Vec<Change>,
}

/// One measurement of both runs.
#[derive(Serialize)]
pub struct Pair {
    /// The metric.
    pub metric: String,
    /// In the first run.
    pub a: Option<f64>,
    /// In the second run.
    pub b: Option<f64>,
}

/// The first node whose artifacts differ.
#[derive(Serialize)]
pub struct First {
    /// Its name.
    pub node: String,
    /// Its kind.
    pub kind: String,
    /// The ports, with the digests of both runs.
    pub outputs: BTreeMap<String, [Option<Digest>; 2]>,
    /// Whether all that it took was the same.
    pub inputs_equal: bool,
    /// The inputs that differ, by port.
    pub inputs: Vec<String>,
    /// Whether its key was the same: then nothing that heddle knows of explains the difference.
    pub key_equal: bool,
    /// The fields of its key that differ, as far as the cache knows them still.
    pub key: Vec<Change>,
}

impl Difference {
    /// Compares two runs; `of_a` and `of_b` know what their keys are made of.
    pub fn of(a: &RunRecord, b: &RunRecord, of_a: Option<&dyn Known>, of_b: Option<&dyn Known>) -> Self {
        let made = |node: &&NodeRecord| !node.outputs.is_empty();
        let has = |record: &RunRecord, name: &str| record.nodes.iter().filter(made).any(|n| n.name == name);
        let only = |in_one: &RunRecord, other: &RunRecord| -> Vec<String> {
            let nodes = in_one.nodes.iter().filter(made).filter(|node| !has(other, &node.name));
            nodes.map(|node| node.name.clone()).collect()
        };
        let (mut equal, mut different, mut first) = (Vec::new(), Vec::new(), None);
        for old in a.nodes.iter().filter(made) {
            let Some(new) = b.nodes.iter().filter(made).find(|new| new.name == old.name) else { continue };
            let outputs = differing_outputs(old, new);
            if outputs.is_empty() {
                equal.push(old.name.clone());
                continue;
            }
            different.push(old.name.clone());
            first.get_or_insert_with(|| First::of(old, new, outputs, of_a, of_b));
        }
        Self {
            a: a.id.clone(),
            b: b.id.clone(),
            same: different.is_empty() && !equal.is_empty(),
            config: changes(&settings(&a.config), &settings(&b.config)),
            models: models(a, b),
            machine: changes(&leaves_of(&a.versions), &leaves_of(&b.versions)),
            metrics: pairs(a, b),
            equal,
            different,
            only_a: only(a, b),
            only_b: only(b, a),
            first,
        }
    }

    fn text(&self) -> String {
        let mut parts = vec![format!("a  {}\nb  {}", self.a, self.b)];
        let block = |title: &str, changes: &[Change]| {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}")).collect();
            format!("{title}\n{}", lines.join("\n"))
        };
        if !self.config.is_empty() {
            parts.push(block("configuration", &self.config));
        }
        for model in &self.models {
            parts.push(block(&format!("model of {}", model.nodes.join(", ")), &model.changes));
        }
        if !self.machine.is_empty() {
            parts.push(block("computed by", &self.machine));
        }
        if !self.metrics.is_empty() {
            parts.push(self.table());
        }
        parts.push(self.artifacts());
        parts.join("\n\n")
    }

    /// The measurements side by side; those that are the same are counted.
    fn table(&self) -> String {
        let (same, differing): (Vec<&Pair>, Vec<&Pair>) =
            self.metrics.iter().partition(|pair| pair.a.is_some() && pair.a == pair.b);
        let counted = format!("{} metrics are the same", same.len());
        if differing.is_empty() {
            return counted;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["metric", "a", "b", "b - a"]);
        for Pair { metric, a, b } in differing {
            let sign = if a.zip(*b).is_some_and(|(a, b)| b > a) { "+" } else { "" };
            let difference = metrics::show(metric, a.zip(*b).map(|(a, b)| b - a));
            let [a, b] = [a, b].map(|value| metrics::show(metric, *value));
            table.add_row([metric.clone(), a, b, format!("{sign}{difference}")]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if same.is_empty() { table.to_string() } else { format!("{table}\n{counted}") }
    }

    fn artifacts(&self) -> String {
        let mut lines = Vec::new();
        for (what, nodes) in [
            ("artifacts are the same", &self.equal),
            ("artifacts differ", &self.different),
            ("only in a", &self.only_a),
            ("only in b", &self.only_b),
        ] {
            if !nodes.is_empty() {
                lines.push(format!("{what}: {}", nodes.join(", ")));
            }
        }
        if self.equal.is_empty() && self.different.is_empty() {
            lines.push("the runs have no artifacts in common".to_owned());
        }
        lines.extend(self.first.as_ref().map(First::sentence));
        lines.join("\n")
    }
}

impl First {
    fn of(
        old: &NodeRecord,
        new: &NodeRecord,
        outputs: BTreeMap<String, [Option<Digest>; 2]>,
        of_old: Option<&dyn Known>,
        of_new: Option<&dyn Known>,
    ) -> Self {
        let of = |node: &NodeRecord| -> BTreeMap<String, Vec<Digest>> {
            let mut inputs: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
            node.inputs.iter().for_each(|i| inputs.entry(i.port.clone()).or_default().push(i.digest));
            inputs
        };
        let (before, after) = (of(old), of(new));
        let ports: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differ = ports.into_iter().filter(|port| before.get(*port) != after.get(*port));
        let inputs: Vec<String> = differ.cloned().collect();
        let parts = |known: Option<&dyn Known>, node: &NodeRecord| Some(known?.trace(&node.key?)?.parts);
        let key = match (parts(of_old, old), parts(of_new, new)) {
            (Some(old), Some(new)) => RunReason::compare(&old, &new),
            _ => Vec::new(),
        };
        Self {
            node: old.name.clone(),
            kind: old.kind.clone(),
            outputs,
            inputs_equal: inputs.is_empty(),
            inputs,
            key_equal: old.key == new.key,
            key,
        }
    }

    /// Where two runs part, in a sentence or two.
    pub fn sentence(&self) -> String {
        let digest = |digest: &Option<Digest>| digest.map_or("nothing".to_owned(), |d| d.short().to_string());
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .map(|(port, [a, b])| format!("{port} {} -> {}", digest(a), digest(b)))
            .collect();
        let mut text = format!("first difference: {} ({}): {}", self.node, self.kind, outputs.join(", "));
        text.push_str(&match self.inputs_equal {
            true => "\n  its inputs are equal".to_owned(),
            false => format!("\n  its inputs differ: {}", self.inputs.join(", ")),
        });
        let besides: Vec<String> = self
            .key
            .iter()
            .filter(|change| !change.field.starts_with("inputs."))
            .map(|change| format!("\n  {change}"))
            .collect();
        text.push_str(&besides.concat());
        if self.key_equal {
            text.push_str("\n  its key is the same: machine, program or node decided otherwise");
        } else if self.inputs_equal && besides.is_empty() {
            text.push_str("\n  its key differs, and the cache has forgotten in what");
        }
        text
    }
}

/// The ports of a node on which two runs gave something else.
fn differing_outputs(old: &NodeRecord, new: &NodeRecord) -> BTreeMap<String, [Option<Digest>; 2]> {
    let ports: BTreeSet<&String> = old.outputs.keys().chain(new.outputs.keys()).collect();
    let both = |port: &String| [old, new].map(|node| node.outputs.get(port).map(|output| output.digest));
    let both = ports.into_iter().map(|port| (port.clone(), both(port)));
    both.filter(|(_, [a, b])| a != b).collect()
}

/// The model graphs that nodes of both runs run and that differ, each pair once.
fn models(a: &RunRecord, b: &RunRecord) -> Vec<ModelChange> {
    let mut pairs: IndexMap<(usize, usize), Vec<String>> = IndexMap::new();
    for (node, old) in &a.graph_of {
        if let Some(new) = b.graph_of.get(node) {
            pairs.entry((*old, *new)).or_default().push(node.clone());
        }
    }
    let model = |record: &RunRecord, place: usize| leaves_of(&record.config["graphs"][place]);
    let compared = pairs
        .into_iter()
        .map(|((old, new), nodes)| ModelChange { nodes, changes: changes(&model(a, old), &model(b, new)) });
    compared.filter(|model| !model.changes.is_empty()).collect()
}

fn pairs(a: &RunRecord, b: &RunRecord) -> Vec<Pair> {
    let (old, new) = (metrics::of(a), metrics::of(b));
    let names: IndexSet<&String> = old.keys().chain(new.keys()).collect();
    let value =
        |name: &String| Pair { metric: name.clone(), a: old.get(name).copied(), b: new.get(name).copied() };
    names.into_iter().map(value).collect()
}

/// The configuration without what a run does not use: other variants. Model graphs are compared by the nodes that run them.
fn settings(config: &Json) -> IndexMap<String, String> {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        map.retain(|key, _| !["ablations", "sweeps", "graphs"].contains(&key.as_str()));
    }
    leaves_of(&config)
}

/// Every value under its key path.
fn leaves_of(value: &impl Serialize) -> IndexMap<String, String> {
    let mut leaves = IndexMap::new();
    flatten("", &serde_json::to_value(value).unwrap_or_default(), &mut leaves);
    leaves
}

fn flatten(path: &str, value: &Json, leaves: &mut IndexMap<String, String>) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            let dot = if path.is_empty() { "" } else { "." };
            map.iter().for_each(|(key, value)| flatten(&format!("{path}{dot}{key}"), value, leaves));
        }
        Json::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let items = items.iter().enumerate();
            items.for_each(|(place, value)| flatten(&format!("{path}[{place}]"), value, leaves));
        }
        other => {
            leaves.insert(path.to_owned(), other.to_string());
        }
    }
}

/// The leaves that differ, in the order of the files.
fn changes(old: &IndexMap<String, String>, new: &IndexMap<String, String>) -> Vec<Change> {
    let fields: IndexSet<&String> = old.keys().chain(new.keys()).collect();
    let differ = fields.into_iter().filter(|field| old.get(*field) != new.get(*field));
    differ
        .map(|field| Change {
            field: field.clone(),
            old: old.get(field).cloned(),
            new: new.get(field).cloned(),
        })
        .collect()
}
