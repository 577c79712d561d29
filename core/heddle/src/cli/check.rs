//! `heddle check`: every mistake at once, and how large the models are.

use std::{collections::BTreeMap, sync::Arc};

use comfy_table::{CellAlignment, Table, presets};
use heddle_graph::{
    config::{FileKind, file_kind},
    graph::Node,
};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    args::{CheckOptions, Common},
    cut,
    exit::{Exit, Failure},
    leaks::Leak,
    output, plan,
};
use crate::{
    files::{self, Disk},
    model::ModelGraph,
    project::{self, Broken, Project},
};

/// Runs the command: all files are checked, whatever is wrong with the first.
pub fn run(options: &CheckOptions, common: &Common) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for file in &options.files {
        match check(file, &options.set, common) {
            Ok(checked) if options.json => documents.push(checked.json),
            Ok(checked) => output::result(&checked.text),
            Err(broken) => {
                output::diagnostics(&broken);
                exit = Exit::FilesWrong;
            }
        }
    }
    if options.json {
        output::result(
            &serde_json::to_string_pretty(&documents).map_err(|error| Failure::Other(error.to_string()))?,
        );
    }
    Ok(exit)
}

struct Checked {
    text: String,
    json: Json,
}

fn check(file: &str, set: &[String], common: &Common) -> Result<Checked, Box<Broken>> {
    let text =
        files::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    match file_kind(&text) {
        FileKind::ModelGraph => {
            let model = project::load_model(file, set)?;
            let (table, json) = sizes(&model);
            Ok(Checked {
                text: format!("{file}: correct\n{table}\n"),
                json: json!({ "file": file, "model": json }),
            })
        }
        FileKind::Experiment => {
            let project = project::load(file, set)?;
            // The base is the first, and checked.
            project.check_cells(&project.cells()[1..], &Disk)?;
            Ok(experiment(file, &project, &leaks(file, &project, common)))
        }
    }
}

/// Leaks among records that the cache has. A file is correct whatever else is there, so that it cannot be found out is no error.
fn leaks(file: &str, project: &Project, common: &Common) -> Vec<Leak> {
    plan::leaks_of(project, file, common).unwrap_or_else(|failure| {
        output::note(&format!("not looked for leaks between training and evaluation: {failure}"));
        Vec::new()
    })
}

fn experiment(file: &str, project: &Project, leaks: &[Leak]) -> Checked {
    let graph = &project.graph;
    let mut models: BTreeMap<*const ModelGraph, (Arc<ModelGraph>, Vec<String>)> = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        if let Some(model) = node.spec.model() {
            let (_, users) = models.entry(Arc::as_ptr(model)).or_insert_with(|| (model.clone(), Vec::new()));
            users.push(node.name.clone());
        }
    }
    let stages: Vec<Stage> = graph.ids().filter_map(|id| stage(graph.node(id))).collect();
    let experiment = &project.experiment;
    let cells: usize = experiment.sweeps.values().map(Vec::len).sum();
    let mut text = format!("{file}: correct; {} nodes", graph.len());
    for (count, what) in [(experiment.ablations.len(), "ablations"), (cells, "sweep cells")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push('\n');
    let mut documents = Vec::new();
    // In the order of their first user, not of their addresses.
    let mut models: Vec<_> = models.into_values().collect();
    models.sort_by_key(|(_, users)| graph.find(&users[0]));
    for (model, users) in models {
        let (table, json) = sizes(&model);
        text.push_str(&format!("model of {}\n{table}\n", users.join(", ")));
        documents.push(json!({ "nodes": users, "model": json }));
    }
    for Stage { node, trained, parameters, cut } in &stages {
        text.push_str(&format!(
            "{node} trains {} of {} parameters\n",
            grouped(*trained),
            grouped(*parameters)
        ));
        for line in cut.iter().filter_map(|cut| cut.line(node)) {
            text.push_str(&format!("{line}\n"));
        }
    }
    leaks.iter().for_each(|leak| text.push_str(&format!("{}\n", leak.line())));
    let json = json!({ "file": file, "nodes": graph.len(), "leaks": leaks, "ablations": experiment.ablations.len(), "sweep_cells": cells, "models": documents, "stages": stages });
    Checked { text, json }
}

/// How much of its model a training stage trains.
#[derive(Serialize)]
struct Stage {
    node: String,
    trained: u64,
    parameters: u64,
    cut: Option<cut::Summary>,
}

/// The sizes of a node that trains something.
fn stage(node: &Node<dyn crate::nodes::Node>) -> Option<Stage> {
    let (mut trained, mut all) = (0, 0);
    for parameter in node.spec.model()?.parameters() {
        let len = parameter.spec.len() as u64;
        all += len;
        trained += if node.spec.trains(&parameter.name)? { len } else { 0 };
    }
    let model = node.spec.model()?;
    let cut = node.spec.cut().map(|cut| cut::summary(model, &cut));
    Some(Stage { node: node.name.clone(), trained, parameters: all, cut })
}

/// Parameters and multiply-adds of every node that has some.
fn sizes(model: &ModelGraph) -> (String, Json) {
    let sizes = model.sizes();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["node", "kind", "parameters", "GMACs per record"]);
    let show_macs =
        |macs: Option<u64>| macs.map_or("?".to_owned(), |macs| format!("{:.3}", macs as f64 / 1e9));
    for size in sizes.iter().filter(|size| size.parameters > 0 || size.macs.is_some_and(|macs| macs > 0)) {
        table.add_row([size.node.clone(), size.kind.clone(), grouped(size.parameters), show_macs(size.macs)]);
    }
    let parameters: u64 = sizes.iter().map(|size| size.parameters).sum();
    let macs: Option<u64> =
        sizes.iter().filter(|size| size.kind.starts_with("model.")).map(|size| size.macs).sum();
    table.add_row(["total".to_owned(), String::new(), grouped(parameters), show_macs(macs)]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    (table.to_string(), json!({ "nodes": sizes, "parameters": parameters, "macs": macs }))
}

/// `5902793600` as `5,902,793,600`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(
            [0, 12, 123, 1234, 5_902_793_600].map(grouped),
            ["0", "12", "123", "1,234", "5,902,793,600"]
        );
    }
}
