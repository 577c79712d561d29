//! A tar of images that a node makes: records name it as their shard.

use heddle_cache::PayloadWriter;
use heddle_data::{Part, digest};
use heddle_graph::digest::Digest;

use crate::exec::{NodeError, RunContext};

const BLOCK: u64 = 512;

/// Where members lie in a tar that holds them in this order.
#[derive(Debug, Default)]
pub struct Layout {
    offset: u64,
}

impl Layout {
    /// The next member as a part of `shard`.
    pub fn next(&mut self, shard: [u8; 32], bytes: &[u8]) -> Part {
        let len = bytes.len() as u64;
        let offset = self.offset + BLOCK;
        self.offset = offset + len.div_ceil(BLOCK) * BLOCK;
        Part { shard, path: String::new(), offset, len, digest: digest::of(bytes) }
    }
}

/// A tar in the making, in the cache.
pub struct ShardWriter(tar::Builder<PayloadWriter>);

impl ShardWriter {
    /// An empty one.
    pub fn new(cx: &RunContext<'_>) -> Result<Self, NodeError> {
        Ok(Self(tar::Builder::new(cx.writer()?)))
    }

    /// Appends a member. Its name is the digest of what it was made from, so that it always fits a header.
    pub fn append(&mut self, from: &[u8; 32], extension: &str, bytes: &[u8]) -> Result<(), NodeError> {
        let wrong = |error: std::io::Error| NodeError::Other(format!("writing a shard: {error}"));
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_path(format!("{}.{extension}", digest::to_hex(from))).map_err(wrong)?;
        header.set_cksum();
        self.0.append(&header, bytes).map_err(wrong)
    }

    /// Its digest.
    pub fn finish(self) -> Result<Digest, NodeError> {
        let out = self.0.into_inner();
        Ok(out.map_err(|error| NodeError::Other(format!("writing a shard: {error}")))?.finish()?)
    }
}
