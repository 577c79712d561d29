//! Variants of an experiment: which are meant, and running them as one set.
//!
//! ```text
//! --ablation, --sweep, --all  --select-->  Cell ...  --run, one after the other or side by side, one cache-->  run records
//! group.json, written at every step: what is done, what is left                                     |
//!                                                    sweep.csv, table.md, SWEEP.svg  <--table, plot-+
//! ```

pub mod plan;
mod plot;
mod select;
mod table;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use super::{
    args::{Common, RunOptions},
    cache,
    execute::{self, Order},
    exit::{Exit, Failure},
    home, output,
    prepare::{Asked, Driver, Prepared, open_store},
    progress::Show,
};
use crate::{
    exec::{CellRecord, CellState, GroupCell, GroupRecord, GroupsDir, Outcome, RunRecord, RunsDir, Store},
    files::Disk,
    project::{self, Cell, Project},
};
use select::unfinished;
pub use select::{find as find_cell, select};
use table::Cells;

/// Runs variants on one cache, and shows them side by side.
pub fn run(options: &RunOptions, common: &Common, arguments: Vec<String>) -> Result<Exit, Failure> {
    let target = &options.target;
    let home = home::of_experiment(common, &target.file);
    let groups = GroupsDir::new(&home);
    let last = match options.retry {
        Some(_) => Some(select::last_group(&groups, &home, &target.file)?),
        None => None,
    };
    let set: Vec<String> = last.iter().flat_map(|group| &group.set).chain(&target.set).cloned().collect();
    let base = project::load(&target.file, &set)?;
    let (cells, mut group) = match last {
        Some(mut group) => {
            group.set = set;
            unfinished(&base, group)
        }
        None => {
            let cells = select(&base, &options.variants)?;
            let waiting =
                |cell: &Cell| GroupCell { cell: cell.record.clone(), state: CellState::Waiting, run: None };
            let group = GroupRecord {
                id: String::new(),
                file: target.file.clone(),
                folder: String::new(),
                arguments: arguments.clone(),
                set,
                asked: target.nodes.clone(),
                cells: cells.iter().map(waiting).collect(),
            };
            (cells, group)
        }
    };
    base.check_cells(&cells, &Disk)?;
    for cell in &cells {
        // What no variant has is said before anything runs.
        let variant = base.of_cell(cell, &Disk)?;
        variant.places(&group.asked)?;
        check_remote(&base, &variant, &cell.record)?;
    }
    let used = target.caches.with(base.experiment.cache.remote.as_deref())?;
    let store = open_store(&home, &format!("run {}", target.file), target.wait, &used)?;
    let folder = home::working_folder(&home);
    if group.id.is_empty() {
        group.folder = folder.clone();
        group.id = groups.create(crate::now_unix()).map_err(Failure::io("making the folder of the set"))?;
    }
    let runs = RunsDir::new(&home);
    let side_by_side = options.max_parallel.map_or(1, usize::from).min(cells.len().max(1));
    let threads = match side_by_side {
        1 => options.threads.map(usize::from),
        count => Some((threads_of(options, &base) / count).max(1)),
    };
    let quiet = common.quiet;
    let series =
        Series { options, quiet, arguments, folder, base: &base, store, runs, groups, side_by_side, threads };
    series.run(&cells, group)
}

/// Refuses a variant with a remote of its own: all go through one cache.
pub fn check_remote(base: &Project, variant: &Project, cell: &CellRecord) -> Result<(), Failure> {
    if variant.experiment.cache.remote == base.experiment.cache.remote {
        return Ok(());
    }
    let message = format!("variant {} changes `cache.remote`; all variants use one cache", cell.label());
    Err(Failure::Other(message))
}

/// What all runs of a set have in common.
struct Series<'a> {
    options: &'a RunOptions,
    quiet: bool,
    folder: String,
    arguments: Vec<String>,
    base: &'a Project,
    store: Store,
    runs: RunsDir,
    groups: GroupsDir,
    /// How many variants run at a time.
    side_by_side: usize,
    /// Threads of each.
    threads: Option<usize>,
}

/// The threads that a run alone would have.
fn threads_of(options: &RunOptions, base: &Project) -> usize {
    let asked = options.threads.map(usize::from).or(base.experiment.run.threads);
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// What is known of a set while it runs.
struct Going<'a> {
    group: &'a mut GroupRecord,
    exit: Exit,
    /// Nothing starts any more.
    stopped: bool,
    /// The last run that ended: when all have, the cache is swept as behind it.
    last: Option<(Project, RunRecord, Outcome)>,
}

impl Series<'_> {
    fn run(&self, cells: &[Cell], mut group: GroupRecord) -> Result<Exit, Failure> {
        let driver = Driver::new()?;
        self.write(&group)?;
        let going = Going { group: &mut group, exit: Exit::Done, stopped: false, last: None };
        let (going, next) = (Mutex::new(going), AtomicUsize::new(0));
        let work = || -> Result<(), Failure> {
            while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                if lock(&going).stopped {
                    break;
                }
                if driver.is_stopped() {
                    lock(&going).exit = Exit::Interrupted;
                    break;
                }
                let place = cells.iter().position(|other| std::ptr::eq(other, cell)).unwrap_or(0) + 1;
                output::note(&format!("cell {place} of {}: {}", cells.len(), cell.record.label()));
                self.one(cell, &going, &driver)?;
            }
            Ok(())
        };
        let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..self.side_by_side).map(|_| scope.spawn(work)).collect();
            let own = work();
            let panicked =
                |_| Err(Failure::Other("internal error, please report it: a variant's thread died".into()));
            let others = workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked));
            std::iter::once(own).chain(others).collect()
        });
        let Going { exit, last, .. } = going.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        if let Some((project, record, outcome)) = last {
            cache::after_run(&project, &self.store, &record, outcome)?;
        }
        self.conclude(&group, exit)
    }

    fn write(&self, group: &GroupRecord) -> Result<(), Failure> {
        self.groups.write(group).map_err(Failure::io("writing the record of the set"))
    }

    /// Runs one variant and notes how it ended.
    fn one(&self, cell: &Cell, going: &Mutex<Going<'_>>, driver: &Driver) -> Result<(), Failure> {
        let state = match self.cell(cell, going, driver) {
            Ok(state) => state,
            // It could not start; whether the others do is for `--keep-going` to say.
            Err(failure) => {
                output::failure(&failure);
                CellState::Failed
            }
        };
        let mut going = lock(going);
        entry(going.group, &cell.record).state = state;
        self.write(going.group)?;
        match state {
            CellState::Failed => going.exit = Exit::Failed,
            CellState::Interrupted => going.exit = Exit::Interrupted,
            _ => {}
        }
        going.stopped |=
            state == CellState::Interrupted || (state == CellState::Failed && !self.options.keep_going);
        Ok(())
    }

    fn cell(&self, cell: &Cell, going: &Mutex<Going<'_>>, driver: &Driver) -> Result<CellState, Failure> {
        let project = self.base.of_cell(cell, &Disk)?;
        let (asked, group) = {
            let going = lock(going);
            (going.group.asked.clone(), going.group.id.clone())
        };
        let ready = Prepared::on(
            project,
            self.store.clone(),
            Asked { threads: self.threads, ..self.options.asked(&asked) },
        )?;
        let order = Order {
            folder: self.folder.clone(),
            arguments: self.arguments.clone(),
            asked: asked.clone(),
            cell: Some(cell.record.clone()),
            group: Some(group),
            replays: None,
            beside_others: self.side_by_side > 1,
        };
        let begun = |id: &str| {
            let mut going = lock(going);
            let entry = entry(going.group, &cell.record);
            (entry.state, entry.run) = (CellState::Running, Some(id.to_owned()));
            self.write(going.group)
        };
        let show = match self.side_by_side {
            1 => Show::usual(self.quiet),
            _ if self.quiet => Show::Quiet,
            _ => Show::Named(cell.record.label()),
        };
        let done = execute::run(&ready, driver, &self.runs, order, show, begun)?;
        let mut going = lock(going);
        if self.side_by_side > 1 {
            output::note(&format!("cell {} ended", cell.record.label()));
        }
        done.conclude();
        let outcome = done.outcome;
        if self.side_by_side > 1 {
            going.last = Some((ready.project, done.record, outcome));
        }
        Ok(match outcome {
            Outcome::Done => CellState::Done,
            Outcome::Failed => CellState::Failed,
            Outcome::Interrupted => CellState::Interrupted,
        })
    }

    /// The table of all cells, on the terminal and in the folder of the set.
    fn conclude(&self, group: &GroupRecord, exit: Exit) -> Result<Exit, Failure> {
        let dir = self.groups.dir(&group.id);
        let cells = Cells::of(group, &self.runs, &self.options.metric);
        let mut files =
            vec![("sweep.csv".to_owned(), cells.csv()?), ("table.md".to_owned(), cells.markdown())];
        files.extend(plot::of(&cells)?);
        for (name, text) in &files {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(Failure::io(format!("writing {}", path.display())))?;
        }
        if self.options.json {
            output::json(&json!({
                "group": group.id,
                "file": group.file,
                "folder": dir,
                "cells": cells.rows,
            }))?;
        } else {
            output::result(&cells.text());
        }
        let count = |state| group.cells.iter().filter(|cell| cell.state == state).count();
        let (done, all) = (count(CellState::Done), group.cells.len());
        output::note(&match done == all {
            true => format!("{} done", plan::counted(all, "cell")),
            false => format!(
                "{done} of {} done; `heddle run {} --retry failed` goes on with the rest",
                plan::counted(all, "cell"),
                group.file
            ),
        });
        if cells.left_out > 0 {
            output::note(&format!(
                "{} in sweep.csv only; `--metric NAME` shows them here",
                plan::counted(cells.left_out, "metric")
            ));
        }
        output::note(&format!("set {}: {}", group.id, dir.display()));
        Ok(exit)
    }
}

fn lock<'a, 'b>(going: &'a Mutex<Going<'b>>) -> MutexGuard<'a, Going<'b>> {
    going.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cell's place in the record of the set.
fn entry<'a>(group: &'a mut GroupRecord, cell: &CellRecord) -> &'a mut GroupCell {
    let place = group.cells.iter().position(|entry| entry.cell.is(cell));
    let place = place.unwrap_or_else(|| {
        group.cells.push(GroupCell { cell: cell.clone(), state: CellState::Waiting, run: None });
        group.cells.len() - 1
    });
    &mut group.cells[place]
}
