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
    args::{Common, PlanOptions},
    cut,
    exit::{Exit, Failure},
    explain, home, leaks, output,
};
use crate::{
    device,
    exec::Store,
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
}

/// The plan of everything that an experiment has, without waiting for the cache.
pub fn of_file(project: &Project, file: &str, common: &Common) -> Result<Plan, Failure> {
    let home = home::of_experiment(common, file);
    let store = match home.join("cache").is_dir() {
        true => Some(Store::open(&home, &format!("plan {file}"), Wait::No)?),
        false => None,
    };
    let (facts, _) = project.facts(store.as_ref(), device::choose(project.experiment.run.device))?;
    let known: &dyn Known = store.as_ref().map_or(&Nothing, |store| store);
    Ok(plan::build(&facts, &project.places(&[])?, &BTreeSet::new(), known))
}

/// Runs the command. Planning runs nothing and makes no cache: without one everything is a miss.
pub fn run(options: &PlanOptions, common: &Common) -> Result<Exit, Failure> {
    let target = &options.target;
    let project = project::load(&target.file, &target.set)?;
    let home = home::of_experiment(common, &target.file);
    let store = match home.join("cache").is_dir() {
        true => Some(Store::open(
            &home,
            &format!("plan {}", target.file),
            if target.wait { Wait::Yes } else { Wait::No },
        )?),
        false => None,
    };
    let (facts, _) = project.facts(store.as_ref(), device::choose(project.experiment.run.device))?;
    let wanted = project.places(&target.nodes)?;
    let forced = project.forced(&wanted, &target.force)?;
    let known: &dyn Known = store.as_ref().map_or(&Nothing, |store| store);
    let plan = plan::build(&facts, &wanted, &forced, known);
    let known_output = |id: NodeId, port: &str| match &plan.nodes[id.index()].action {
        Action::Hit { trace } => trace.outputs.get(port).copied(),
        _ => None,
    };
    let leaks = match &store {
        Some(store) => leaks::leaks(&project.graph, store, &known_output),
        None => Vec::new(),
    };
    if options.json {
        let (seconds, complete) = plan.seconds();
        let document = json!({
            "file": target.file,
            "hits": plan.hits(),
            "work": plan.work(),
            "predicted_seconds": seconds,
            "predicted_for_all": complete,
            "leaks": leaks,
            "nodes": plan.nodes,
        });
        output::result(
            &serde_json::to_string_pretty(&document).map_err(|error| Failure::Other(error.to_string()))?,
        );
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
