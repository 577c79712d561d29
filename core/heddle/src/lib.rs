//! heddle: declarative experiments for vision-language models.
//!
//! This crate is where the walls meet:
//!
//! ```text
//! files -> config -> graph -> plan -> exec -> (nodes: tensor, data) -> cache -> report
//!          \______ heddle-graph _____/  \__ here __/  \_ crates _/
//! ```
//!
//! Within the crate later modules use earlier ones: `files, device, plugins <- exec, model <- nodes <- project <- cli`. Two
//! traits look ahead: `exec` calls `dyn nodes::Node` and `model` holds `dyn nodes::ModelNode`; neither names a kind.
//! `cli/output.rs` alone prints. `tests/layers.rs` reads the `use` lines and keeps it so.

pub mod cli;
pub mod device;
pub mod exec;
pub mod files;
pub mod memory;
pub mod model;
pub mod nodes;
pub mod plugins;
pub mod project;

/// Seconds since 1970; 0 if the clock stands before that.
pub(crate) fn now_unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
