//! Exit codes, and the failures that lead to them.

use std::{io, process::ExitCode};

use crate::{
    device::DeviceError,
    exec::{LibraryError, NodeError, StoreError},
    model::{RunError, WeightsError},
    project::{Broken, UnknownNode},
};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the plan has work left (also: wrong usage, as `clap` has it).
    WorkLeft,
    /// 3: the files are wrong.
    FilesWrong,
    /// 4: verification found a difference.
    Different,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The code that the shell sees.
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::WorkLeft => 2,
            Self::FilesWrong => 3,
            Self::Different => 4,
            Self::Interrupted => 130,
        })
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Mistakes in the files.
    #[error("the files have mistakes")]
    Broken(Box<Broken>),
    /// The cache.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the experiment.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A node that does not exist.
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
    /// A variant that does not exist.
    #[error("{message}")]
    UnknownVariant {
        /// Which, and what there is.
        message: String,
    },
    /// The device cannot do what is asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device cannot do what a node asks.
    #[error("node `{node}`: {reason}; the device is `{device}` (`[run] device`), and nothing was run")]
    Refused {
        /// The node.
        node: String,
        /// The device of the run.
        device: String,
        /// What is missing.
        reason: DeviceError,
    },
    /// Weights could not be read or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model graph could not be run.
    #[error(transparent)]
    Model(#[from] RunError),
    /// A node's own error, outside a run.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Reading or writing something.
    #[error("{what}: {error}{}", advice(error))]
    Io {
        /// What was being done.
        what: String,
        /// What went wrong.
        error: io::Error,
    },
    /// Ctrl-C.
    #[error("interrupted; what is finished is kept")]
    Interrupted,
    /// Anything that is a sentence.
    #[error("{0}")]
    Other(String),
}

impl From<Box<Broken>> for Failure {
    fn from(broken: Box<Broken>) -> Self {
        Self::Broken(broken)
    }
}

impl Failure {
    /// An input/output error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Broken(_) | Self::UnknownNode(_) | Self::UnknownVariant { .. } => Exit::FilesWrong,
            Self::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }
}

/// What the user can do about an error of the system, as the end of a message.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "; free space there (`heddle cache gc` removes what nothing uses), then run the same command again"
        }
        FileTooLarge => {
            "; files may not grow that large there: raise the limit (`ulimit -f`), then run the same command again"
        }
        PermissionDenied | ReadOnlyFilesystem => "; make it writable, or name another folder",
        _ => "",
    }
}
