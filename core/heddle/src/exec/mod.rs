//! Exec: the plan becomes artifacts and a run record. The only asynchronous stage.
//!
//! ```text
//! Plan + Facts + dyn Node --scheduler--> Event ... --> terminal, run record
//!                             |
//!                             +--> store (cache): artifacts by digest, traces by key
//!                                    gc: what goes     bundle: what a run used, as a file
//! ```
//!
//! The scheduler calls `dyn Node` and names no kind. Nodes know nothing of the scheduler: they get a
//! [`RunContext`] and give bytes per output port.

mod bundle;
mod context;
mod event;
mod gc;
mod group;
mod library;
mod record;
mod scheduler;
mod shelf;
mod store;

pub use bundle::{BundleError, Contents, export, import};
pub use context::{Artifact, NodeError, Output, Outputs, RunContext, output};
pub use event::{Event, Events, Progress};
pub use gc::{Gone, Sort, Spared, Sweep};
pub use group::{CellState, GroupCell, GroupRecord, GroupsDir};
pub use library::{Library, LibraryError};
pub use record::{
    CellKind, CellRecord, InputRecord, NodeRecord, NodeState, RowCount, RunRecord, RunsDir, Versions,
    short_keys,
};
pub use scheduler::{Execution, Fresh, OnFailure, Outcome, Weight};
pub use store::{ChunkName, Pin, Store, StoreError};
