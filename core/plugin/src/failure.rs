//! How a plugin's call ends when it does not end well.

use std::fmt;

use crate::{abi::GuestError, answer::BadAnswer, text::printable};

/// A call that gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The plugin's name.
    pub plugin: String,
    /// The batch, counted from 0; none while it starts.
    pub batch: Option<u64>,
    /// The record within the batch, where it is known.
    pub record: Option<u64>,
    /// What happened.
    pub kind: Box<FailureKind>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailureKind {
    /// It took too long on the clock.
    #[error("it did not answer within {milliseconds} ms (`limits.deadline-ms`)")]
    Deadline {
        /// The limit.
        milliseconds: u128,
    },
    /// It used up its instructions.
    #[error("it used up its {budget} units of fuel (`limits.fuel`)")]
    Fuel {
        /// The limit.
        budget: u64,
    },
    /// It wanted more memory, and could not go on without.
    #[error("it wanted {wanted} bytes of memory, the limit is {limit} (`limits.memory-mib`); then: {then}")]
    Memory {
        /// What it wanted.
        wanted: usize,
        /// The limit.
        limit: usize,
        /// How it ended.
        then: String,
    },
    /// It wanted larger tables.
    #[error("it wanted a table of {wanted} elements, the limit is {limit} (`limits.table`); then: {then}")]
    Table {
        /// What it wanted.
        wanted: usize,
        /// The limit.
        limit: usize,
        /// How it ended.
        then: String,
    },
    /// Calls within calls.
    #[error("its stack is full: calls within calls, {} KiB of them (`limits.stack-kib`)", .limit >> 10)]
    Stack {
        /// Bytes of it.
        limit: usize,
    },
    /// It answered with too much.
    #[error("its answer is more than {limit} bytes (`limits.copy-out-mib`)")]
    CopyOut {
        /// The limit.
        limit: usize,
    },
    /// It broke off.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It could not be started.
    #[error("it cannot be started: {0}")]
    Start(String),
    /// Its answer is not what was agreed.
    #[error("its answer is wrong: {0}")]
    Answer(#[from] BadAnswer),
    /// It refused the config.
    #[error("it refuses its config{}: {message}", at(path))]
    Config {
        /// JSON pointer.
        path: String,
        /// What it says.
        message: String,
    },
    /// It refused the batch.
    #[error("it cannot use the data: {0}")]
    Data(String),
    /// It gave up.
    #[error("it failed: {0}")]
    Failed(String),
    /// The records lack a column, or have it in another form.
    #[error("{0}")]
    Column(String),
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at `{path}`") }
}

impl FailureKind {
    /// Whether another run may end differently: a deadline is the clock's, not the data's. Never to be kept.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }
}

impl From<GuestError> for FailureKind {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Config(error) => {
                Self::Config { path: printable(&error.path), message: printable(&error.message) }
            }
            GuestError::Data(message) => Self::Data(printable(&message)),
            GuestError::Failed(message) => Self::Failed(printable(&message)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}`", self.plugin)?;
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        if let Some(record) = self.record {
            write!(f, ", record {record} of it")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for Failure {}
