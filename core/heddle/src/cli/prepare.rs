//! From an experiment to a plan that is ready to run, and through it: what `run` and `data` have in common.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use heddle_cache::Wait;
use heddle_graph::plan;
use heddle_remote::Traffic;
use tokio_util::sync::CancellationToken;

use super::{
    args::CacheArgs,
    exit::Failure,
    explain, output,
    progress::{Progress, Show},
};
use crate::{
    device,
    exec::{CacheUse, Events, Execution, Flights, Fresh, Library, NodeRecord, OnFailure, Outcome, Store},
    project::Project,
};

/// What is asked of an experiment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Only these nodes and what they need; all if empty.
    pub nodes: &'a [String],
    /// Nodes that run although they are in the cache.
    pub force: &'a [String],
    /// Whether to wait for a cache that another heddle holds.
    pub wait: bool,
    /// Threads, in place of the experiment's.
    pub threads: Option<usize>,
    /// What a failed node does to the others.
    pub on_failure: OnFailure,
    /// Which caches are used; the local one alone without.
    pub caches: Option<&'a CacheArgs>,
}

/// A plan and all that running it needs.
pub struct Prepared {
    /// The experiment.
    pub project: Project,
    /// The cache.
    pub store: Store,
    /// What is a hit and what runs.
    pub plan: plan::Plan,
    /// Where tensors live.
    pub compute: device::Compute,
    /// Where work runs.
    pub pool: Arc<rayon::ThreadPool>,
    /// Files by digest.
    pub library: Arc<Library>,
    /// What went between the remote and here before this plan was made.
    pub traffic_before: Traffic,
    facts: Arc<Vec<plan::Facts>>,
    forced: BTreeSet<usize>,
    on_failure: OnFailure,
}

/// Opens the cache under a home folder, which is made if it is not there.
pub fn open_store(home: &Path, what: &str, wait: bool, used: &CacheUse) -> Result<Store, Failure> {
    std::fs::create_dir_all(home).map_err(Failure::io(format!("making the folder {}", home.display())))?;
    Ok(Store::open_with(home, what, if wait { Wait::Yes } else { Wait::No }, used)?)
}

impl Prepared {
    /// Opens the cache and plans; refuses what this machine cannot run before anything runs.
    pub fn new(project: Project, home: &Path, what: &str, asked: Asked<'_>) -> Result<Self, Failure> {
        let remote = project.experiment.cache.remote.as_deref();
        let used = asked.caches.map(|caches| caches.with(remote)).transpose()?.unwrap_or_default();
        let store = open_store(home, what, asked.wait, &used)?;
        Self::on(project, store, asked)
    }

    /// The same with a cache that is open already.
    pub fn on(project: Project, store: Store, asked: Asked<'_>) -> Result<Self, Failure> {
        let settings = &project.experiment.run;
        let traffic_before = store.traffic().map(|(_, traffic)| traffic).unwrap_or_default();
        let compute = device::choose(settings.device);
        let (facts, library) = project.facts(Some(&store), compute)?;
        let wanted = project.places(asked.nodes)?;
        let forced = project.forced(&wanted, asked.force)?;
        let plan = plan::build(&facts, &wanted, &forced, &store);
        output::note(&explain::summary(&plan));
        if compute == device::Compute::Cpu {
            check_memory(&project, &plan)?;
        }
        check_device(&project, &plan, compute)?;
        let pool = device::pool(asked.threads.or(settings.threads))
            .map_err(|error| Failure::Other(format!("starting threads: {error}")))?;
        let (facts, library) = (Arc::new(facts), Arc::new(library));
        let on_failure = asked.on_failure;
        Ok(Self { project, store, plan, compute, pool, library, traffic_before, facts, forced, on_failure })
    }

    /// Runs the plan with progress on the terminal; the records are in the order of its nodes.
    pub fn run(&self, quiet: bool) -> Result<(Outcome, Vec<NodeRecord>), Failure> {
        Ok(self.run_by(&Driver::new()?, Show::usual(quiet)))
    }

    /// The same by a driver that runs other plans too.
    pub fn run_by(&self, driver: &Driver, show: Show) -> (Outcome, Vec<NodeRecord>) {
        let (events, receiver) = Events::channel();
        let execution = Execution {
            graph: self.project.graph.clone(),
            facts: self.facts.clone(),
            forced: self.forced.clone(),
            fresh: driver.fresh.clone(),
            flights: driver.flights.clone(),
            on_failure: self.on_failure,
            store: self.store.clone(),
            library: self.library.clone(),
            compute: self.compute,
            pool: self.pool.clone(),
            seed: self.project.experiment.seed,
            events,
            cancel: driver.cancel.clone(),
        };
        let stopping = driver.when_stopped({
            let store = self.store.clone();
            move || store.stop_remote()
        });
        let result = driver.drive(execution, &self.plan, Progress::new(show, receiver));
        self.store.finish_publishing(&|| driver.is_stopped());
        stopping.abort();
        result
    }
}

/// Says which nodes failed, and why.
pub fn say_failures(nodes: &[NodeRecord]) {
    for node in nodes {
        if let Some(error) = &node.error {
            output::failure(&Failure::Other(format!("node `{}`: {error}", node.name)));
        }
    }
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

/// The asynchronous part: where the scheduler runs, and the watch for Ctrl-C.
pub struct Driver {
    runtime: tokio::runtime::Runtime,
    cancel: CancellationToken,
    fresh: Fresh,
    flights: Flights,
}

impl Driver {
    /// Starts watching; a Ctrl-C between two plans counts too.
    pub fn new() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Failure::io("starting the scheduler"))?;
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        runtime.spawn(async move {
            while stop_asked().await.is_ok() {
                if stop.is_cancelled() {
                    // The second Ctrl-C does not wait for a step to end; the cache bears being killed.
                    std::process::exit(130);
                }
                output::note(
                    "stopping at the next step; what is finished is kept (Ctrl-C again to stop at once)",
                );
                stop.cancel();
            }
        });
        Ok(Self { runtime, cancel, fresh: Fresh::default(), flights: Flights::default() })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Does something as soon as Ctrl-C is pressed.
    fn when_stopped(&self, act: impl FnOnce() + Send + 'static) -> tokio::task::AbortHandle {
        let cancel = self.cancel.clone();
        let watch = self.runtime.spawn(async move {
            cancel.cancelled().await;
            act();
        });
        watch.abort_handle()
    }

    fn drive(
        &self,
        execution: Execution,
        plan: &plan::Plan,
        progress: Progress,
    ) -> (Outcome, Vec<NodeRecord>) {
        self.runtime.block_on(async move {
            let display = tokio::task::spawn_blocking(move || progress.follow());
            let result = execution.run(plan).await;
            drop(execution);
            let _ = display.await;
            result
        })
    }
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
