//! heddle-cache: a content-addressed store in a folder.
//!
//! Payloads (artifacts, features) go in as bytes and are named by their BLAKE3 [`Digest`]; small values (traces,
//! latest results, digests of files) are kept by namespace and key. sled holds the index and the small values,
//! payloads are appended to pack files and read in place through mmap.
//!
//! ```text
//! DIR/
//!   lock               locked by the one process that has the folder
//!   holder.json        who that is, for the message of the next
//!   v1/                version of all that follows
//!     index/           sled: payloads (digest -> pack, offset, length), one tree per space of values
//!     index.damaged-N/ an index that could not be read, kept aside
//!     packs/           000000.pack, 000001.pack, ..: a new one once 1 GiB is reached
//!     tmp/             payloads that are still being written; emptied at open
//!
//! NNNNNN.pack: a header, then entries, each at a multiple of 64 bytes
//!
//!   0         64                128                 128 + length
//!   +---------+-----------------+-------------------+-------+-----------------+----
//!   | header  | entry header    | payload           | zeros | entry header    | ..
//!   +---------+-----------------+-------------------+-------+-----------------+----
//!   magic 8     magic 8           `length` bytes,     to the
//!   version 4   length 8          named by their      next 64
//!   number 4    BLAKE3 32         digest
//!   zeros 44    zeros 12
//!   crc 4       crc 4             numbers little-endian; crc = CRC-32 of the header's first 60 bytes
//! ```
//!
//! What holds, whatever the disk and the power do:
//!
//! - **Stored means durable.** When a call that writes returns, its bytes are on disk. Packs are synced before the
//!   index names what is in them; what the index had not yet written down itself is found again by its digest.
//! - **Never wrong bytes.** A payload is hashed on its first read in a process, or at [every](Cache::check_every_read) one; a value is
//!   checked at every read. What does not fit is a miss with a warning. Only the system's refusals (permissions, a full disk) are errors.
//! - **The packs are the truth.** A lost index is rebuilt from them; lost values are misses.
//! - **Removing is copying.** A pack is never written in place: what is still wanted of one with dead entries is copied to another,
//!   synced and indexed there, and then the old file is unlinked. So a payload that is held stays readable, and a kill loses nothing.
//! - **One process.** The folder is locked; see [`Wait`] and [`CacheError::Held`].
//!
//! Features of records are rows of one length under a key each ([`RowSet`]): a chunk of them is two payloads, keys and rows, and one
//! value that names both. Chunks may also lie elsewhere ([`RowsElsewhere`]) and are brought here when a row of them is read.
//!
//! This crate must not know what the bytes mean, what a trace or a node is, or how keys are made.

mod append;
mod error;
mod format;
mod index;
mod locations;
mod lock;
mod pack;
mod payload;
mod recover;
mod retain;
mod rows;
mod scan;
mod sealed;
mod store;
mod usage;
mod values;
mod verify;
mod writer;

pub use error::CacheError;
pub use heddle_graph::digest::Digest;
pub use lock::{Holder, Wait};
pub use payload::Payload;
pub use retain::Freed;
pub use rows::{RowChunk, RowSet, RowsElsewhere};
pub use store::Cache;
pub use usage::Usage;
pub use values::KeyValue;
pub use verify::{Damage, Defect};
pub use writer::PayloadWriter;
