//! A plugin at work: instances, calls, and what becomes of calls that end badly.
//!
//! Instances are taken from a pool by whichever thread calls, so a session has as many as threads call at once. After a
//! trap an instance is dead. A batch that fails on an instance that had worked before is tried once more on a new one:
//! what other batches left behind must not decide.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::ArrayRef;
use serde_json::Value;
use wasmtime::{
    Store, Trap,
    component::{ComponentNamedList, Instance, InstancePre, Lift, Lower},
};

use crate::{
    Limits, World,
    abi::{Column, ColumnSpec, Description, GuestError, Keys, State},
    answer::{self, BadAnswer},
    columns::{Batch, Held, batch_in, digest, hold, lower},
    failure::{Failure, FailureKind},
    host::{EPOCH, Plugin},
    state::{Denied, HostState, Said},
    text::printable,
};

/// How a plugin is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The config table.
    pub config: Value,
    /// The node's seed.
    pub seed: u64,
    /// What it may take.
    pub limits: Limits,
    /// How long an instance lives.
    pub isolation: Isolation,
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// As long as the session: many batches.
    #[default]
    Session,
    /// One batch. The answers of a plugin without state are the same.
    Batch,
}

/// An answer, and what the plugin said while it made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The answer, checked.
    pub value: T,
    /// Log and counters.
    pub said: Said,
    /// Instructions that it took, where they are counted.
    pub fuel: Option<u64>,
}

/// A plugin that has accepted its config.
pub struct Session {
    plugin: Plugin,
    config: String,
    settings: Settings,
    idle: Mutex<Vec<Running>>,
    /// The next batch of a plugin with state.
    next: Mutex<u64>,
}

/// One instance.
struct Running {
    store: Store<HostState>,
    instance: Instance,
    batches: u64,
}

/// The columns of a batch that a plugin reads, in the form in which they cross.
pub struct Prepared {
    index: u64,
    rows: usize,
    held: Vec<Held>,
}

impl Prepared {
    /// Digest of all that the plugin sees of the batch; its place among the batches does not count.
    pub fn digest(&self) -> [u8; 32] {
        digest(self.rows, &lower(&self.held))
    }

    /// Number of records.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

type Call<'a, T> = &'a dyn Fn(&mut Running) -> Result<T, FailureKind>;

impl Session {
    pub(crate) fn open(plugin: Plugin, mut settings: Settings) -> Result<Self, Failure> {
        settings.limits.stack = plugin.0.options.stack;
        let config = settings.config.to_string();
        let session = Self { plugin, config, settings, idle: Mutex::default(), next: Mutex::new(0) };
        let first = session.start().map_err(|kind| session.failure(None, kind))?;
        session.put_back(first);
        Ok(session)
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Takes the columns that the plugin reads, and converts those that cannot cross as they are.
    ///
    /// # Errors
    /// [`Failure`] if the batch lacks a column that the plugin reads.
    pub fn prepare(&self, batch: &Batch) -> Result<Prepared, Failure> {
        let held = hold(batch, &self.plugin.description().reads);
        let held = held.map_err(|kind| self.failure(Some(batch.index), kind))?;
        Ok(Prepared { index: batch.index, rows: batch.rows, held })
    }

    /// Calls the plugin on a batch, whatever it does, and checks the answer; for measurements. A fold takes the batch in.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn exercise(&self, batch: &Prepared) -> Result<(), Failure> {
        match self.plugin.world() {
            World::Filter => self.filter(batch).map(drop),
            World::Transform => self.transform(batch).map(drop),
            World::Score => self.score(batch).map(drop),
            World::Dedup => self.dedup(batch).map(drop),
            World::Fold => self.call_on(batch, "fold", "update", |(): ()| Ok(())).map(drop),
        }
    }

    /// Bytes of linear memory of the largest instance that waits for a batch; 0 if none does.
    pub fn memory(&self) -> usize {
        lock(&self.idle).iter().map(|running| running.store.data().memory()).max().unwrap_or(0)
    }

    /// Verdicts of a filter: a byte a record, 0 keeps, `k` drops for reason `k - 1`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn filter(&self, batch: &Prepared) -> Result<Answer<Vec<u8>>, Failure> {
        let reasons = self.plugin.description().reasons.len();
        self.call_on(batch, "filter", "apply", |codes: Vec<u8>| {
            answer::verdicts(&codes, batch.rows, reasons)?;
            Ok(codes)
        })
    }

    /// A number a record.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn score(&self, batch: &Prepared) -> Result<Answer<Vec<f32>>, Failure> {
        self.call_on(batch, "score", "apply", |scores: Vec<f32>| {
            answer::scores(&scores, batch.rows)?;
            Ok(scores)
        })
    }

    /// The columns that the plugin writes, in the order of its declaration.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn transform(&self, batch: &Prepared) -> Result<Answer<Vec<ArrayRef>>, Failure> {
        let specs: &[ColumnSpec] = &self.plugin.description().writes;
        self.call_on(batch, "transform", "apply", |columns: Vec<Column>| {
            answer::columns(&columns, specs, batch.rows)
        })
    }

    /// Hashes of records.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn dedup(&self, batch: &Prepared) -> Result<Answer<Keys>, Failure> {
        self.call_on(batch, "dedup", "apply", |keys: Keys| {
            answer::keys(&keys, batch.rows)?;
            Ok(keys)
        })
    }

    /// The partial statistics of a chunk of records, from an instance of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn fold(&self, batch: &Prepared) -> Result<Answer<Vec<u8>>, Failure> {
        let run = || {
            let mut running = self.start()?;
            let columns = lower(&batch.held);
            self.arm(&mut running);
            self.call::<_, ()>(&mut running, "fold", "update", (batch_in(batch.rows, &columns),))?;
            let updating = self.used(&running).unwrap_or(0);
            self.arm(&mut running);
            let partial = self.call::<_, Vec<u8>>(&mut running, "fold", "partial", ())?;
            let fuel = self.used(&running).map(|last| updating + last);
            Ok(Answer { value: partial, said: running.store.data_mut().take_said(), fuel })
        };
        run().map_err(|kind| self.failure(Some(batch.index), kind))
    }

    /// The result over all chunks, from their partial statistics in order.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn finish<'a>(&self, partials: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer<Value>, Failure> {
        let run = || {
            let mut running = self.start()?;
            for partial in partials {
                self.arm(&mut running);
                self.call::<_, ()>(&mut running, "fold", "merge", (partial,))?;
            }
            self.arm(&mut running);
            let text = self.call::<_, String>(&mut running, "fold", "finish", ())?;
            let value = serde_json::from_str(&text);
            let value = value.map_err(|error| BadAnswer::Json(printable(&error.to_string())))?;
            Ok(Answer { value, said: running.store.data_mut().take_said(), fuel: self.used(&running) })
        };
        run().map_err(|kind| self.failure(None, kind))
    }

    /// One call of a function that takes a batch, checked.
    fn call_on<R, T>(
        &self,
        batch: &Prepared,
        interface: &str,
        name: &str,
        check: impl Fn(R) -> Result<T, BadAnswer>,
    ) -> Result<Answer<T>, Failure>
    where
        R: Lift + Send + Sync + 'static,
    {
        let columns = lower(&batch.held);
        let run = self.with_instance(batch.index, &|running| {
            let value = self.call::<_, R>(running, interface, name, (batch_in(batch.rows, &columns),))?;
            let value = check(value)?;
            let fuel = self.used(running);
            Ok(Answer { value, said: running.store.data_mut().take_said(), fuel })
        });
        run.map_err(|kind| self.failure(Some(batch.index), kind))
    }

    /// Runs a call on an instance from the pool.
    fn with_instance<T>(&self, index: u64, call: Call<'_, T>) -> Result<T, FailureKind> {
        if self.plugin.description().state == State::Ordered {
            return self.in_order(index, call);
        }
        let idle = match self.settings.isolation {
            Isolation::Session => lock(&self.idle).pop(),
            Isolation::Batch => None,
        };
        let mut running = match idle {
            Some(running) => running,
            None => self.start()?,
        };
        let used = running.batches > 0;
        self.arm(&mut running);
        running.batches += 1;
        match call(&mut running) {
            Ok(value) => {
                self.put_back(running);
                Ok(value)
            }
            Err(first) if used && !first.is_transient() => {
                drop(running);
                let mut fresh = self.start()?;
                self.arm(&mut fresh);
                fresh.batches = 1;
                let value = call(&mut fresh)?;
                tracing::warn!(
                    plugin = %self.plugin.description().name,
                    batch = index,
                    failure = %first,
                    "a batch failed on a used instance and went through on a new one"
                );
                self.put_back(fresh);
                Ok(value)
            }
            Err(kind) => Err(kind),
        }
    }

    /// A plugin with state has one instance, which sees all batches in order.
    fn in_order<T>(&self, index: u64, call: Call<'_, T>) -> Result<T, FailureKind> {
        let mut next = lock(&self.next);
        if index != *next {
            return Err(FailureKind::Failed(format!(
                "batch {index} came, batch {next} is next: it keeps state"
            )));
        }
        let Some(mut running) = lock(&self.idle).pop() else {
            return Err(FailureKind::Failed(
                "its instance ended with an earlier batch, and its state with it".into(),
            ));
        };
        self.arm(&mut running);
        let value = call(&mut running)?;
        *next += 1;
        self.put_back(running);
        Ok(value)
    }

    fn put_back(&self, running: Running) {
        if self.settings.isolation == Isolation::Session || self.plugin.description().state == State::Ordered
        {
            lock(&self.idle).push(running);
        }
    }

    /// A new instance that has accepted the config.
    fn start(&self) -> Result<Running, FailureKind> {
        let ready = &*self.plugin.0;
        let (limits, seed) = (self.settings.limits, self.settings.seed);
        let mut running = instantiate(&ready.pre, limits, seed, ready.options.fuel)?;
        self.call::<_, ()>(&mut running, "lifecycle", "open", (self.config.as_str(), seed))?;
        // What it says while it starts is of no batch, and would come as often as there are threads.
        running.store.data_mut().take_said();
        Ok(running)
    }

    /// Sets deadline, fuel and copied bytes for the next call.
    fn arm(&self, running: &mut Running) {
        arm(&mut running.store, &self.settings.limits, self.plugin.0.options.fuel);
    }

    fn used(&self, running: &Running) -> Option<u64> {
        let budget = self.settings.limits.fuel.filter(|_| self.plugin.0.options.fuel)?;
        running.store.get_fuel().ok().map(|left| budget.saturating_sub(left))
    }

    /// Calls a function that gives `result<R, error>`.
    fn call<P, R>(
        &self,
        running: &mut Running,
        interface: &str,
        name: &str,
        params: P,
    ) -> Result<R, FailureKind>
    where
        P: ComponentNamedList + Lower,
        R: Lift + Send + Sync + 'static,
    {
        let exports = &self.plugin.0.exports;
        let result: Result<(Result<R, GuestError>,), FailureKind> =
            call(running, &self.settings.limits, exports, interface, name, params);
        Ok(result?.0?)
    }

    fn failure(&self, batch: Option<u64>, kind: FailureKind) -> Failure {
        let record = match &kind {
            FailureKind::Answer(BadAnswer::Code { record, .. } | BadAnswer::Score { record, .. }) => {
                Some(*record as u64)
            }
            _ => None,
        };
        Failure { plugin: self.plugin.description().name.clone(), batch, record, kind: Box::new(kind) }
    }
}

/// Asks a plugin what it is.
pub(crate) fn describe_plugin(
    pre: &InstancePre<HostState>,
    name: &str,
    exports: &[String],
    limits: &Limits,
    fuel: bool,
) -> Result<Description, Failure> {
    // A budget is the node's to set; here the deadline is enough.
    let ask = || {
        let mut running = instantiate(pre, *limits, 0, fuel)?;
        let (description,): (Description,) =
            call(&mut running, limits, exports, "lifecycle", "describe", ())?;
        Ok(description)
    };
    ask().map_err(|kind| Failure { plugin: printable(name), batch: None, record: None, kind: Box::new(kind) })
}

fn instantiate(
    pre: &InstancePre<HostState>,
    limits: Limits,
    seed: u64,
    fuel: bool,
) -> Result<Running, FailureKind> {
    let mut store = Store::new(pre.engine(), HostState::new(limits, seed));
    store.limiter(|state| state);
    arm(&mut store, &limits, fuel);
    let instance = pre.instantiate(&mut store);
    let instance = instance.map_err(|error| {
        let kind = kind_of(&error, &mut store, &limits);
        match kind {
            FailureKind::Trap(what) => FailureKind::Start(what),
            kind => kind,
        }
    })?;
    arm(&mut store, &limits, fuel);
    Ok(Running { store, instance, batches: 0 })
}

fn arm(store: &mut Store<HostState>, limits: &Limits, fuel: bool) {
    let epochs = limits.deadline.as_nanos().div_ceil(EPOCH.as_nanos()).max(1);
    store.set_epoch_deadline(u64::try_from(epochs).unwrap_or(u64::MAX / 2));
    store.set_hostcall_fuel(limits.copy_out);
    if fuel {
        // Where fuel is counted and the node sets none (while it describes itself), the deadline is the limit.
        let _ = store.set_fuel(limits.fuel.unwrap_or(u64::MAX));
    }
    store.data_mut().denied = None;
}

fn call<P, R>(
    running: &mut Running,
    limits: &Limits,
    exports: &[String],
    interface: &str,
    name: &str,
    params: P,
) -> Result<R, FailureKind>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let Running { store, instance, .. } = running;
    let missing = || FailureKind::Start(format!("it exports no {interface}.{name}"));
    let wanted = format!("{}/{interface}@", crate::PACKAGE);
    let export = exports.iter().find(|export| export.starts_with(&wanted)).ok_or_else(missing)?;
    let export = instance.get_export_index(&mut *store, None, export).ok_or_else(missing)?;
    let export = instance.get_export_index(&mut *store, Some(&export), name).ok_or_else(missing)?;
    let function = instance.get_func(&mut *store, export).ok_or_else(missing)?;
    let function = function.typed::<P, R>(&*store).map_err(|error| {
        FailureKind::Start(printable(&format!("{interface}.{name} has another type: {error:#}")))
    })?;
    function.call(&mut *store, params).map_err(|error| kind_of(&error, store, limits))
}

/// What an error of the engine means.
fn kind_of(error: &wasmtime::Error, store: &mut Store<HostState>, limits: &Limits) -> FailureKind {
    let then = |error: &wasmtime::Error| match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => printable(&error.root_cause().to_string()),
    };
    match (error.downcast_ref::<Trap>(), store.data_mut().denied.take()) {
        (Some(Trap::Interrupt), _) => FailureKind::Deadline { milliseconds: limits.deadline.as_millis() },
        (Some(Trap::OutOfFuel), _) => FailureKind::Fuel { budget: limits.fuel.unwrap_or_default() },
        (Some(Trap::StackOverflow), _) => FailureKind::Stack { limit: limits.stack },
        (_, Some(Denied::Memory(wanted))) => {
            FailureKind::Memory { wanted, limit: limits.memory, then: then(error) }
        }
        (_, Some(Denied::Table(wanted))) => {
            FailureKind::Table { wanted, limit: limits.table, then: then(error) }
        }
        _ if error.root_cause().to_string().contains("too much data is being copied") => {
            FailureKind::CopyOut { limit: limits.copy_out }
        }
        _ => FailureKind::Trap(then(error)),
    }
}

/// A thread that panicked leaves lists that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
