//! The plugin host: data filters and their kin as WebAssembly components in a sandbox.
//!
//! ```text
//! file ──scan──▶ component ──compile (child process)──▶ Plugin ──open(config, seed, limits)──▶ Session
//!                                 │                                                             │
//!                                 └─ compiled code, by digest                  Batch (Arrow) ──▶│──▶ Answer
//! ```
//!
//! The interface is `plugins/wit/0.1`. A plugin sees the columns that it asked for and can call two functions: `log` and
//! `count`. What bounds it:
//!
//! | what | by |
//! |---|---|
//! | files, network, clocks, threads | not there |
//! | compilation | a scan of every function first, then a child process with limits of the system |
//! | the interface of a core module | it is read in such a child process |
//! | time | a deadline for every batch; instructions, where the node sets `fuel` |
//! | memory, tables, stack, copied bytes, log, counters | [`Limits`] |
//! | wrong answers | `answer` checks every one |
//! | strings for the terminal | `text::printable` |
//!
//! Answers are the same bits on every machine: NaNs are canonical, there are no threads and no relaxed SIMD. This crate
//! knows Arrow arrays and nothing of records, nodes or caches.

mod abi;
pub mod answer;
mod columns;
mod compile;
mod describe;
mod failure;
mod host;
mod limits;
mod scan;
mod session;
mod state;
mod text;
mod wasi;

pub use abi::{
    Column, ColumnSpec, ColumnType, Description, Dict, DropReason, Keys, Level, Packed, State, Values,
};
pub use columns::Batch;
pub use compile::{CompileError, CompilerCommand, compiler_main};
pub use describe::ConfigProblem;
pub use failure::{Failure, FailureKind};
pub use host::{Host, HostOptions, LoadError, LoadOptions, Plugin};
pub use limits::{CompileLimits, Limits};
pub use scan::{Facts, Form, PACKAGE, ScanError, VERSION, form, scan};
pub use session::{Answer, Isolation, Prepared, Session, Settings};
pub use state::Said;
pub use text::printable;

/// What a plugin does; one interface of `plugins/wit/0.1` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Keeps or drops records.
    Filter,
    /// Gives columns.
    Transform,
    /// Gives a number for every record.
    Score,
    /// Gives hashes by which records are duplicates.
    Dedup,
    /// Gathers statistics.
    Fold,
}

impl World {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Filter, Self::Transform, Self::Score, Self::Dedup, Self::Fold];

    /// The interface's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Transform => "transform",
            Self::Score => "score",
            Self::Dedup => "dedup",
            Self::Fold => "fold",
        }
    }
}
