//! heddle-remote: a store of immutable objects that several machines share, in a folder or in a cloud.
//!
//! Objects are named by the BLAKE3 [`Digest`] of their bytes; small values, which say what objects are for, stand under a space and a
//! key of digests. Both are published once and read by everybody, through the `object_store` crate.
//!
//! ```text
//! URL/v1/
//!   objects/ab/abcd..          a payload, named by the digest of its bytes
//!   values/SPACE/KEY..         BLAKE3 of (space, key, value) 32, value; each digest of the key is a part of the path
//! ```
//!
//! What holds, whoever reads and writes meanwhile:
//!
//! - **Whole or absent.** An upload becomes visible when its last byte is there. One that is killed leaves nothing under the
//!   object's name (a folder may keep `NAME#1`, which nobody reads).
//! - **Never wrong bytes.** What is fetched is hashed, objects and values alike. What does not fit counts as absent, with a warning, and
//!   the next [`publish`](Remote::publish) of the right bytes replaces it.
//! - **First comes, first stays.** What is there and whole is not written again; two who publish at once do no harm.
//! - **Nothing waits for ever.** A request that gets no answer is an error after [`PATIENCE`]; clouds are asked three times.
//!
//! Order is the caller's: payloads first, then the value that names them.
//!
//! Calls block, on any thread, one of an asynchronous runtime included. This crate must not know what a trace, a row or a node is,
//! nor what a cache does with what it fetches.

mod address;
mod error;
mod place;
mod remote;
mod sealed;
mod transfer;
mod turns;

pub use address::{Address, AddressError};
pub use error::RemoteError;
pub use heddle_graph::digest::Digest;
pub use remote::{Fetched, KeyValue, Put, Remote, Traffic};
pub use transfer::PATIENCE;
pub use turns::Turns;
