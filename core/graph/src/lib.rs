//! heddle-graph: experiment files, their typed graph, and the plan.
//!
//! ```text
//!             read, resolve, expand (trait Load)
//!                          |
//!  a.toml  --+             v
//!  b.toml  --+-> include -> merge -> -S overrides -> params -> Experiment --+
//!  -S k=v  --+                                          |                   |
//!                                                       +--> ModelFile(s) --+
//!                                                                           v
//!             kinds: ports, Reader (values, defaults, docs)  ------->  graph::build
//!                              |                                            |
//!                              v                                            v
//!                     schema (JSON Schema, KindDoc)             Graph: sealed, typed, in order
//!                                                                           |
//!                                                       known digests ------+--> plan
//! ```
//!
//! | module | from | to |
//! |---|---|---|
//! | [`source`] | bytes of files | texts and [`Span`](source::Span)s |
//! | [`config`] | texts, `-S` overrides | [`Experiment`](config::Experiment), [`ModelFile`](config::ModelFile) |
//! | [`graph`] | those and a registry of kinds | [`Graph`](graph::Graph) |
//! | [`plan`] | a graph, digests of what is known | what runs, what is a hit, and why |
//! | [`schema`] | a registry of kinds | JSON Schema, reference pages |
//! | [`diagnostic`], [`render()`] | mistakes | text with `file:line:col` and a caret |
//!
//! # Invariants
//!
//! - No file, clock, network, thread or tensor is touched here: [`source::Load`] is the only way out.
//! - A stage imports earlier stages only: `source`, `diagnostic` < `config` < `graph` < `schema`, `plan`. Of `graph`, `config`
//!   sees nothing but the types of ports.
//! - No text that a user can write makes this crate panic, and none makes it take unbounded time or memory.
//! - Every mistake of a file and of all that it includes is reported in one pass, each once, none because of another.
//! - A sealed [`Graph`](graph::Graph) has every port connected, every class and shape agreed, and no cycle.
//! - [`Graph::canonical`](graph::Graph::canonical) does not depend on the order of keys, on comments, on spelling
//!   (`1` or `1.0` of a number with a point) or on the places of files.

pub mod config;
pub mod diagnostic;
pub mod digest;
pub mod graph;
mod map_loader;
pub mod paths;
pub mod plan;
mod render;
pub mod schema;
pub mod source;
pub mod suggest;

pub use map_loader::MapLoader;
pub use render::render;
