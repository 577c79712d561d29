//! `heddle plan`: what is a hit, what runs, why, what it costs.

use std::collections::BTreeSet;

use heddle_cache::Wait;
use heddle_graph::{
    digest::Digest,
    graph::NodeId,
    plan::{self, Action, Known, Plan, Trace},
};
use serde_json::json;

use super::{
    args::{CacheArgs, Common, PlanOptions},
    cells::{self, plan::Plans},
    cut,
    exit::{Exit, Failure},
    explain, home,
    leaks::{Leak, leaks},
    output,
};
use crate::{
    device,
    exec::{CacheUse, Elsewhere, Library, Store},
    files::Disk,
    project::{self, Project},
};

/// A cache that was never made: nothing is known.
struct Nothing;

impl Known for Nothing {
    fn trace(&self, _: &Digest) -> Option<Trace> {
        None
    }
    fn latest(&self, _: &str, _: &str) -> Option<Trace> {
        None
    }
    fn has(&self, _: &Digest) -> bool {
        false
    }
    fn is_here(&self, _: &Digest) -> bool {
        false
    }
}

/// The caches if there are any. Planning runs nothing and makes no cache: without one everything is a miss.
pub struct Memory {
    store: Option<Store>,
    /// A remote without a local cache.
    remote: Option<Elsewhere>,
}

impl Memory {
    /// Opens the cache under a home folder, if it was ever made.
    pub fn open(home: &std::path::Path, what: &str, wait: bool, used: &CacheUse) -> Result<Self, Failure> {
        let wait = if wait { Wait::Yes } else { Wait::No };
        if home.join("cache").is_dir() {
            return Ok(Self { store: Some(Store::open_with(home, what, wait, used)?), remote: None });
        }
        let remote = used.remote.as_ref().and_then(|(address, _)| Elsewhere::open(address));
        Ok(Self { store: None, remote })
    }

    /// What it knows.
    pub fn known(&self) -> &dyn Known {
        match (&self.store, &self.remote) {
            (Some(store), _) => store,
            (None, Some(remote)) => remote,
            (None, None) => &Nothing,
        }
    }

    /// Records that a stage learns from and an evaluation behind it scores, as far as they are in the cache.
    fn leaks(&self, project: &Project, plan: &Plan) -> Vec<Leak> {
        let known = |id: NodeId, port: &str| match &plan.nodes[id.index()].action {
            Action::Hit { trace } => trace.outputs.get(port).copied(),
            _ => None,
        };
        self.store.as_ref().map(|store| leaks(&project.graph, store, &known)).unwrap_or_default()
    }

    /// The facts of an experiment's nodes.
    pub fn facts(&self, project: &Project) -> Result<Vec<plan::Facts>, Failure> {
        Ok(self.facts_and_files(project)?.0)
    }

    /// The same, with the library of the files that the nodes read.
    pub fn facts_and_files(&self, project: &Project) -> Result<(Vec<plan::Facts>, Library), Failure> {
        let compute = device::choose(project.experiment.run.device);
        Ok(project.facts(self.store.as_ref(), compute)?)
    }

    /// The cache, if it was ever made.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }
}

/// Records that stages of an experiment learn from and evaluations behind them score, as far as this machine's cache has them.
///
/// # Errors
/// If the cache is in use or does not open, or a file that the experiment reads is not there.
pub fn leaks_of(project: &Project, file: &str, common: &Common) -> Result<Vec<Leak>, Failure> {
    let home = home::of_experiment(common, file);
    let memory = Memory::open(&home, &format!("check {file}"), false, &CacheUse::default())?;
    if memory.store.is_none() {
        return Ok(Vec::new());
    }
    let plan = plan::build(&memory.facts(project)?, &project.places(&[])?, &BTreeSet::new(), memory.known());
    Ok(memory.leaks(project, &plan))
}

/// The plan of everything that an experiment has, without waiting for the cache.
pub fn of_file(project: &Project, file: &str, caches: &CacheArgs, common: &Common) -> Result<Plan, Failure> {
    let used = caches.with(project.experiment.cache.remote.as_deref())?;
    let memory = Memory::open(&home::of_experiment(common, file), &format!("plan {file}"), false, &used)?;
    Ok(plan::build(&memory.facts(project)?, &project.places(&[])?, &BTreeSet::new(), memory.known()))
}

/// Runs the command.
pub fn run(options: &PlanOptions, common: &Common) -> Result<Exit, Failure> {
    let target = &options.target;
    let project = project::load(&target.file, &target.set)?;
    let home = home::of_experiment(common, &target.file);
    let cells = match options.variants.any() {
        true => Some(cells::select(&project, &options.variants)?),
        false => None,
    };
    let used = target.caches.with(project.experiment.cache.remote.as_deref())?;
    let memory = Memory::open(&home, &format!("plan {}", target.file), target.wait, &used)?;
    let build = |project: &Project, facts: &[plan::Facts]| -> Result<Plan, Failure> {
        let wanted: BTreeSet<usize> = project.places(&target.nodes)?;
        let forced = project.forced(&wanted, &target.force)?;
        Ok(plan::build(facts, &wanted, &forced, memory.known()))
    };
    if let Some(cells) = cells {
        project.check_cells(&cells, &Disk)?;
        let mut plans = Plans::default();
        for cell in &cells {
            let variant = project.of_cell(cell, &Disk)?;
            cells::check_remote(&project, &variant, &cell.record)?;
            let facts = memory.facts(&variant)?;
            plans.add(cell.record.clone(), &facts, build(&variant, &facts)?);
        }
        if options.json {
            output::json(&json!({ "file": target.file, "work": plans.work(), "cells": plans.cells }))?;
        } else {
            output::result(&plans.text());
        }
        return Ok(if plans.work() > 0 { Exit::WorkLeft } else { Exit::Done });
    }
    let plan = build(&project, &memory.facts(&project)?)?;
    let leaks = memory.leaks(&project, &plan);
    if options.json {
        let (seconds, complete) = plan.seconds();
        output::json(&json!({
            "file": target.file,
            "hits": plan.hits(),
            "work": plan.work(),
            "predicted_seconds": seconds,
            "predicted_for_all": complete,
            "leaks": leaks,
            "nodes": plan.nodes,
        }))?;
    } else {
        output::result(&explain::table(&plan));
        for line in cuts(&project, &plan) {
            output::result(&line);
        }
        leaks.iter().for_each(|leak| output::result(&leak.line()));
    }
    Ok(if plan.work() > 0 { Exit::WorkLeft } else { Exit::Done })
}

/// What is kept of the frozen parts of nodes that run, or why nothing is.
fn cuts(project: &Project, plan: &Plan) -> Vec<String> {
    let runs = |id: &NodeId| matches!(plan.nodes[id.index()].action, Action::Run { .. });
    let line = |id: NodeId| {
        let node = project.graph.node(id);
        cut::summary(node.spec.model()?, &node.spec.cut()?).line(&node.name)
    };
    project.graph.ids().filter(runs).filter_map(line).collect()
}
