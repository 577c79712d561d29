//! Plan: which nodes are hits, which run, and why.
//!
//! ```text
//! Facts (per node, in topological order) + Known (what the cache remembers)  ->  Plan (an Action per node)
//! ```
//!
//! The stage is pure. What lies outside comes in through two doors: [`Facts`] hold what the graph says of a node
//! and the digests of the files that it reads, and [`Known`] answers from the cache. It must not know what a kind
//! does, where bytes lie, or how nodes are run.

mod build;
mod key;
mod reason;

pub use build::{Action, Known, NodePlan, Plan, Trace, build};
pub use key::{Facts, FileKey, InputFact, InputKey, KeyParts};
pub use reason::{Change, RunReason};
