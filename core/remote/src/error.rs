//! [`RemoteError`]: why a remote did not do what was asked.
//!
//! What is absent, damaged or there already is no error.

use std::{io, path::PathBuf, time::Duration};

/// The remote did not answer, or refused.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The folder of the address is not there: not made yet, or not mounted.
    #[error("there is no folder {}; mount it, or make it", .0.display())]
    NoFolder(PathBuf),
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The service, the network or the file system refused.
    #[error("{0}")]
    Refused(object_store::Error),
    /// What was fetched could not be written here.
    #[error("what was fetched could not be written: {0}")]
    Write(io::Error),
    /// [`Remote::stop`](crate::Remote::stop) was called.
    #[error("nobody waits for it any more")]
    Interrupted,
    /// The threads that talk to the remote could not be started, or have ended.
    #[error("the threads that talk to it are gone")]
    Stopped,
}

impl From<object_store::Error> for RemoteError {
    fn from(error: object_store::Error) -> Self {
        Self::Refused(error)
    }
}
