//! `heddle run`: executes an experiment and shows what came out.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use heddle_cache::Wait;
use heddle_graph::plan;
use tokio_util::sync::CancellationToken;

use super::{
    args::{Common, RunOptions},
    deliver,
    exit::{Exit, Failure},
    explain, home, output,
    progress::Progress,
};
use crate::{
    device,
    exec::{Events, Execution, NodeState, Outcome, RunRecord, RunsDir, Store, Versions},
    project::{self, Project},
};

/// Runs the command.
pub fn run(options: &RunOptions, common: &Common, arguments: Vec<String>) -> Result<Exit, Failure> {
    let start = Instant::now();
    let target = &options.target;
    let project = project::load(&target.file, &target.set)?;
    let settings = &project.experiment.run;
    let compute = device::choose(settings.device);
    let home = home::of_experiment(common, &target.file);
    std::fs::create_dir_all(&home).map_err(Failure::io(format!("making the folder {}", home.display())))?;
    let wait = if target.wait { Wait::Yes } else { Wait::No };
    let store = Store::open(&home, &format!("run {}", target.file), wait)?;
    let (facts, library) = project.facts(Some(&store), compute)?;
    let wanted = project.places(&target.nodes)?;
    let forced = project.forced(&wanted, &target.force)?;
    let plan = plan::build(&facts, &wanted, &forced, &store);
    output::note(&explain::summary(&plan));
    if compute == device::Compute::Cpu {
        check_memory(&project, &plan)?;
    }
    check_device(&project, &plan, compute)?;

    let threads = options.threads.map(usize::from).or(settings.threads);
    let pool = device::pool(threads).map_err(|error| Failure::Other(format!("starting threads: {error}")))?;
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
        versions: Versions::here(pool.current_num_threads(), &compute.to_string()),
        config: project.experiment.resolved.clone(),
        nodes: Vec::new(),
        metrics: BTreeMap::new(),
    };
    let write = |record: &RunRecord| runs.write(record).map_err(Failure::io("writing the run record"));
    write(&record)?;

    let (events, receiver) = Events::channel();
    let execution = Execution {
        graph: project.graph.clone(),
        facts: Arc::new(facts),
        forced,
        store: store.clone(),
        library: Arc::new(library),
        compute,
        pool,
        seed: project.experiment.seed,
        events,
        cancel: CancellationToken::new(),
    };
    let (outcome, nodes) = drive(execution, &plan, Progress::new(common.quiet, receiver))?;
    record.nodes = nodes;
    record.seconds = start.elapsed().as_secs_f64();
    record.state = match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
    .into();
    let dir = runs.dir(&id);
    let tables = deliver::artifacts(&project, &store, &mut record, &dir)?;
    write(&record)?;
    conclude(&record, &dir, &tables, outcome)
}

/// Waits for Ctrl-C, or for the signal with which batch systems announce the end.
async fn stop_asked() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Refuses a plan with a node that cannot fit `[run] memory`, or else the machine's.
fn check_memory(project: &Project, plan: &plan::Plan) -> Result<(), Failure> {
    let asked = project.experiment.run.memory.map(|limit| (limit, "`[run] memory` allows"));
    let there = || device::machine_memory().map(|limit| (limit, "this machine has"));
    let Some((limit, whose)) = asked.or_else(there) else { return Ok(()) };
    let running = project.graph.ids().zip(&plan.nodes).filter(|(_, node)| surely_runs(&node.action));
    for (id, node) in running {
        let needed = project.graph.node(id).spec.memory_bytes();
        if needed > limit {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            return Err(Failure::Other(format!(
                "node `{}` needs at least {:.1} GiB for its model, {whose} {:.1} GiB; nothing was run",
                node.name,
                gib(needed),
                gib(limit)
            )));
        }
    }
    Ok(())
}

/// Refuses a plan with a node that the device cannot compute, before anything runs.
fn check_device(project: &Project, plan: &plan::Plan, compute: device::Compute) -> Result<(), Failure> {
    let mut checked = Vec::new();
    for (id, node) in project.graph.ids().zip(&plan.nodes) {
        let Some(need) = project.graph.node(id).spec.need() else { continue };
        if matches!(node.action, plan::Action::Run { .. }) && !checked.contains(&need) {
            let refused =
                |reason| Failure::Refused { node: node.name.clone(), device: compute.to_string(), reason };
            compute.open(need).map_err(refused)?;
            checked.push(need);
        }
    }
    Ok(())
}

/// Whether a node runs whatever its upstream nodes give.
fn surely_runs(action: &plan::Action) -> bool {
    matches!(action, plan::Action::Run { reason, .. } if !matches!(reason, plan::RunReason::Upstream { changes, .. } if changes.is_empty()))
}

/// Starts the asynchronous part: the scheduler, the progress display and the watch for Ctrl-C.
fn drive(
    execution: Execution,
    plan: &plan::Plan,
    progress: Progress,
) -> Result<(Outcome, Vec<crate::exec::NodeRecord>), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::io("starting the scheduler"))?;
    let result = runtime.block_on(async move {
        let cancel = execution.cancel.clone();
        let watch = tokio::spawn(async move {
            while stop_asked().await.is_ok() {
                if cancel.is_cancelled() {
                    // The second Ctrl-C does not wait for a step to end; the cache bears being killed.
                    std::process::exit(130);
                }
                output::note(
                    "stopping at the next step; what is finished is kept (Ctrl-C again to stop at once)",
                );
                cancel.cancel();
            }
        });
        let display = tokio::task::spawn_blocking(move || progress.follow());
        let result = execution.run(plan).await;
        drop(execution);
        watch.abort();
        let _ = display.await;
        result
    });
    Ok(result)
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
            for node in &record.nodes {
                if let Some(error) = &node.error {
                    output::failure(&Failure::Other(format!("node `{}`: {error}", node.name)));
                }
            }
            output::note(&format!("failed: {ran} finished and kept; run again after mending to go on"));
            Ok(Exit::Failed)
        }
    }
}
