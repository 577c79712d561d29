//! `heddle plan`: what is a hit, what runs, why, what it costs.

use heddle_cache::Wait;
use heddle_graph::{
    digest::Digest,
    plan::{self, Known, Trace},
};
use serde_json::json;

use super::{
    args::{Common, PlanOptions},
    exit::{Exit, Failure},
    explain, home, output,
};
use crate::{device, exec::Store, project};

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
    if options.json {
        let (seconds, complete) = plan.seconds();
        let document = json!({
            "file": target.file,
            "hits": plan.hits(),
            "work": plan.work(),
            "predicted_seconds": seconds,
            "predicted_for_all": complete,
            "nodes": plan.nodes,
        });
        output::result(
            &serde_json::to_string_pretty(&document).map_err(|error| Failure::Other(error.to_string()))?,
        );
    } else {
        output::result(&explain::table(&plan));
    }
    Ok(if plan.work() > 0 { Exit::WorkLeft } else { Exit::Done })
}
