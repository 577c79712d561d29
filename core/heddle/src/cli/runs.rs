//! `heddle runs`: what ran before.

use comfy_table::{Table, presets};
use heddle_graph::suggest;
use indexmap::{IndexMap, IndexSet};
use serde_json::{Value as Json, json};

use super::{
    args::{Common, RunsCommand, RunsLs, RunsOptions},
    exit::{Exit, Failure},
    explain::duration,
    home, metrics, output,
};
use crate::exec::{CellRecord, NodeState, RunRecord, RunsDir};

/// Runs the command.
pub fn run(options: &RunsOptions, common: &Common) -> Result<Exit, Failure> {
    let home = home::here(common);
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    match &options.command {
        RunsCommand::Ls(options) => list(&runs, &ids, options),
        RunsCommand::Show { id, json } => {
            let id = find(&ids, id).map_err(Failure::Other)?;
            let record = read(&runs, id)?;
            if *json {
                output::json(&record)?;
            } else {
                output::result(&show(&record, &runs));
            }
            Ok(Exit::Done)
        }
    }
}

fn read(runs: &RunsDir, id: &str) -> Result<RunRecord, Failure> {
    runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))
}

/// The run that is meant: `latest` or `last`, an id, or the start of exactly one.
pub fn find<'a>(ids: &'a [String], wanted: &str) -> Result<&'a str, String> {
    if ["latest", "last"].contains(&wanted) {
        return ids.last().map(String::as_str).ok_or_else(|| "there are no runs yet".to_owned());
    }
    let matching: Vec<&String> = ids.iter().filter(|id| id.starts_with(wanted)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("there is no run `{wanted}`; `heddle runs ls` lists them")),
        several => Err(format!("`{wanted}` is the start of {} runs; give more of the id", several.len())),
    }
}

/// One line of the list.
struct Listed {
    record: RunRecord,
    metrics: IndexMap<String, f64>,
}

fn list(runs: &RunsDir, ids: &[String], options: &RunsLs) -> Result<Exit, Failure> {
    let mut listed: Vec<Listed> = Vec::new();
    for id in ids {
        match read(runs, id) {
            Ok(record) => listed.push(Listed { metrics: metrics::of(&record), record }),
            Err(failure) => output::note(&format!("left out: {failure}")),
        }
    }
    let mut shown = Vec::new();
    if options.sort_by != "time" {
        let metric = metric_of(&listed, &options.sort_by)?;
        sort(&mut listed, &metric);
        shown.push(metric);
    }
    let rows: Vec<&IndexMap<String, f64>> = listed.iter().map(|one| &one.metrics).collect();
    for pattern in &options.metric {
        let meant = metrics::choose(&rows, std::slice::from_ref(pattern));
        if meant.is_empty() {
            return Err(unknown_metric(&listed, pattern));
        }
        shown.extend(meant.into_iter().filter(|name| !shown.contains(name)).collect::<Vec<_>>());
    }
    if options.json {
        output::json(&listed.iter().map(Listed::json).collect::<Vec<_>>())?;
    } else if options.csv {
        output::result(&csv(&listed, &shown)?);
    } else if options.md {
        output::result(&markdown(&listed, &shown));
    } else {
        output::result(&terminal(&listed, &shown));
    }
    Ok(Exit::Done)
}

/// The metric that a name stands for.
fn metric_of(listed: &[Listed], pattern: &str) -> Result<String, Failure> {
    let rows: Vec<&IndexMap<String, f64>> = listed.iter().map(|one| &one.metrics).collect();
    let Some((name, others)) = metrics::stands_for(&rows, pattern) else {
        return Err(unknown_metric(listed, pattern));
    };
    if others > 0 {
        output::note(&format!("`{pattern}` stands for {name} here, and for {others} more"));
    }
    Ok(name)
}

fn unknown_metric(listed: &[Listed], pattern: &str) -> Failure {
    let names: IndexSet<&str> =
        listed.iter().flat_map(|one| one.metrics.keys().map(String::as_str)).collect();
    let last = names.iter().map(|name| name.rsplit('/').next().unwrap_or(name));
    let known: IndexSet<&str> = names.iter().copied().chain(last).collect();
    let help = suggest::help(pattern, known).map_or(String::new(), |help| format!("; {help}"));
    Failure::Other(format!("no run has a metric `{pattern}`{help}"))
}

/// The best first; of a loss that is the smallest. Runs without the metric are last, in the order of time.
fn sort(listed: &mut [Listed], metric: &str) {
    let down = metric.ends_with("/loss");
    listed.sort_by(|a, b| match (a.metrics.get(metric), b.metrics.get(metric)) {
        (Some(a), Some(b)) if down => a.total_cmp(b),
        (Some(a), Some(b)) => b.total_cmp(a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
}

/// What the list says of a run besides metrics.
const COLUMNS: [&str; 8] = ["run", "state", "ran", "hits", "time", "seed", "cell", "file"];

impl Listed {
    fn json(&self) -> Json {
        let record = &self.record;
        json!({
            "id": record.id,
            "file": record.file,
            "state": record.state,
            "seconds": record.seconds,
            "seed": record.seed,
            "cell": record.cell,
            "group": record.group,
            "replays": record.replays,
            "metrics": self.metrics,
        })
    }

    /// The values of [`COLUMNS`].
    fn words(&self, time: impl Fn(f64) -> String) -> Vec<String> {
        let record = &self.record;
        let count = |state| record.nodes.iter().filter(|node| node.state == state).count().to_string();
        vec![
            record.id.clone(),
            record.state.clone(),
            count(NodeState::Ran),
            count(NodeState::Hit),
            time(record.seconds),
            record.seed.to_string(),
            record.cell.as_ref().map(CellRecord::label).unwrap_or_default(),
            record.file.clone(),
        ]
    }

    fn numbers<'a>(
        &'a self,
        shown: &'a [String],
        show: impl Fn(&str, Option<f64>) -> String + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        shown.iter().map(move |name| show(name, self.metrics.get(name).copied()))
    }
}

fn terminal(listed: &[Listed], shown: &[String]) -> String {
    // A column that says nothing of any run is left out.
    let cells = listed.iter().any(|one| one.record.cell.is_some());
    let keep = |words: Vec<String>| -> Vec<String> {
        let words = words.into_iter().zip(COLUMNS);
        words.filter(|(_, column)| cells || *column != "cell").map(|(word, _)| word).collect()
    };
    let mut table = Table::new();
    let header = keep(COLUMNS.map(str::to_owned).to_vec());
    let header = header.into_iter().chain(shown.iter().map(|name| name.replace('/', "\n")));
    table.load_style(presets::NOTHING).set_header(header);
    for one in listed {
        table.add_row(keep(one.words(duration)).into_iter().chain(one.numbers(shown, metrics::show)));
    }
    table.to_string()
}

fn markdown(listed: &[Listed], shown: &[String]) -> String {
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let header: Vec<String> = COLUMNS.map(str::to_owned).into_iter().chain(shown.iter().cloned()).collect();
    let rule = [vec!["---"; COLUMNS.len()], vec!["---:"; shown.len()]].concat().join("|");
    let rows = listed.iter().map(|one| {
        line(one.words(duration).into_iter().chain(one.numbers(shown, metrics::show)).collect::<Vec<_>>())
    });
    std::iter::once(line(header) + &format!("|{rule}|\n")).chain(rows).collect()
}

/// All digits, and of every run all that was asked for.
fn csv(listed: &[Listed], shown: &[String]) -> Result<String, Failure> {
    let failed = |error: String| Failure::Other(format!("csv: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = COLUMNS.into_iter().chain(shown.iter().map(String::as_str));
    writer.write_record(header).map_err(|error| failed(error.to_string()))?;
    let exact = |_: &str, value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for one in listed {
        let words = one.words(|seconds| format!("{seconds:.3}"));
        writer
            .write_record(words.into_iter().chain(one.numbers(shown, exact)))
            .map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
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
    if let Some(cell) = &record.cell {
        let of = record.group.as_ref().map_or(String::new(), |group| format!(" of set {group}"));
        lines.push(format!("cell: {}{of}", cell.label()));
    }
    lines.extend(record.replays.as_ref().map(|run| format!("computed again: run {run}")));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "node",
        "kind",
        "state",
        "time",
        "predicted",
        "artifacts",
        "why",
    ]);
    for node in &record.nodes {
        let state = serde_json::to_value(node.state)
            .ok()
            .and_then(|s| s.as_str().map(str::to_owned))
            .unwrap_or_default();
        let outputs: Vec<String> =
            node.outputs.iter().map(|(port, out)| format!("{port} {}", out.digest.short())).collect();
        let time = if node.seconds > 0.0 { duration(node.seconds) } else { String::new() };
        let predicted = node.predicted_seconds.map(duration).unwrap_or_default();
        let why = node.error.clone().unwrap_or_else(|| node.why.clone());
        let (name, kind) = (node.name.clone(), node.kind.clone());
        table.add_row([name, kind, state, time, predicted, outputs.join("\n"), why]);
    }
    lines.push(table.to_string());
    lines.push(format!("artifacts: {}", runs.dir(&record.id).join("artifacts").display()));
    lines.join("\n")
}
