//! `heddle plugin bench`: what a plugin costs, on records that are made up for it.
//!
//! | number | is |
//! |---|---|
//! | cold start | reading the file, looking it over, compiling it in the child process, asking what it is; once |
//! | warm start | the same with compiled code that was kept, and one instance that has accepted the config |
//! | columns | finding and converting the columns that the plugin reads |
//! | call | the plugin's answer: copying in, running, copying out, checking |
//! | all threads | columns and calls of all batches, by the clock |
//! | `isolation = "batch"` | a call with an instance of its own, as a multiple of a call without |
//!
//! Times are the best of several rounds. The things that are compared take turns within a round, so that a machine that is
//! busy for a while slows all of them.

mod records;

use std::time::{Duration, Instant};

use heddle_plugin::{
    Batch, Failure as PluginFailure, Host, Isolation, Limits, LoadOptions, Plugin, Session, Settings, State,
};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{
        args::PluginBench,
        exit::{Exit, Failure},
        output,
    },
    files, plugins,
};

const ROUNDS: usize = 5;

/// Runs the command.
pub fn run(options: &PluginBench) -> Result<Exit, Failure> {
    let config: Value = serde_json::from_str(&options.config)
        .map_err(|error| Failure::Other(format!("`--config` is no JSON: {error}")))?;
    let bytes = files::read(&options.file)
        .map_err(|reason| Failure::Other(format!("cannot read the plugin `{}`: {reason}", options.file)))?;
    let bench = Bench { options, bytes: &bytes, config };
    let report = bench.measure()?;
    output::result(&if options.json { to_json(&report)? } else { report.text() });
    Ok(Exit::Done)
}

fn to_json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string_pretty(report).map_err(|error| Failure::Other(error.to_string()))
}

/// What is measured.
struct Bench<'a> {
    options: &'a PluginBench,
    bytes: &'a [u8],
    config: Value,
}

/// What was measured. Times of a record are in nanoseconds; what a plugin with state cannot do is absent.
#[derive(Serialize)]
struct Report {
    plugin: String,
    version: String,
    world: &'static str,
    bytes: usize,
    functions: u32,
    records: u32,
    batch: u32,
    rounds: usize,
    cold_start_s: f64,
    warm_start_ms: f64,
    columns_ns: f64,
    call_ns: f64,
    records_per_s: f64,
    threads: usize,
    all_threads_ns: Option<f64>,
    all_threads_records_per_s: Option<f64>,
    instance_bytes: usize,
    isolation_ratio: Option<f64>,
}

/// The best times of all rounds, for all records.
struct Best {
    columns: Duration,
    call: Duration,
    all_threads: Option<Duration>,
    isolated_call: Option<Duration>,
    instance_bytes: usize,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Report, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::io("making a temporary folder"))?;
        // The host makes the folder, so that it is private.
        let host = plugins::host_in(&folder.path().join("code"))
            .map_err(|error| Failure::Other(error.to_string()))?;
        let start = Instant::now();
        let plugin = self.load(&host)?;
        let cold = start.elapsed();
        self.check_config(&plugin)?;
        let warm = self.warm_start(&host)?;
        let description = plugin.description();
        let batch = description.max_batch.map_or(self.options.batch, |most| most.min(self.options.batch));
        let batches = records::batches(&description.reads, self.options.records as usize, batch as usize)
            .map_err(Failure::Other)?;
        let best = self.rounds(&plugin, &batches).map_err(|failure| Failure::Other(failure.to_string()))?;
        Ok(self.report(&plugin, batch, cold, warm, &best))
    }

    fn load(&self, host: &Host) -> Result<Plugin, Failure> {
        let options = LoadOptions { stub_wasi: self.options.stub_wasi, ..LoadOptions::default() };
        host.load(&files::name(&self.options.file), self.bytes, options).map_err(|error| {
            Failure::Other(format!("`{}` is no plugin that can be used: {error}", self.options.file))
        })
    }

    fn check_config(&self, plugin: &Plugin) -> Result<(), Failure> {
        match plugin.check_config(&self.config).first() {
            None => Ok(()),
            Some(problem) => Err(Failure::Other(format!(
                "`--config`: {}{}",
                problem.path.iter().map(|step| format!("{step}: ")).collect::<String>(),
                problem.message
            ))),
        }
    }

    fn warm_start(&self, host: &Host) -> Result<Duration, Failure> {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let plugin = self.load(host)?;
            let session = self.open(&plugin, Isolation::Session);
            best = best.min(start.elapsed());
            session.map_err(|failure| Failure::Other(failure.to_string()))?;
        }
        Ok(best)
    }

    fn open(&self, plugin: &Plugin, isolation: Isolation) -> Result<Session, PluginFailure> {
        let settings =
            Settings { config: self.config.clone(), seed: 0, limits: Limits::default(), isolation };
        plugin.open(settings)
    }

    fn rounds(&self, plugin: &Plugin, batches: &[Batch]) -> Result<Best, PluginFailure> {
        if plugin.description().state == State::Ordered {
            return self.ordered_rounds(plugin, batches);
        }
        let session = self.open(plugin, Isolation::Session)?;
        let isolated = self.open(plugin, Isolation::Batch)?;
        let (mut columns, mut call) = (Duration::MAX, Duration::MAX);
        let (mut all_threads, mut isolated_call) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            let (prepared, called) = one_thread(&session, batches)?;
            (columns, call) = (columns.min(prepared), call.min(called));
            isolated_call = isolated_call.min(one_thread(&isolated, batches)?.1);
            let start = Instant::now();
            batches.par_iter().try_for_each(|batch| session.exercise(&session.prepare(batch)?))?;
            all_threads = all_threads.min(start.elapsed());
        }
        let instance_bytes = session.memory();
        let (all_threads, isolated_call) = (Some(all_threads), Some(isolated_call));
        Ok(Best { columns, call, all_threads, isolated_call, instance_bytes })
    }

    /// A plugin with state sees every batch once and in order, so every round has a session of its own.
    fn ordered_rounds(&self, plugin: &Plugin, batches: &[Batch]) -> Result<Best, PluginFailure> {
        let (mut columns, mut call, mut instance_bytes) = (Duration::MAX, Duration::MAX, 0);
        for _ in 0..ROUNDS {
            let session = self.open(plugin, Isolation::Session)?;
            let (prepared, called) = one_thread(&session, batches)?;
            (columns, call) = (columns.min(prepared), call.min(called));
            instance_bytes = session.memory();
        }
        Ok(Best { columns, call, all_threads: None, isolated_call: None, instance_bytes })
    }

    fn report(&self, plugin: &Plugin, batch: u32, cold: Duration, warm: Duration, best: &Best) -> Report {
        let records = f64::from(self.options.records);
        let a_record = |time: Duration| time.as_secs_f64() * 1e9 / records;
        let rate = |time: Duration| records / time.as_secs_f64();
        let description = plugin.description();
        let (functions, bytes) = plugin.size();
        Report {
            plugin: description.name.clone(),
            version: description.version.clone(),
            world: plugin.world().name(),
            bytes,
            functions,
            records: self.options.records,
            batch,
            rounds: ROUNDS,
            cold_start_s: cold.as_secs_f64(),
            warm_start_ms: warm.as_secs_f64() * 1e3,
            columns_ns: a_record(best.columns),
            call_ns: a_record(best.call),
            records_per_s: rate(best.columns + best.call),
            threads: rayon::current_num_threads(),
            all_threads_ns: best.all_threads.map(a_record),
            all_threads_records_per_s: best.all_threads.map(rate),
            instance_bytes: best.instance_bytes,
            isolation_ratio: best.isolated_call.map(|call| call.as_secs_f64() / best.call.as_secs_f64()),
        }
    }
}

/// The time for all columns and for all calls.
fn one_thread(session: &Session, batches: &[Batch]) -> Result<(Duration, Duration), PluginFailure> {
    let (mut columns, mut call) = (Duration::ZERO, Duration::ZERO);
    for batch in batches {
        let start = Instant::now();
        let prepared = session.prepare(batch)?;
        let middle = Instant::now();
        session.exercise(&prepared)?;
        call += middle.elapsed();
        columns += middle - start;
    }
    Ok((columns, call))
}

impl Report {
    fn text(&self) -> String {
        let Self { plugin, version, world, bytes, functions, records, batch, rounds, .. } = self;
        let mut lines = vec![
            format!("{plugin} {version}, a {world} plugin: {bytes} bytes, {functions} functions"),
            format!("{records} records in batches of {batch}, the best of {rounds} rounds"),
            format!("cold start   {:.3} s: looked over, compiled, described", self.cold_start_s),
            format!("warm start   {:.2} ms: from kept code to an open instance", self.warm_start_ms),
            format!(
                "one thread   {:.0} records/s: {:.0} ns a record in the plugin, {:.0} ns for its columns",
                self.records_per_s, self.call_ns, self.columns_ns
            ),
        ];
        match (self.all_threads_records_per_s, self.all_threads_ns) {
            (Some(rate), Some(time)) => lines
                .push(format!("{:<12} {rate:.0} records/s: {time:.0} ns a record", threads(self.threads))),
            _ => lines.push("all threads  no: it keeps state, and sees its batches in order".to_owned()),
        }
        lines.push(format!(
            "memory       {:.1} MiB an instance",
            self.instance_bytes as f64 / f64::from(1 << 20)
        ));
        if let Some(ratio) = self.isolation_ratio {
            lines.push(format!("isolation    {ratio:.2} times the call with `isolation = \"batch\"`"));
        }
        lines.join("\n")
    }
}

fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}
