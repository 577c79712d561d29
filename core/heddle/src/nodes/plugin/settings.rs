//! What every plugin node has: the file, its config, its limits, and what happens when it fails.

use std::time::Duration;

use heddle_graph::config::Reader;
use heddle_plugin::{Isolation, Limits, LoadOptions, Plugin, Session, Settings, World};
use serde_json::Value as Json;

use crate::{
    exec::{NodeError, RunContext},
    plugins,
};

/// What happens to the records of a batch that a plugin fails on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The node fails.
    Fail,
    /// They are dropped.
    Drop,
    /// They are kept as they are.
    Keep,
}

/// A plugin as a node names it.
pub struct Plugged {
    /// Loaded when the experiment was read; none if it could not be.
    plugin: Option<Plugin>,
    config: Json,
    limits: Limits,
    isolation: Isolation,
    /// What happens on failure.
    pub on_error: OnError,
}

impl Plugged {
    /// Reads the parameters, loads the plugin and holds the config against its schema.
    pub fn read(r: &mut Reader<'_>, world: World) -> Self {
        let file = r.file("plugin", "the plugin, a WebAssembly component").required();
        let config = r.foreign_table("config", "the plugin's own settings; its JSON Schema checks them");
        let limits = r.table("limits", "what the plugin may take", read_limits);
        let isolation = r
            .choice(
                "isolation",
                "how long an instance of the plugin lives",
                &[
                    ("session", Isolation::Session, "as long as the node runs"),
                    ("batch", Isolation::Batch, "one batch; slower, and the same for a plugin without state"),
                ],
            )
            .not_in_key("the answers of a plugin without state are the same")
            .or("session");
        let on_error = r
            .choice(
                "on-error",
                "what happens to the records of a batch that the plugin fails on",
                &[
                    ("fail", OnError::Fail, "the node fails"),
                    ("drop", OnError::Drop, "they are dropped, for the reason `plugin-failed`"),
                    ("keep", OnError::Keep, "they stay as they are"),
                ],
            )
            .or("fail");
        let stub_wasi = r
            .choice(
                "wasi",
                "what a plugin finds that imports WASI because its language's runtime does",
                &[
                    ("refuse", false, "it is refused"),
                    (
                        "stub",
                        true,
                        "an empty environment, seeded random numbers, clocks that stand; all else ends it",
                    ),
                ],
            )
            .or("refuse");
        let mut node = Self { plugin: None, config, limits, isolation, on_error };
        if !r.is_documenting() && !file.path.is_empty() {
            node.load(
                r,
                &file.path,
                world,
                LoadOptions { stub_wasi, fuel: limits.fuel.is_some(), stack: limits.stack },
            );
        }
        node
    }

    fn load(&mut self, r: &mut Reader<'_>, path: &str, world: World, options: LoadOptions) {
        let plugin = match plugins::load(path, options) {
            Ok(plugin) => plugin,
            Err(error) => return r.error("plugin", error.to_string(), None),
        };
        if plugin.world() != world {
            let found = plugin.world().name();
            let message = format!("the plugin is a {found}, a {} is wanted", world.name());
            return r.error("plugin", message, Some(&format!("use it with `kind = \"data.{found}\"`")));
        }
        for problem in plugin.check_config(&self.config) {
            let path: Vec<&str> =
                ["config"].into_iter().chain(problem.path.iter().map(String::as_str)).collect();
            r.error(&path.join("."), format!("`config`: {}", problem.message), None);
        }
        self.plugin = Some(plugin);
    }

    /// The plugin.
    pub fn plugin(&self) -> Result<&Plugin, NodeError> {
        self.plugin.as_ref().ok_or_else(|| NodeError::Other("the plugin was not loaded".into()))
    }

    /// Opens it for a run.
    pub fn open(&self, cx: &RunContext<'_>) -> Result<Session, NodeError> {
        let settings = Settings {
            config: self.config.clone(),
            seed: cx.seed,
            limits: self.limits,
            isolation: self.isolation,
        };
        self.plugin()?.open(settings).map_err(NodeError::data)
    }

    /// All that decides an answer besides plugin and records.
    pub fn conditions(&self, seed: u64) -> String {
        let Limits { fuel, memory, table, stack, copy_out, .. } = self.limits;
        format!("{} {seed} {fuel:?} {memory} {table} {stack} {copy_out}", self.config)
    }
}

fn read_limits(r: &mut Reader<'_>) -> Limits {
    let base = Limits::default();
    let deadline: u64 = r
        .field("deadline-ms", "milliseconds for a batch, by the clock")
        .min(1)
        .not_in_key("a run that a deadline ended is not remembered")
        .or(base.deadline.as_millis() as u64);
    let mebibytes = |r: &mut Reader<'_>, name, help, base: usize| -> usize {
        let value: u64 = r.field(name, help).min(1).max(4096).or((base >> 20) as u64);
        (value as usize) << 20
    };
    Limits {
        deadline: Duration::from_millis(deadline),
        fuel: r
            .field("fuel", "units of work for a batch, about an instruction each; the same on every machine")
            .min(1)
            .optional(),
        memory: mebibytes(r, "memory-mib", "MiB of memory of an instance", base.memory),
        table: r.field("table", "elements of each of its tables").min(1).max(10_000_000).or(base.table),
        stack: {
            let most = (Limits::MOST_STACK >> 10) as u64;
            let kibibytes: u64 =
                r.field("stack-kib", "KiB of its stack").min(16).max(most).or((base.stack >> 10) as u64);
            (kibibytes as usize) << 10
        },
        copy_out: mebibytes(r, "copy-out-mib", "MiB that one answer may have", base.copy_out),
        log: {
            let kibibytes: u64 = r
                .field("log-kib", "KiB of log lines of a batch; what is beyond them is dropped")
                .max(1 << 20)
                .not_in_key("what a plugin logs is no result")
                .or((base.log >> 10) as u64);
            (kibibytes as usize) << 10
        },
        counters: r
            .field("counters", "names of counters; counts under further names are dropped")
            .max(10_000)
            .not_in_key("what a plugin counts is no result")
            .or(base.counters),
    }
}
