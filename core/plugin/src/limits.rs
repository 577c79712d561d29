//! What a plugin may take.

use std::time::Duration;

/// Limits of a node's plugin; the defaults fit every example, script languages included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for one batch; the clock's, so it depends on the load of the machine.
    pub deadline: Duration,
    /// Instructions for one batch, about; the same everywhere. Costs some per cent of speed.
    pub fuel: Option<u64>,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Elements of all tables of an instance, each.
    pub table: usize,
    /// Bytes of its stack, at most [`Limits::MOST_STACK`]. The engine's: a plugin has the one that it was loaded with.
    pub stack: usize,
    /// Bytes that one call may copy out: answers and log lines.
    pub copy_out: usize,
    /// Bytes of log lines of one batch; what is beyond them is dropped and counted.
    pub log: usize,
    /// Names of counters.
    pub counters: usize,
}

impl Limits {
    /// A plugin runs on the stack of the thread that calls it, which has 2 MiB and calls of its own on it.
    pub const MOST_STACK: usize = 1 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            fuel: None,
            memory: 256 << 20,
            table: 20_000,
            stack: 512 << 10,
            copy_out: 128 << 20,
            log: 64 << 10,
            counters: 64,
        }
    }
}

/// Core instances of one component; wit-component makes a few, CPython's has about 20.
pub(crate) const INSTANCES: usize = 200;
/// Tables of one component.
pub(crate) const TABLES: usize = 50;
/// Memories of one component.
pub(crate) const MEMORIES: usize = 50;
/// What the child that compiles may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Seconds of processor time, all threads together.
    pub cpu: u64,
    /// Bytes of address space.
    pub memory: u64,
    /// Time on the clock.
    pub wall: Duration,
}

impl Default for CompileLimits {
    /// CPython takes 10 s and 2 GB when the compiler is optimised.
    fn default() -> Self {
        Self { cpu: 120, memory: 8 << 30, wall: Duration::from_secs(300) }
    }
}
