//! Which variants are meant.

use std::path::Path;

use heddle_graph::{paths, suggest};

use super::super::{args::Variants, exit::Failure, home, output};
use crate::{
    exec::{CellKind, CellRecord, CellState, GroupRecord, GroupsDir},
    project::{Cell, Project},
};

/// The variants that the command line asks for, in the order of the file, each once.
pub fn select(base: &Project, wanted: &Variants) -> Result<Vec<Cell>, Failure> {
    let experiment = &base.experiment;
    check("ablation", &wanted.ablation, experiment.ablations.keys(), &base.file)?;
    check("sweep", &wanted.sweep, experiment.sweeps.keys(), &base.file)?;
    let mut chosen: Vec<Cell> = Vec::new();
    for cell in base.cells() {
        let CellRecord { kind, name, .. } = &cell.record;
        let meant = match kind {
            CellKind::Base => wanted.all,
            CellKind::Ablation => wanted.all || wanted.ablation.contains(name),
            CellKind::Sweep => wanted.all || wanted.sweep.contains(name),
        };
        // A sweep may name a cell twice (`list`, `zip`).
        if meant && !chosen.iter().any(|known| known.record.is(&cell.record)) {
            chosen.push(cell);
        }
    }
    Ok(chosen)
}

/// Names that the file does not have are mistakes.
fn check<'a>(
    what: &str,
    wanted: &[String],
    known: impl Iterator<Item = &'a String>,
    file: &str,
) -> Result<(), Failure> {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let Some(wrong) = wanted.iter().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let help = match suggest::help(wrong, known.iter().copied()) {
        Some(help) => format!("; {help}"),
        None if known.is_empty() => "; it has none".to_owned(),
        None => String::new(),
    };
    Err(Failure::UnknownVariant { message: format!("{file} has no {what} `{wrong}`{help}") })
}

/// The variant that a record names.
pub fn find(base: &Project, wanted: &CellRecord) -> Option<Cell> {
    base.cells().into_iter().find(|cell| cell.record.is(wanted))
}

/// The newest set of runs of a file.
pub fn last_group(groups: &GroupsDir, home: &Path, file: &str) -> Result<GroupRecord, Failure> {
    let ids = groups.ids().map_err(Failure::io("listing the sets of runs"))?;
    let wanted = whole(&home::working_folder(home), file);
    let read = |id: &String| match groups.read(id) {
        Ok(group) => Some(group),
        Err(error) => {
            output::note(&format!("left out: reading the record of set {id}: {error}"));
            None
        }
    };
    let place = |group: &GroupRecord| {
        let folder = home::seen_from(home, Path::new(&group.folder));
        whole(&folder.display().to_string(), &group.file)
    };
    let found = ids.iter().rev().filter_map(read).find(|group| place(group) == wanted);
    let none = || {
        Failure::Other(format!(
            "no variants of {file} ran yet; `--ablation NAME`, `--sweep NAME` and `--all` run some"
        ))
    };
    found.ok_or_else(none)
}

/// A path from the home folder on, as text.
fn whole(folder: &str, file: &str) -> String {
    paths::resolve(&format!("{folder}/file"), file)
}

/// The cells of a set that are not done, as the file has them now.
pub fn unfinished(base: &Project, mut group: GroupRecord) -> (Vec<Cell>, GroupRecord) {
    let mut cells = Vec::new();
    let mut gone = Vec::new();
    for entry in group.cells.iter_mut().filter(|entry| entry.state != CellState::Done) {
        match find(base, &entry.cell) {
            Some(cell) => {
                entry.cell = cell.record.clone();
                cells.push(cell);
            }
            None => gone.push(entry.cell.clone()),
        }
    }
    for cell in &gone {
        output::note(&format!("left out: {} is not in the file any more", cell.label()));
        group.cells.retain(|entry| !entry.cell.is(cell));
    }
    (cells, group)
}
