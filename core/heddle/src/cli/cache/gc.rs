//! `heddle cache gc`, and what follows a run whose experiment limits the cache.

use heddle_cache::Freed;
use serde_json::{Value as Json, json};

use super::bytes;
use crate::{
    cli::{
        exit::{Exit, Failure},
        explain::duration,
        output,
    },
    exec::{Gone, Outcome, Pin, RunRecord, Sort, Spared, Store, Sweep},
    project::Project,
};

/// So many things are named one by one.
const LARGEST: usize = 10;

/// What is asked of `gc`.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Most bytes that stay.
    pub budget: Option<u64>,
    /// Only say it.
    pub dry: bool,
    /// As JSON.
    pub json: bool,
}

/// Runs the command.
pub fn run(store: &Store, asked: Asked) -> Result<Exit, Failure> {
    let sweep = store.sweep(asked.budget, &Spared::default())?;
    let freed = if asked.dry { Freed::default() } else { store.remove(&sweep)? };
    let text = if asked.json { document(&sweep, asked, freed).to_string() } else { words(&sweep, asked) };
    output::result(&text);
    Ok(Exit::Done)
}

/// Holds the cache to the size that the experiment allows, sparing what the run used. A run that was stopped or failed keeps
/// everything: it will go on. One that keeps nothing has no say.
pub fn after_run(
    project: &Project,
    store: &Store,
    record: &RunRecord,
    outcome: Outcome,
) -> Result<(), Failure> {
    let Some(budget) = project.experiment.cache.max_size else { return Ok(()) };
    if outcome != Outcome::Done || !store.is_lasting() || held(store)? <= budget {
        return Ok(());
    }
    let sweep = store.sweep(Some(budget), &Spared::run(&Pin::of(record)))?;
    store.remove(&sweep)?;
    let asked = Asked { budget: Some(budget), dry: false, json: false };
    output::note(&format!("cache: {}", summary(&sweep, asked)));
    Ok(())
}

/// Bytes of all payloads in the packs.
fn held(store: &Store) -> Result<u64, Failure> {
    Ok(store.cache().usage().map_err(crate::exec::StoreError::from)?.pack_bytes)
}

/// What goes, in numbers.
#[derive(Debug, Default)]
struct Totals {
    artifacts: u64,
    rows: u64,
    checkpoints: u64,
    bytes: u64,
    seconds: f64,
}

impl Totals {
    fn of(sweep: &Sweep) -> Self {
        sweep.gone.iter().fold(Self::default(), |mut totals, gone| {
            match gone.sort {
                Sort::Artifact => totals.artifacts += 1,
                Sort::Rows(count) => totals.rows += count,
                Sort::Checkpoint => totals.checkpoints += 1,
            }
            totals.bytes += gone.bytes;
            totals.seconds += gone.seconds.unwrap_or(0.0);
            totals
        })
    }
}

/// The largest things that go.
fn largest(sweep: &Sweep) -> Vec<&Gone> {
    let mut largest: Vec<&Gone> = sweep.gone.iter().collect();
    largest.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    largest.truncate(LARGEST);
    largest
}

fn words(sweep: &Sweep, asked: Asked) -> String {
    let mut lines = vec![summary(sweep, asked)];
    for gone in largest(sweep) {
        let what = match gone.sort {
            Sort::Artifact | Sort::Checkpoint => gone.name.clone(),
            Sort::Rows(count) => format!("{count} {}", gone.name),
        };
        let cost = gone.seconds.map_or("?".to_owned(), duration);
        lines.push(format!("{:>10}  {cost:>8}  {what}", bytes(gone.bytes)));
    }
    lines.join("\n")
}

fn summary(sweep: &Sweep, asked: Asked) -> String {
    let totals = Totals::of(sweep);
    let word = if asked.dry { "would remove" } else { "removed" };
    let counts = [
        (totals.artifacts, "artifacts", true),
        (totals.rows, "rows", totals.rows > 0),
        (totals.checkpoints, "checkpoints", totals.checkpoints > 0),
    ];
    let counts = counts.iter().filter(|(.., said)| *said).map(|(count, name, _)| format!("{count} {name}"));
    let mut text = format!("{word} {}", counts.collect::<Vec<_>>().join(", "));
    if !sweep.gone.is_empty() {
        text += &format!(" ({}, {} to compute again)", bytes(totals.bytes), duration(totals.seconds));
    }
    let verb = if asked.dry { "names" } else { "named" };
    text += &format!(
        " and {} payloads that nothing {verb} ({}); {} {}",
        sweep.garbage,
        bytes(sweep.garbage_bytes),
        bytes(sweep.left),
        if asked.dry { "would be left" } else { "left" },
    );
    if let Some(budget) = asked.budget.filter(|budget| *budget < sweep.left) {
        text += &format!(", more than {}: all of it is pinned or in use", bytes(budget));
    }
    text
}

fn document(sweep: &Sweep, asked: Asked, freed: Freed) -> Json {
    let totals = Totals::of(sweep);
    let largest = largest(sweep).into_iter().map(|gone| {
        let (sort, rows) = match gone.sort {
            Sort::Artifact => ("artifact", None),
            Sort::Rows(count) => ("rows", Some(count)),
            Sort::Checkpoint => ("checkpoint", None),
        };
        json!({ "what": sort, "name": gone.name, "rows": rows, "bytes": gone.bytes, "seconds": gone.seconds })
    });
    json!({
        "dry": asked.dry,
        "artifacts": totals.artifacts,
        "rows": totals.rows,
        "checkpoints": totals.checkpoints,
        "bytes": totals.bytes,
        "seconds": totals.seconds,
        "garbage": { "payloads": sweep.garbage, "bytes": sweep.garbage_bytes },
        "left_bytes": sweep.left,
        "freed_pack_bytes": freed.pack_bytes,
        "largest": largest.collect::<Vec<Json>>(),
    })
}
