//! What the host holds for one instance: its limits, and what it logged and counted.

use std::collections::BTreeMap;

use wasmtime::{ResourceLimiter, StoreContextMut, component::Linker};

use crate::{
    Limits,
    abi::Level,
    limits::{INSTANCES, MEMORIES, TABLES},
    scan::{PACKAGE, VERSION},
    text::printable,
};

/// The longest name of a counter.
const COUNTER_NAME: usize = 64;

/// What a plugin said during one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Log lines, safe to print.
    pub log: Vec<(Level, String)>,
    /// Lines that were dropped because there were too many.
    pub log_dropped: u64,
    /// Counters by name, safe to print.
    pub counters: BTreeMap<String, u64>,
    /// Counts under names that were too many or too long.
    pub counters_dropped: u64,
}

/// A wish for memory or table elements that was denied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Denied {
    Memory(usize),
    Table(usize),
}

/// The data of a store.
pub(crate) struct HostState {
    limits: Limits,
    log_bytes: usize,
    said: Said,
    memory: usize,
    pub denied: Option<Denied>,
    /// Draws for the random numbers of a stubbed WASI.
    pub random: u64,
}

impl HostState {
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self { limits, log_bytes: 0, said: Said::default(), memory: 0, denied: None, random: seed }
    }

    /// Bytes of all linear memories.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// What was said since the last time.
    pub fn take_said(&mut self) -> Said {
        self.log_bytes = 0;
        std::mem::take(&mut self.said)
    }

    fn log(&mut self, level: Level, message: &str) {
        if self.log_bytes >= self.limits.log {
            self.said.log_dropped += 1;
            return;
        }
        self.log_bytes = self.log_bytes.saturating_add(message.len() + 1);
        self.said.log.push((level, printable(message)));
    }

    fn count(&mut self, counter: &str, by: u64) {
        let counters = &mut self.said.counters;
        let name = printable(counter);
        let known = counters.contains_key(&name);
        if counter.len() > COUNTER_NAME || (!known && counters.len() >= self.limits.counters) {
            self.said.counters_dropped = self.said.counters_dropped.saturating_add(1);
            return;
        }
        let count = counters.entry(name).or_default();
        *count = count.saturating_add(by);
    }
}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.limits.memory;
        if allowed {
            self.memory += desired.saturating_sub(current);
        } else {
            self.denied = Some(Denied::Memory(desired));
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.limits.table;
        if !allowed {
            self.denied = Some(Denied::Table(desired));
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// Defines all that a plugin may call. A plugin of another patch release finds it too.
pub(crate) fn define_host(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut host = linker.instance(&format!("{PACKAGE}/host@{VERSION}"))?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, HostState>, (level, message): (Level, String)| {
        store.data_mut().log(level, &message);
        Ok(())
    })?;
    host.func_wrap("count", |mut store: StoreContextMut<'_, HostState>, (counter, by): (String, u64)| {
        store.data_mut().count(&counter, by);
        Ok(())
    })
}
