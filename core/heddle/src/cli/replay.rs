//! `heddle replay`: a past run's results out of the cache, or computed again and compared.

use std::{collections::BTreeMap, path::Path};

use heddle_graph::source::Load;
use serde_json::json;

use super::{
    args::{Common, ReplayOptions},
    cells,
    diff::Difference,
    execute::{self, Order},
    exit::{Exit, Failure},
    home, output,
    plan::Memory,
    prepare::{Asked, Driver, Prepared, open_store},
    progress::Show,
    runs,
};
use crate::{
    exec::{CacheUse, Outcome, RunRecord, RunsDir},
    files::Disk,
    project::{self, Project},
};

/// Runs the command.
pub fn run(options: &ReplayOptions, common: &Common, arguments: Vec<String>) -> Result<Exit, Failure> {
    // Computing again may change the folder; relative paths of before still count.
    let home = home::here(common);
    let home = std::path::absolute(&home).unwrap_or(home);
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    let id = runs::find(&ids, &options.run).map_err(Failure::Other)?;
    let record = runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))?;
    if options.recompute {
        recompute(&record, &home, &runs, options, common, arguments)
    } else {
        bring_back(&record, &home, &runs, options)
    }
}

/// Writes the artifacts of a run anew, all of them or none.
fn bring_back(
    record: &RunRecord,
    home: &Path,
    runs: &RunsDir,
    options: &ReplayOptions,
) -> Result<Exit, Failure> {
    let used = options.caches.with_that_of(record)?;
    let store = open_store(home, &format!("replay {}", record.id), options.wait, &used)?;
    let folder = runs.dir(&record.id).join("artifacts");
    let (mut files, mut tables, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for node in &record.nodes {
        for (port, output) in &node.outputs {
            let name = format!("{}.{port}", node.name);
            let Some(bytes) = store.artifact(&output.digest)? else {
                gone.push(name);
                continue;
            };
            if port == "txt" {
                tables.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            let file = output.file.as_ref().unwrap_or(&name);
            if Path::new(file).file_name() != Some(file.as_ref()) {
                return Err(Failure::Other(format!(
                    "the record of run {} is damaged: `{file}` is no name of an artifact; nothing was written, the cache has `{name}` \
                     as {}",
                    record.id, output.digest
                )));
            }
            files.push((folder.join(file), bytes));
        }
    }
    if !gone.is_empty() {
        return Err(Failure::Other(format!(
            "the cache has no more of run {}: {}; `heddle replay {0} --recompute` computes it again",
            record.id,
            gone.join(", ")
        )));
    }
    if files.is_empty() {
        return Err(Failure::Other(format!("run {} ({}) made no artifacts", record.id, record.state)));
    }
    std::fs::create_dir_all(&folder)
        .map_err(Failure::io(format!("making the folder {}", folder.display())))?;
    for (file, bytes) in &files {
        std::fs::write(file, &**bytes).map_err(Failure::io(format!("writing {}", file.display())))?;
    }
    if options.json {
        output::json(&json!({ "run": record.id, "artifacts": folder, "files": files.len() }))?;
    } else {
        tables.iter().for_each(|table| output::result(table));
    }
    output::note(&format!(
        "run {}: {} artifacts from the cache, nothing was computed\nartifacts: {}",
        record.id,
        files.len(),
        folder.display()
    ));
    Ok(Exit::Done)
}

/// The texts that a run was read from, before the files of today.
struct Kept<'a>(&'a BTreeMap<String, String>);

impl Load for Kept<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).map_or_else(|| Disk.read(path), |text| Ok(text.as_bytes().to_vec()))
    }

    fn resolve(&self, base_file: &str, path: &str) -> String {
        Disk.resolve(base_file, path)
    }

    fn is_folder(&self, path: &str) -> bool {
        Disk.is_folder(path)
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        Disk.expand(pattern)
    }
}

/// The experiment of a run, as its record keeps it.
fn experiment(record: &RunRecord) -> Result<Project, Failure> {
    if !record.texts.contains_key(&record.file) {
        return Err(Failure::Other(format!(
            "the record of run {} does not keep its experiment; an earlier heddle wrote it",
            record.id
        )));
    }
    let kept = Kept(&record.texts);
    let base = project::load_from(&kept, &record.file, &record.set)?;
    let Some(cell) = &record.cell else { return Ok(base) };
    let missing =
        || Failure::Other(format!("run {} was {}, which it does not keep", record.id, cell.label()));
    let cell = cells::find_cell(&base, cell).ok_or_else(missing)?;
    Ok(base.of_cell(&cell, &kept)?)
}

/// Runs the experiment of a run in a cache of its own, where nothing is known, and compares every artifact.
fn recompute(
    record: &RunRecord,
    home: &Path,
    runs: &RunsDir,
    options: &ReplayOptions,
    common: &Common,
    arguments: Vec<String>,
) -> Result<Exit, Failure> {
    if !record.nodes.iter().any(|node| !node.outputs.is_empty()) {
        return Err(Failure::Other(format!("run {} ({}) made no artifacts", record.id, record.state)));
    }
    let folder = home::place_of(home, &record.folder);
    if !record.folder.is_empty() && folder.is_dir() {
        std::env::set_current_dir(&folder)
            .map_err(Failure::io(format!("going to the folder of the run, {}", folder.display())))?;
    }
    let project = experiment(record)?;
    // What is finished there is kept until all is, so that a long replay can be interrupted.
    let place = home.join("replays").join(&record.id);
    let alone = CacheUse { paranoid: options.caches.paranoid, ..CacheUse::default() };
    let store = open_store(&place, &format!("replay {}", record.id), options.wait, &alone)?;
    let asked = Asked { nodes: &record.asked, threads: options.threads.map(usize::from), ..Asked::default() };
    let ready = Prepared::on(project, store, asked)?;
    let order = Order {
        folder: home::working_folder(home),
        arguments,
        asked: record.asked.clone(),
        cell: record.cell.clone(),
        group: None,
        replays: Some(record.id.clone()),
        beside_others: false,
    };
    let driver = Driver::new()?;
    let done = execute::run(&ready, &driver, runs, order, Show::usual(common.quiet), |_| Ok(()))?;
    if done.outcome == Outcome::Interrupted {
        return Ok(done.conclude());
    }
    // The old keys are the cache's; if another heddle holds it, the difference is said with fewer words.
    let memory = Memory::open(home, "replay", false, &CacheUse::default()).ok();
    let difference =
        Difference::of(record, &done.record, memory.as_ref().map(Memory::known), Some(&ready.store));
    let missing = difference.only_a.clone();
    if done.outcome == Outcome::Failed && !missing.is_empty() {
        done.conclude();
        output::note(&format!("nothing to compare with: {}", missing.join(", ")));
        return Ok(Exit::Failed);
    }
    drop(ready);
    std::fs::remove_dir_all(&place).map_err(Failure::io(format!("removing {}", place.display())))?;
    if options.json {
        output::json(&difference)?;
    } else if let Some(first) = &difference.first {
        output::result(&first.sentence());
        output::result(&format!("artifacts differ: {}", difference.different.join(", ")));
    } else {
        output::result(&format!("every artifact of {} nodes is the same", difference.equal.len()));
    }
    output::note(&format!("run {} computed run {} again", done.record.id, record.id));
    let same = difference.same && missing.is_empty();
    Ok(if same { Exit::Done } else { Exit::Different })
}
