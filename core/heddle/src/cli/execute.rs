//! One run: a prepared plan is executed, and leaves its record and its artifacts.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use heddle_graph::graph::NodeId;

use super::{
    cache, deliver,
    exit::{Exit, Failure},
    explain::duration,
    leaks::leaks,
    output,
    prepare::{Driver, Prepared, say_failures},
    progress::Show,
};
use crate::exec::{CellRecord, NodeState, Outcome, RemoteRecord, RunRecord, RunsDir, Versions};

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
    /// Whether other runs use the cache meanwhile: then nothing is removed from it.
    pub beside_others: bool,
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
    show: Show,
    begun: impl FnOnce(&str) -> Result<(), Failure>,
) -> Result<Finished, Failure> {
    let start = Instant::now();
    let Prepared { project, store, compute, .. } = ready;
    // Runs of a set share one store, and so one count.
    let before = ready.traffic_before;
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
        remote: None,
        nodes: Vec::new(),
        metrics: BTreeMap::new(),
    };
    let write = |record: &RunRecord| runs.write(record).map_err(Failure::io("writing the run record"));
    write(&record)?;
    begun(&id)?;

    let (outcome, nodes) = ready.run_by(driver, show);
    record.nodes = nodes;
    // Of runs side by side nobody knows whose bytes they were.
    let traffic = store.traffic().filter(|_| !order.beside_others);
    record.remote = traffic.map(|(url, traffic)| RemoteRecord {
        url,
        fetched_bytes: traffic.fetched - before.fetched,
        published_bytes: traffic.published - before.published,
    });
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
    if !order.beside_others {
        cache::after_run(project, store, &record, outcome)?;
    }
    Ok(Finished { record, outcome, tables, dir })
}

impl Finished {
    /// How what was foretold came out; none if nothing was.
    fn beside_the_plan(&self) -> Option<String> {
        let nodes = || self.record.nodes.iter();
        let foretold = |state: NodeState| {
            nodes()
                .filter(move |node| node.state == state)
                .filter_map(|node| Some((node, node.predicted_seconds?)))
        };
        let ran: Vec<_> = foretold(NodeState::Ran).collect();
        if ran.is_empty() {
            return None;
        }
        let predicted: f64 = ran.iter().map(|(_, predicted)| predicted).sum();
        let took: f64 = ran.iter().map(|(node, _)| node.seconds).sum();
        let of = match ran.len() {
            1 => "it".to_owned(),
            count => format!("{count} of them"),
        };
        let mut line = format!("predicted {} for {of}, took {}", duration(predicted), duration(took));
        match foretold(NodeState::Hit).count() {
            0 => {}
            1 => line.push_str("; 1 that might have run did not have to"),
            spared => line.push_str(&format!("; {spared} that might have run did not have to")),
        }
        Some(line)
    }

    /// Says in a few words how it ended, and gives the exit code.
    pub fn conclude(&self) -> Exit {
        let record = &self.record;
        let count = |state| record.nodes.iter().filter(|node| node.state == state).count();
        let (hits, ran) = (count(NodeState::Hit), count(NodeState::Ran));
        let mut kept = format!("artifacts: {}", self.dir.join("artifacts").display());
        if let Some(RemoteRecord { url, fetched_bytes, published_bytes }) = &record.remote {
            let (fetched, published) = (cache::bytes(*fetched_bytes), cache::bytes(*published_bytes));
            kept += &format!("\nremote {url}: fetched {fetched}, published {published}");
        }
        let seconds = record.seconds;
        match self.outcome {
            Outcome::Done if ran == 0 => {
                output::note(&format!(
                    "nothing to do: all {hits} nodes are in the cache ({seconds:.1} s)\n{kept}"
                ));
                Exit::Done
            }
            Outcome::Done => {
                output::note(&format!("done: {ran} ran, {hits} from the cache ({seconds:.1} s)"));
                self.beside_the_plan().iter().for_each(|line| output::note(line));
                output::note(&kept);
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
