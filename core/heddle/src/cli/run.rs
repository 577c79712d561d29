//! `heddle run`: executes an experiment, or a set of its variants, and shows what came out.

use serde_json::json;

use super::{
    args::{Common, RunOptions},
    cells,
    execute::{self, Order},
    exit::{Exit, Failure},
    home, metrics, output,
    prepare::{Asked, Driver, Prepared},
    progress::Show,
};
use crate::{
    exec::{OnFailure, RunsDir},
    project,
};

/// Runs the command.
pub fn run(options: &RunOptions, common: &Common, arguments: Vec<String>) -> Result<Exit, Failure> {
    if options.variants.any() || options.retry.is_some() {
        return cells::run(options, common, arguments);
    }
    let target = &options.target;
    if options.max_parallel.is_some() {
        let message =
            "`--max-parallel` is for variants: `--sweep`, `--ablation`, `--all` or `--retry` goes with it";
        return Err(Failure::Other(message.to_owned()));
    }
    let project = project::load(&target.file, &target.set)?;
    let home = home::of_experiment(common, &target.file);
    let ready = Prepared::new(project, &home, &format!("run {}", target.file), options.asked(&target.nodes))?;
    let folder = home::working_folder(&home);
    let order = Order { folder, arguments, asked: target.nodes.clone(), ..Order::default() };
    let driver = Driver::new()?;
    let done =
        execute::run(&ready, &driver, &RunsDir::new(&home), order, Show::usual(common.quiet), |_| Ok(()))?;
    if options.json {
        let record = &done.record;
        let document = json!({
            "run": record.id,
            "state": record.state,
            "seconds": record.seconds,
            "artifacts": done.dir.join("artifacts"),
            "metrics": metrics::of(record),
        });
        output::json(&document)?;
    } else {
        done.tables.iter().for_each(|table| output::result(table));
    }
    Ok(done.conclude())
}

impl RunOptions {
    /// What is asked of each plan.
    pub fn asked<'a>(&'a self, nodes: &'a [String]) -> Asked<'a> {
        Asked {
            nodes,
            force: &self.target.force,
            wait: self.target.wait,
            threads: self.threads.map(usize::from),
            caches: Some(&self.target.caches),
            on_failure: if self.keep_going { OnFailure::GoOn } else { OnFailure::Stop },
        }
    }
}
