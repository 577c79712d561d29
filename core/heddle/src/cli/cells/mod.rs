//! Variants of an experiment: which are meant, and running them as one set.
//!
//! ```text
//! --ablation, --sweep, --all  --select-->  Cell ...  --run, one after the other, one cache-->  run records
//! group.json, written at every step: what is done, what is left                                     |
//!                                                    sweep.csv, table.md, SWEEP.svg  <--table, plot-+
//! ```

pub mod plan;
mod plot;
mod select;
mod table;

use serde_json::json;

use super::{
    args::{Common, RunOptions},
    execute::{self, Order},
    exit::{Exit, Failure},
    home, output,
    prepare::{Driver, Prepared, open_store},
};
use crate::{
    exec::{CellRecord, CellState, GroupCell, GroupRecord, GroupsDir, Outcome, RunsDir, Store},
    files::Disk,
    project::{self, Cell, Project},
};
use select::unfinished;
pub use select::{find as find_cell, select};
use table::Cells;

/// Runs variants one after the other on one cache, and shows them side by side.
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
        base.of_cell(cell, &Disk)?.places(&group.asked)?;
    }
    let store = open_store(&home, &format!("run {}", target.file), target.wait)?;
    let folder = home::working_folder(&home);
    if group.id.is_empty() {
        group.folder = folder.clone();
        group.id = groups.create(crate::now_unix()).map_err(Failure::io("making the folder of the set"))?;
    }
    let runs = RunsDir::new(&home);
    let series = Series { options, quiet: common.quiet, folder, arguments, base: &base, store, runs, groups };
    series.run(&cells, &mut group)
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
}

impl Series<'_> {
    fn run(&self, cells: &[Cell], group: &mut GroupRecord) -> Result<Exit, Failure> {
        let driver = Driver::new()?;
        let mut exit = Exit::Done;
        self.write(group)?;
        for (place, cell) in cells.iter().enumerate() {
            if driver.is_stopped() {
                exit = Exit::Interrupted;
                break;
            }
            output::note(&format!("cell {} of {}: {}", place + 1, cells.len(), cell.record.label()));
            let state = match self.cell(cell, group, &driver) {
                Ok(state) => state,
                // It could not start; whether the others do is for `--keep-going` to say.
                Err(failure) => {
                    output::failure(&failure);
                    CellState::Failed
                }
            };
            entry(group, &cell.record).state = state;
            self.write(group)?;
            match state {
                CellState::Failed => exit = Exit::Failed,
                CellState::Interrupted => exit = Exit::Interrupted,
                _ => {}
            }
            if state == CellState::Interrupted || (state == CellState::Failed && !self.options.keep_going) {
                break;
            }
        }
        self.conclude(group, exit)
    }

    fn write(&self, group: &GroupRecord) -> Result<(), Failure> {
        self.groups.write(group).map_err(Failure::io("writing the record of the set"))
    }

    /// Runs one variant.
    fn cell(&self, cell: &Cell, group: &mut GroupRecord, driver: &Driver) -> Result<CellState, Failure> {
        let project = self.base.of_cell(cell, &Disk)?;
        let asked = group.asked.clone();
        let ready = Prepared::on(project, self.store.clone(), self.options.asked(&asked))?;
        let order = Order {
            folder: self.folder.clone(),
            arguments: self.arguments.clone(),
            asked: asked.clone(),
            cell: Some(cell.record.clone()),
            group: Some(group.id.clone()),
            replays: None,
        };
        let begun = |id: &str| {
            let entry = entry(group, &cell.record);
            (entry.state, entry.run) = (CellState::Running, Some(id.to_owned()));
            self.write(group)
        };
        let done = execute::run(&ready, driver, &self.runs, order, self.quiet, begun)?;
        done.conclude();
        Ok(match done.outcome {
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

/// A cell's place in the record of the set.
fn entry<'a>(group: &'a mut GroupRecord, cell: &CellRecord) -> &'a mut GroupCell {
    let place = group.cells.iter().position(|entry| entry.cell.is(cell));
    let place = place.unwrap_or_else(|| {
        group.cells.push(GroupCell { cell: cell.clone(), state: CellState::Waiting, run: None });
        group.cells.len() - 1
    });
    &mut group.cells[place]
}
