//! `heddle runs`: what ran before.

use comfy_table::{Table, presets};
use serde_json::json;

use super::{
    args::{Common, RunsCommand, RunsOptions},
    exit::{Exit, Failure},
    explain::duration,
    home, output,
};
use crate::exec::{NodeState, RunRecord, RunsDir};

/// Runs the command.
pub fn run(options: &RunsOptions, common: &Common) -> Result<Exit, Failure> {
    let home = home::here(common);
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    match &options.command {
        RunsCommand::Ls { json } => list(&runs, &ids, *json),
        RunsCommand::Show { id, json } => {
            let id = find(&ids, id).map_err(Failure::Other)?;
            let record = read(&runs, id)?;
            let text = if *json { pretty(&record)? } else { show(&record, &runs) };
            output::result(&text);
            Ok(Exit::Done)
        }
    }
}

fn read(runs: &RunsDir, id: &str) -> Result<RunRecord, Failure> {
    runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))
}

fn pretty(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))
}

/// The run that is meant: `last`, an id, or the start of exactly one.
pub fn find<'a>(ids: &'a [String], wanted: &str) -> Result<&'a str, String> {
    if wanted == "last" {
        return ids.last().map(String::as_str).ok_or_else(|| "there are no runs yet".to_owned());
    }
    let matching: Vec<&String> = ids.iter().filter(|id| id.starts_with(wanted)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("there is no run `{wanted}`; `heddle runs ls` lists them")),
        several => Err(format!("`{wanted}` is the start of {} runs; give more of the id", several.len())),
    }
}

fn list(runs: &RunsDir, ids: &[String], as_json: bool) -> Result<Exit, Failure> {
    let mut records: Vec<RunRecord> = Vec::new();
    for id in ids {
        match read(runs, id) {
            Ok(record) => records.push(record),
            Err(failure) => output::note(&format!("left out: {failure}")),
        }
    }
    if as_json {
        let rows = records.iter().map(|record| {
            json!({ "id": record.id, "file": record.file, "state": record.state, "seconds": record.seconds, "seed": record.seed })
        });
        output::result(&pretty(&rows.collect::<Vec<serde_json::Value>>())?);
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["run", "state", "ran", "hits", "time", "seed", "file"]);
    for record in &records {
        let count = |state| record.nodes.iter().filter(|node| node.state == state).count().to_string();
        table.add_row([
            record.id.clone(),
            record.state.clone(),
            count(NodeState::Ran),
            count(NodeState::Hit),
            duration(record.seconds),
            record.seed.to_string(),
            record.file.clone(),
        ]);
    }
    output::result(&table.to_string());
    Ok(Exit::Done)
}

fn show(record: &RunRecord, runs: &RunsDir) -> String {
    let versions = &record.versions;
    let mut lines = vec![
        format!("run {} of {}: {} in {}", record.id, record.file, record.state, duration(record.seconds)),
        format!(
            "heddle {}, {} on {} threads, {} ({}), seed {}",
            versions.heddle,
            versions.device,
            versions.threads,
            versions.platform,
            versions.cpu_features.join(" "),
            record.seed
        ),
        format!("command: heddle {}", record.arguments.join(" ")),
    ];
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["node", "kind", "state", "time", "artifacts", "why"]);
    for node in &record.nodes {
        let state = serde_json::to_value(node.state)
            .ok()
            .and_then(|s| s.as_str().map(str::to_owned))
            .unwrap_or_default();
        let outputs: Vec<String> =
            node.outputs.iter().map(|(port, out)| format!("{port} {}", out.digest.short())).collect();
        let time = if node.seconds > 0.0 { duration(node.seconds) } else { String::new() };
        let why = node.error.clone().unwrap_or_else(|| node.why.clone());
        table.add_row([node.name.clone(), node.kind.clone(), state, time, outputs.join("\n"), why]);
    }
    lines.push(table.to_string());
    lines.push(format!("artifacts: {}", runs.dir(&record.id).join("artifacts").display()));
    lines.join("\n")
}
