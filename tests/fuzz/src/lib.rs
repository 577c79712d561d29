//! What strangers' bytes may not do: the bodies of the fuzz targets.
//!
//! Each module has a function `check`, which takes any bytes, panics if heddle breaks a promise, and says whether the
//! bytes were accepted as what they claim to be. The tests of the crates include these files and replay the seeds, so
//! a module uses the crate that it is about and nothing else of ours. `bundle` is about one file of a crate that brings tensors and an
//! engine with it, and includes that file alone.

pub mod answers;
pub mod bundle;
pub mod config;
pub mod manifest;
pub mod tar;

/// The toy registry of the graph's own tests; the real kinds bring tensors and an engine with them.
#[path = "../../../core/graph/tests/suite/kinds.rs"]
#[expect(clippy::unwrap_used, reason = "it belongs to the tests of heddle-graph")]
pub mod kinds;
