//! Tests of the whole way from files to graphs, as one binary.

#![expect(clippy::unwrap_used, reason = "tests")]

mod architecture; // what may import what
mod config; // includes, parameters, overrides, references, sweeps
mod diagnostics; // a snapshot for every kind of mistake
#[path = "../../../../tests/fuzz/src/config.rs"]
mod fuzz_config; // the body of a fuzz target, which the properties use
mod graph; // links, types, queries, drawings
mod kinds; // the toy registry that all of them use
mod properties; // invariants over generated files
mod reader; // parameters: canonical form, documentation
mod schema; // JSON Schema
#[path = "../../../../tests/fuzz/src/seeds.rs"]
mod seeds; // replays the seeds of fuzz targets
