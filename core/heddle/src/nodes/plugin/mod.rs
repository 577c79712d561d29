//! Nodes that run plugins: `data.filter`, `data.transform`, `data.score`, `data.dedup`, `data.fold`.
//!
//! Records go through in chunks whose borders depend on the records themselves, so that a record more or less upstream
//! changes a chunk or two. Chunks run on all threads; what a plugin gave for a chunk is kept under the digests of plugin,
//! config and chunk.

mod calls;
mod chunks;
mod dedup;
mod filter;
mod fold;
mod settings;
mod widen;

pub use dedup::Dedup;
pub use filter::Filter;
pub use fold::Fold;
pub use widen::{Score, Transform};
