//! [`Usage`]: what a cache holds and what that costs on disk.

use std::collections::BTreeMap;

use crate::{error::CacheError, index::Index, locations, pack::Packs, values};

/// What a cache holds, or what clearing it has freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of payloads.
    pub payloads: u64,
    /// Bytes of those payloads.
    pub payload_bytes: u64,
    /// Bytes of the pack files; what exceeds `payload_bytes` is headers, padding and dropped entries.
    pub pack_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Number of small values in each space.
    pub values: BTreeMap<String, u64>,
}

/// Counts everything; reads the whole index.
pub(crate) fn measure(packs: &Packs, index: &Index) -> Result<Usage, CacheError> {
    let payloads = locations::all(index)?;
    let mut pack_bytes = 0;
    for pack in packs.list()? {
        let path = packs.path(pack);
        pack_bytes += path.metadata().map_err(CacheError::io("read the size of", &path))?.len();
    }
    Ok(Usage {
        payloads: payloads.len() as u64,
        payload_bytes: payloads.iter().map(|(_, location)| location.len).sum(),
        pack_bytes,
        index_bytes: index.bytes_on_disk()?,
        values: values::counts(index)?,
    })
}
