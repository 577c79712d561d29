//! `heddle run`: executes an experiment and shows what came out.

use std::{collections::BTreeMap, path::Path, time::Instant};

use heddle_graph::graph::NodeId;

use super::{
    args::{Common, RunOptions},
    cache, deliver,
    exit::{Exit, Failure},
    home, leaks, output,
    prepare::{Asked, Prepared, say_failures},
};
use crate::{
    exec::{NodeState, Outcome, RunRecord, RunsDir, Versions},
    project,
};

/// Runs the command.
pub fn run(options: &RunOptions, common: &Common, arguments: Vec<String>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let target = &options.target;
    let project = project::load(&target.file, &target.set)?;
    let home = home::of_experiment(common, &target.file);
    let asked = Asked {
        nodes: &target.nodes,
        force: &target.force,
        wait: target.wait,
        threads: options.threads.map(usize::from),
    };
    let ready = Prepared::new(project, &home, &format!("run {}", target.file), asked)?;
    let Prepared { project, store, compute, .. } = &ready;
    let runs = RunsDir::new(&home);
    let started_unix = crate::now_unix();
    let id = runs.create(started_unix).map_err(Failure::io("making the folder of the run"))?;
    let mut record = RunRecord {
        id: id.clone(),
        file: target.file.clone(),
        arguments,
        state: "running".into(),
        started_unix,
        seconds: 0.0,
        seed: project.experiment.seed,
        versions: Versions::here(ready.pool.current_num_threads(), &compute.to_string()),
        config: project.experiment.resolved.clone(),
        nodes: Vec::new(),
        metrics: BTreeMap::new(),
    };
    let write = |record: &RunRecord| runs.write(record).map_err(Failure::io("writing the run record"));
    write(&record)?;

    let (outcome, nodes) = ready.run(common.quiet)?;
    record.nodes = nodes;
    record.seconds = start.elapsed().as_secs_f64();
    record.state = match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
    .into();
    let dir = runs.dir(&id);
    let made = |id: NodeId, port: &str| {
        let node = record.nodes.iter().find(|node| node.name == project.graph.node(id).name)?;
        node.outputs.get(port).map(|output| output.digest)
    };
    leaks::leaks(&project.graph, store, &made).iter().for_each(|leak| output::note(&leak.line()));
    let tables = deliver::artifacts(project, store, &mut record, &dir)?;
    write(&record)?;
    cache::after_run(project, store, &record, outcome)?;
    conclude(&record, &dir, &tables, outcome)
}

fn conclude(record: &RunRecord, dir: &Path, tables: &[String], outcome: Outcome) -> Result<Exit, Failure> {
    tables.iter().for_each(|table| output::result(table));
    let count = |state| record.nodes.iter().filter(|node| node.state == state).count();
    let (hits, ran) = (count(NodeState::Hit), count(NodeState::Ran));
    let kept = format!("artifacts: {}", dir.join("artifacts").display());
    match outcome {
        Outcome::Done if ran == 0 => {
            output::note(&format!(
                "nothing to do: all {hits} nodes are in the cache ({:.1} s)\n{kept}",
                record.seconds
            ));
            Ok(Exit::Done)
        }
        Outcome::Done => {
            output::note(&format!(
                "done: {ran} ran, {hits} from the cache ({:.1} s)\n{kept}",
                record.seconds
            ));
            Ok(Exit::Done)
        }
        Outcome::Interrupted => {
            output::note(&format!(
                "interrupted: {ran} finished and kept, {hits} from the cache; run again to go on"
            ));
            Ok(Exit::Interrupted)
        }
        Outcome::Failed => {
            say_failures(&record.nodes);
            output::note(&format!("failed: {ran} finished and kept; run again after mending to go on"));
            Ok(Exit::Failed)
        }
    }
}
