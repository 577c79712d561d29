//! Walks the plan: a node starts when its inputs are there and the resources allow it.
//!
//! A node's key is settled when its last input is: an upstream node that ran again and ended in the same bytes
//! turns its dependents into hits (constructive traces). What is not in the local cache is looked for in the remote, before the node
//! waits for permits. Nodes run on blocking threads inside one rayon pool;
//! permits (one per thread) bound how many run side by side.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use heddle_graph::{
    digest::Digest,
    graph::{Graph, NodeId},
    plan::{Action, Facts, KeyParts, NodePlan, Plan, Trace},
};
use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    context::{NodeError, Outputs, RunContext, inputs_of},
    event::{Event, Events},
    library::Library,
    record::{InputRecord, NodeRecord, NodeState, OutputRecord, RowCount},
    store::Store,
};
use crate::{device::Compute, nodes::Node};

/// How much of the machine a node takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// One thread: reading, counting, writing reports.
    Light,
    /// All threads of the pool: tensor work.
    Compute,
}

/// What a failed node does to the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing starts any more.
    #[default]
    Stop,
    /// Those that do not need it go on.
    GoOn,
}

/// Keys of nodes that ran in this process: to force a node is to run it once, however many plans have it.
#[derive(Debug, Clone, Default)]
pub struct Fresh(Arc<Mutex<BTreeSet<Digest>>>);

impl Fresh {
    fn contains(&self, key: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn insert(&self, key: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }
}

/// Keys of nodes that run in this process: of plans that run side by side, one makes what several need.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Digest, Arc<Turn>>>>);

/// Held by the plan that runs a node; afterwards it has the error if the node failed, so that no other plan tries it again.
type Turn = tokio::sync::Mutex<Option<String>>;

impl Flights {
    fn turn(&self, key: Digest) -> Arc<Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }
}

/// Everything that running a plan needs.
pub struct Execution {
    /// The nodes, whose topological order is that of the facts.
    pub graph: Arc<Graph<dyn Node>>,
    /// What the graph and the files say of them.
    pub facts: Arc<Vec<Facts>>,
    /// Places of the nodes that run although they are in the cache.
    pub forced: BTreeSet<usize>,
    /// What ran already, and is not forced again.
    pub fresh: Fresh,
    /// What runs beside this plan.
    pub flights: Flights,
    /// What a failed node does to the others.
    pub on_failure: OnFailure,
    /// The cache.
    pub store: Store,
    /// Files by digest.
    pub library: Arc<Library>,
    /// Where tensors live.
    pub compute: Compute,
    /// Where tensor work runs.
    pub pool: Arc<rayon::ThreadPool>,
    /// The seed of the experiment.
    pub seed: u64,
    /// Who listens.
    pub events: Events,
    /// Cancelled by Ctrl-C.
    pub cancel: CancellationToken,
}

/// How the run as a whole ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was asked for is in the cache.
    Done,
    /// At least one node failed.
    Failed,
    /// Stopped by the user.
    Interrupted,
}

/// What a node's task hands back.
struct Ended {
    index: usize,
    why: String,
    seconds: f64,
    rows: BTreeMap<String, RowCount>,
    result: Result<Made, Stopped>,
}

/// How a task came by the artifacts.
enum Made {
    Ran(Trace),
    /// Another plan of this process made them meanwhile.
    Here(Trace),
    /// They were in the remote.
    Found(Trace),
}

impl Ended {
    /// A task that did no work.
    fn early(index: usize, why: String, stopped: Stopped) -> Self {
        Self { index, why, seconds: 0.0, rows: BTreeMap::new(), result: Err(stopped) }
    }

    /// Another plan made it meanwhile.
    fn here(index: usize, trace: Trace) -> Self {
        let (why, rows) = (String::new(), BTreeMap::new());
        Self { index, why, seconds: 0.0, rows, result: Ok(Made::Here(trace)) }
    }
}

enum Stopped {
    /// It waited for permits while the run was being stopped.
    NeverStarted,
    Cancelled,
    Failed(String),
}

/// The state of the walk: who waits for whom, and what is known so far.
struct Walk {
    waiting: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
    outputs: Vec<Option<BTreeMap<String, Digest>>>,
    records: Vec<Option<NodeRecord>>,
    needed: Vec<bool>,
    predicted: Vec<Option<f64>>,
    failed: bool,
    stop: Option<Outcome>,
    /// Cancelled by Ctrl-C and by a failure that stops the run: nodes that wait for permits then never start.
    stopping: CancellationToken,
}

impl Execution {
    /// Runs the plan; the records are in its order.
    pub async fn run(&self, plan: &Plan) -> (Outcome, Vec<NodeRecord>) {
        let mut walk = Walk::new(&self.facts, plan, &self.cancel);
        let permits = Arc::new(Semaphore::new(self.pool.current_num_threads()));
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut indices: BTreeMap<Id, usize> = BTreeMap::new();
        loop {
            while let Some(index) = walk.next_ready(&self.cancel) {
                if let Some(task) = self.start(index, plan, &mut walk, &permits) {
                    indices.insert(tasks.spawn(task).id(), index);
                }
            }
            match tasks.join_next_with_id().await {
                None => break,
                Some(Ok((_, ended))) => self.end(ended, &mut walk),
                Some(Err(error)) => {
                    let index = indices[&error.id()];
                    let error = format!("internal error, please report it: {error}");
                    self.end(Ended::early(index, String::new(), Stopped::Failed(error)), &mut walk);
                }
            }
        }
        walk.finish(&self.facts, &self.cancel)
    }

    /// Settles a ready node's key: a hit is done at once, anything else becomes a task.
    fn start(
        &self,
        index: usize,
        plan: &Plan,
        walk: &mut Walk,
        permits: &Arc<Semaphore>,
    ) -> Option<impl Future<Output = Ended> + Send + 'static> {
        let facts = &self.facts[index];
        let id = self.graph.ids().nth(index)?;
        let digests: Vec<Digest> =
            facts.inputs.iter().map(|input| walk.output(input.from, &input.output)).collect();
        let parts = KeyParts::new(facts, &digests);
        let planned = &plan.nodes[index].action;
        let is_forced = self.forced.contains(&index);
        let forced = is_forced && !self.fresh.contains(&parts.digest());
        if !forced && let Some(trace) = self.store.hit_here(&parts.digest()) {
            self.store.publish(&trace);
            self.note_hit(index, trace, false, walk);
            return None;
        }
        let why = match planned {
            Action::Run { reason, .. } => reason.to_string(),
            Action::Hit { .. } | Action::Skip => "its artifacts are gone".to_owned(),
        };
        let task = Task {
            index,
            id,
            graph: self.graph.clone(),
            facts: self.facts.clone(),
            parts,
            digests,
            store: self.store.clone(),
            library: self.library.clone(),
            compute: self.compute,
            seed: self.seed,
            events: self.events.clone(),
            cancel: self.cancel.clone(),
            why,
            fresh: is_forced,
        };
        let (fresh, turn) = (self.fresh.clone(), self.flights.turn(task.parts.digest()));
        let (pool, permits, stop) = (self.pool.clone(), permits.clone(), walk.stopping.clone());
        let wanted = match task.node().weight() {
            Weight::Light => 1,
            Weight::Compute => pool.current_num_threads() as u32,
        };
        let span = tracing::info_span!("node", name = %facts.name, kind = %facts.kind);
        let asks_remote = !forced && self.store.has_remote();
        Some(
            async move {
                let mut turn = turn.lock().await;
                if stop.is_cancelled() {
                    return Ended::early(task.index, task.why.clone(), Stopped::NeverStarted);
                }
                if let Some(error) = &*turn {
                    return Ended::early(task.index, task.why.clone(), Stopped::Failed(error.clone()));
                }
                let key = task.parts.digest();
                let forced = is_forced && !fresh.contains(&key);
                if !forced && let Some(trace) = task.store.hit_here(&key) {
                    return Ended::here(task.index, trace);
                }
                let task = Arc::new(task);
                if asks_remote && let Some(ended) = task.clone().from_remote().await {
                    return ended;
                }
                // The semaphore is never closed; were it, running without a permit only costs speed.
                let _permit = permits.acquire_many_owned(wanted).await.ok();
                let (index, why) = (task.index, task.why.clone());
                if stop.is_cancelled() {
                    return Ended::early(index, why, Stopped::NeverStarted);
                }
                let span = tracing::Span::current();
                // The span is entered on the pool's thread: that is where the node speaks.
                let run = tokio::task::spawn_blocking(move || pool.install(|| span.in_scope(|| task.run())));
                let ended = run
                    .await
                    .unwrap_or_else(|error| Ended::early(index, why, Stopped::Failed(panic_message(error))));
                // Before another plan has its turn.
                match &ended.result {
                    Ok(_) => fresh.insert(key),
                    Err(Stopped::Failed(error)) => *turn = Some(error.clone()),
                    Err(Stopped::NeverStarted | Stopped::Cancelled) => {}
                }
                ended
            }
            .instrument(span),
        )
    }

    fn note_hit(&self, index: usize, trace: Trace, remote: bool, walk: &mut Walk) {
        let facts = &self.facts[index];
        if let Err(error) = self.store.remember(&facts.name, &facts.kind, &trace.parts.digest()) {
            tracing::warn!(node = %facts.name, %error, "the hit could not be noted");
        }
        self.events.send(Event::Hit { node: facts.name.clone(), remote });
        let record = NodeRecord { remote, ..NodeRecord::new(facts, NodeState::Hit, 0.0, String::new()) };
        let record = self.with_trace(index, record, &trace);
        walk.done(index, trace.outputs, record);
    }

    fn end(&self, ended: Ended, walk: &mut Walk) {
        let Ended { index, why, seconds, rows, result } = ended;
        let facts = &self.facts[index];
        let node = facts.name.clone();
        match result {
            Ok(Made::Here(trace)) => self.note_hit(index, trace, false, walk),
            Ok(Made::Found(trace)) => self.note_hit(index, trace, true, walk),
            Ok(Made::Ran(trace)) => {
                let record = NodeRecord { rows, ..NodeRecord::new(facts, NodeState::Ran, seconds, why) };
                let record = self.with_trace(index, record, &trace);
                let outputs =
                    record.outputs.iter().map(|(port, out)| (port.clone(), out.digest, out.bytes)).collect();
                self.events.send(Event::Finished { node, seconds, outputs });
                walk.done(index, trace.outputs, record);
            }
            Err(Stopped::NeverStarted) => {}
            Err(Stopped::Cancelled) => {
                self.events.send(Event::Cancelled { node });
                walk.records[index] = Some(NodeRecord::new(facts, NodeState::Cancelled, seconds, why));
                walk.stop.get_or_insert(Outcome::Interrupted);
            }
            Err(Stopped::Failed(error)) => {
                self.events.send(Event::Failed { node, error: error.clone() });
                let record = NodeRecord::new(facts, NodeState::Failed, seconds, why);
                walk.records[index] = Some(NodeRecord { error: Some(error), ..record });
                walk.failed = true;
                if self.on_failure == OnFailure::Stop {
                    walk.stop = Some(Outcome::Failed);
                    walk.stopping.cancel();
                }
            }
        }
    }

    /// The record with what the trace says: the key, what went in, what came out.
    fn with_trace(&self, index: usize, mut record: NodeRecord, trace: &Trace) -> NodeRecord {
        record.key = Some(trace.parts.digest());
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for input in &self.facts[index].inputs {
            let place = places.entry(&input.port).or_default();
            let key = trace.parts.inputs.get(&input.port).and_then(|keys| keys.get(*place));
            *place += 1;
            let label = input.label.iter().map(|label| format!(".{label}"));
            record.inputs.extend(key.map(|key| InputRecord {
                port: std::iter::once(input.port.clone()).chain(label).collect(),
                from: format!("{}.{}", self.facts[input.from].name, input.output),
                digest: key.digest,
            }));
        }
        for (port, digest) in &trace.outputs {
            let bytes = self.store.size(digest).unwrap_or_default();
            record.outputs.insert(port.clone(), OutputRecord { digest: *digest, bytes, file: None });
        }
        record
    }
}

impl Walk {
    fn new(facts: &[Facts], plan: &Plan, cancel: &CancellationToken) -> Self {
        let needed = |index: usize| !matches!(plan.nodes[index].action, Action::Skip);
        let mut waiting = vec![0; facts.len()];
        let mut dependents = vec![Vec::new(); facts.len()];
        for (index, fact) in facts.iter().enumerate().filter(|(index, _)| needed(*index)) {
            let upstream: BTreeSet<usize> = fact.inputs.iter().map(|input| input.from).collect();
            waiting[index] = upstream.len();
            upstream.into_iter().for_each(|from| dependents[from].push(index));
        }
        let ready = (0..facts.len()).filter(|index| needed(*index) && waiting[*index] == 0).collect();
        let none = |_| None;
        let predicted = |node: &NodePlan| match node.action {
            Action::Run { seconds, .. } => seconds,
            Action::Hit { .. } | Action::Skip => None,
        };
        Self {
            waiting,
            dependents,
            ready,
            outputs: (0..facts.len()).map(none).collect(),
            records: (0..facts.len()).map(|_| None).collect(),
            needed: (0..facts.len()).map(needed).collect(),
            predicted: plan.nodes.iter().map(predicted).collect(),
            failed: false,
            stop: None,
            stopping: cancel.child_token(),
        }
    }

    /// The next node to start; none once the run is being stopped.
    fn next_ready(&mut self, cancel: &CancellationToken) -> Option<usize> {
        if self.stop.is_some() || cancel.is_cancelled() { None } else { self.ready.pop_front() }
    }

    fn output(&self, from: usize, port: &str) -> Digest {
        let outputs =
            self.outputs[from].as_ref().expect("a node starts after all its upstream nodes are done");
        outputs[port]
    }

    fn done(&mut self, index: usize, outputs: BTreeMap<String, Digest>, record: NodeRecord) {
        self.outputs[index] = Some(outputs);
        self.records[index] = Some(record);
        for dependent in std::mem::take(&mut self.dependents[index]) {
            self.waiting[dependent] -= 1;
            if self.waiting[dependent] == 0 {
                self.ready.push_back(dependent);
            }
        }
    }

    /// Nodes that never started are recorded as skipped.
    fn finish(self, facts: &[Facts], cancel: &CancellationToken) -> (Outcome, Vec<NodeRecord>) {
        let left = self.records.iter().zip(&self.needed).any(|(record, needed)| *needed && record.is_none());
        let usual = match (cancel.is_cancelled() && left, self.failed) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::Failed,
            (false, false) => Outcome::Done,
        };
        let outcome = self.stop.unwrap_or(usual);
        let skipped = |facts| NodeRecord::new(facts, NodeState::Skipped, 0.0, String::new());
        let records = self.records.into_iter().zip(self.predicted).zip(facts);
        let records = records.map(|((record, predicted_seconds), facts)| NodeRecord {
            predicted_seconds,
            ..record.unwrap_or_else(|| skipped(facts))
        });
        (outcome, records.collect())
    }
}

/// One node on its way through a blocking thread.
struct Task {
    index: usize,
    id: NodeId,
    graph: Arc<Graph<dyn Node>>,
    facts: Arc<Vec<Facts>>,
    parts: KeyParts,
    digests: Vec<Digest>,
    store: Store,
    library: Arc<Library>,
    compute: Compute,
    seed: u64,
    events: Events,
    cancel: CancellationToken,
    why: String,
    fresh: bool,
}

impl Task {
    fn node(&self) -> &dyn Node {
        &*self.graph.node(self.id).spec
    }

    /// Brings the artifacts from the remote, beside whatever runs; none if they cannot be had there.
    async fn from_remote(self: Arc<Self>) -> Option<Ended> {
        let (index, node) = (self.index, self.facts[self.index].name.clone());
        let ask = move || self.store.hit_remote(&self.parts.digest());
        match tokio::task::spawn_blocking(ask).await {
            Ok(Ok(Some(trace))) => {
                let (why, rows) = (String::new(), BTreeMap::new());
                Some(Ended { index, why, seconds: 0.0, rows, result: Ok(Made::Found(trace)) })
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                tracing::warn!(node, %error, "what the remote has could not be kept here; the node runs");
                None
            }
            Err(error) => Some(Ended::early(index, String::new(), Stopped::Failed(panic_message(error)))),
        }
    }

    fn run(&self) -> Ended {
        let start = Instant::now();
        let (passing, rows) = (AtomicBool::new(false), Mutex::default());
        let result = self.outputs(&passing, &rows).and_then(|outputs| {
            let facts = &self.facts[self.index];
            let trace = Trace {
                node: facts.name.clone(),
                parts: self.parts.clone(),
                outputs: BTreeMap::new(),
                seconds: start.elapsed().as_secs_f64(),
                finished_unix: crate::now_unix(),
            };
            let remember = !passing.load(Ordering::Relaxed);
            let kept = self.store.keep(trace, &outputs, remember).map(Made::Ran);
            kept.map_err(|error| Stopped::Failed(error.to_string()))
        });
        let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        let why = self.why.clone();
        Ended { index: self.index, why, seconds: start.elapsed().as_secs_f64(), rows, result }
    }

    fn outputs(
        &self,
        passing: &AtomicBool,
        rows: &Mutex<BTreeMap<String, RowCount>>,
    ) -> Result<Outputs, Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let facts = &self.facts[self.index];
        self.events.send(Event::Started { node: facts.name.clone(), why: self.why.clone() });
        let cx = RunContext {
            node: &facts.name,
            seed: self.seed,
            key: self.parts.digest(),
            fresh: self.fresh,
            inputs: inputs_of(&self.store, &self.facts, self.index, &self.digests)
                .map_err(|error| self.ended(error))?,
            files: &facts.files,
            library: &self.library,
            store: &self.store,
            compute: self.compute,
            progress: self.events.progress(&facts.name),
            cancel: self.cancel.clone(),
            passing,
            rows,
        };
        self.node().run(&cx).map_err(|error| match error {
            NodeError::Cancelled => Stopped::Cancelled,
            other => Stopped::Failed(chain(&other)),
        })
    }

    /// What a node without its inputs is: behind an interrupt it may lack some because fetching them was given up.
    fn ended(&self, error: String) -> Stopped {
        if self.cancel.is_cancelled() { Stopped::Cancelled } else { Stopped::Failed(error) }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

fn panic_message(error: tokio::task::JoinError) -> String {
    let said = match error.try_into_panic() {
        Ok(panic) => {
            let panic: Box<dyn Any + Send> = panic;
            panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default()
        }
        Err(error) => error.to_string(),
    };
    format!("internal error, please report it: {said}")
}
