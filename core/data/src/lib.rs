//! Records, images and text: shards in, model inputs out.
//!
//! ```text
//! tar, tar.gz, folder ──shard──▶ Shard ──webdataset──▶ Scan ──select──▶ Record ──manifest──▶ Manifest (Arrow IPC)
//!                                  │                                                            │
//!                                  └── Shards (digest → bytes) ──────────┐                      │
//!                                                                        ▼                      ▼
//!                                      image: decode ▶ Prepared ▶ tensor, augmented    loader: batches
//!                                      text:  Captions ▶ Tokenizer ▶ TokenBatch           (seed, step)
//! ```
//!
//! What leaves are plain `Vec<f32>` images `[3,H,W]` and `Vec<u32>` token ids `[B,T]`. Broken input never
//! panics: it is counted and named in [`Skipped`], or it is an error with the file's name in it.
//!
//! Invariants: this crate knows no experiment, graph, cache or tensor type. Identity is content: a digest
//! covers bytes, never a path, an offset or a time. Everything random takes its generator from [`rng()`], so
//! it depends on (seed, stream) and not on threads.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod digest;
pub mod dirt;
pub mod emoji;
pub mod export;
pub mod folder;
pub mod image;
pub mod loader;
pub mod manifest;
pub mod pixel_floor;
pub mod record;
pub mod rng;
pub mod scenes;
pub mod select;
pub mod shard;
pub mod sources;
pub mod text;
pub mod webdataset;

pub use folder::Folder;
pub use manifest::{Footer, Manifest, ManifestError, ManifestWriter, RowWriter, ShardInfo};
pub use pixel_floor::{Neighbour, pixel_floor};
pub use record::{Caption, Part, Record, SkipReason, Skipped};
pub use rng::rng;
pub use select::{Filter, Join, Select};
pub use shard::{Shard, Shards};
pub use webdataset::{Scan, ScanOptions, SplitFrom, scan};
