//! GGUF files that a node names.

use std::sync::Arc;

use heddle_data::{Shard, digest};
use heddle_gguf::Gguf;

use crate::exec::{LibraryError, NodeError, RunContext};

/// Opens the file under `file`, and compares it with what was hashed when it was listed.
pub fn open(cx: &RunContext<'_>) -> Result<Arc<Shard>, NodeError> {
    let file = cx.files("file").first();
    let file = file.ok_or_else(|| NodeError::Other("the node names no file".into()))?;
    let shard = cx.library.shard(&file.digest, "file")?;
    if digest::of(shard.as_bytes()) != shard.digest {
        return Err(LibraryError::Unknown { name: shard.name.clone(), digest: file.digest }.into());
    }
    Ok(shard)
}

/// Reads an opened file.
pub fn parse(shard: &Shard) -> Result<Gguf<'_>, NodeError> {
    Gguf::parse(shard.as_bytes()).map_err(|error| NodeError::Other(format!("`{}`: {error}", shard.name)))
}
