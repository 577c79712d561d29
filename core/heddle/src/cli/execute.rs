//! One run: a prepared plan is executed, and leaves its record and its artifacts.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use heddle_graph::graph::NodeId;

use super::{
    cache, deliver,
    exit::{Exit, Failure},
    leaks::leaks,
    output,
    prepare::{Driver, Prepared, say_failures},
};
use crate::exec::{CellRecord, NodeState, Outcome, RunRecord, RunsDir, Versions};

/// What a run's record says of the command that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The folder that it was given in, from the home folder on.
    pub folder: String,
    /// The command line after the program's name.
    pub arguments: Vec<String>,
    /// The nodes that were asked for.
    pub asked: Vec<String>,
    /// Which variant it is.
    pub cell: Option<CellRecord>,
    /// The set of runs that it belongs to.
    pub group: Option<String>,
    /// The run that it computes again.
    pub replays: Option<String>,
}

/// A run that has ended.
pub struct Finished {
    /// Its record.
    pub record: RunRecord,
    /// How it ended.
    pub outcome: Outcome,
    /// The tables to show.
    pub tables: Vec<String>,
    /// Its folder.
    pub dir: PathBuf,
}

/// Runs a plan. `begun` hears of the run's id before the first node starts.
pub fn run(
    ready: &Prepared,
    driver: &Driver,
    runs: &RunsDir,
    order: Order,
    quiet: bool,
    begun: impl FnOnce(&str) -> Result<(), Failure>,
) -> Result<Finished, Failure> {
    let start = Instant::now();
    let Prepared { project, store, compute, .. } = ready;
    let started_unix = crate::now_unix();
    let id = runs.create(started_unix).map_err(Failure::io("making the folder of the run"))?;
    let mut record = RunRecord {
        id: id.clone(),
        file: project.file.clone(),
        folder: order.folder,
        arguments: order.arguments,
        set: project.set.clone(),
        asked: order.asked,
        cell: order.cell,
        group: order.group,
        replays: order.replays,
        state: "running".into(),
        started_unix,
        seconds: 0.0,
        seed: project.experiment.seed,
        versions: Versions::here(ready.pool.current_num_threads(), &compute.to_string()),
        config: project.experiment.resolved.clone(),
        graph_of: project.graph_of(),
        texts: project.texts(),
        nodes: Vec::new(),
        metrics: BTreeMap::new(),
    };
    let write = |record: &RunRecord| runs.write(record).map_err(Failure::io("writing the run record"));
    write(&record)?;
    begun(&id)?;

    let (outcome, nodes) = ready.run_by(driver, quiet);
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
    leaks(&project.graph, store, &made).iter().for_each(|leak| output::note(&leak.line()));
    let delivered = deliver::artifacts(project, store, &mut record, &dir);
    let delivered = delivered.and_then(|tables| write(&record).map(|()| tables));
    // Why nodes failed is said also where it cannot be written down.
    let tables = delivered.inspect_err(|_| say_failures(&record.nodes))?;
    cache::after_run(project, store, &record, outcome)?;
    Ok(Finished { record, outcome, tables, dir })
}

impl Finished {
    /// Says in a few words how it ended, and gives the exit code.
    pub fn conclude(&self) -> Exit {
        let record = &self.record;
        let count = |state| record.nodes.iter().filter(|node| node.state == state).count();
        let (hits, ran) = (count(NodeState::Hit), count(NodeState::Ran));
        let kept = format!("artifacts: {}", self.dir.join("artifacts").display());
        let seconds = record.seconds;
        match self.outcome {
            Outcome::Done if ran == 0 => {
                output::note(&format!(
                    "nothing to do: all {hits} nodes are in the cache ({seconds:.1} s)\n{kept}"
                ));
                Exit::Done
            }
            Outcome::Done => {
                output::note(&format!("done: {ran} ran, {hits} from the cache ({seconds:.1} s)\n{kept}"));
                Exit::Done
            }
            Outcome::Interrupted => {
                output::note(&format!(
                    "interrupted: {ran} finished and kept, {hits} from the cache; run again to go on"
                ));
                Exit::Interrupted
            }
            Outcome::Failed => {
                say_failures(&record.nodes);
                output::note(&format!("failed: {ran} finished and kept; run again after mending to go on"));
                Exit::Failed
            }
        }
    }
}
