//! Exec: the plan becomes artifacts and a run record. The only asynchronous stage.
//!
//! ```text
//! Plan + Facts + dyn Node --scheduler--> Event ... --> terminal, run record
//!                             |
//!                             +--> store (cache): artifacts by digest, traces by key
//!                                    gc: what goes     bundle: what a run used, as a file
//!                                    tier: the cache that machines share
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
mod modes;
mod record;
mod scheduler;
mod scratch;
mod shelf;
mod store;
mod tier;

pub use bundle::{BundleError, Contents, export, import};
pub use context::{Artifact, NodeError, Output, Outputs, RunContext, inputs_of, output};
pub use event::{Event, Events, Progress};
pub use gc::{Gone, Sort, Spared, Sweep};
pub use group::{CellState, GroupCell, GroupRecord, GroupsDir};
pub use library::{Library, LibraryError};
pub use modes::{Access, CacheModes};
pub use record::{
    CellKind, CellRecord, InputRecord, NodeRecord, NodeState, RemoteRecord, RowCount, RunRecord, RunsDir,
    Versions, short_keys,
};
pub use scheduler::{Execution, Flights, Fresh, OnFailure, Outcome, Weight};
pub use store::{CacheUse, ChunkName, Pin, Store, StoreError};
pub use tier::Elsewhere;
