//! `[cache]`: how much the cache may hold, and with whom it is shared. None of it enters a cache key.

use super::{
    reader::{ReadEnv, Reader},
    remote::RemoteUrl,
    size::Size,
    value::Table,
};
use crate::source::Span;

/// What an experiment says of the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of artifacts and rows that a run leaves in the cache at most; `None` is no limit.
    pub max_size: Option<u64>,
    /// The remote that machines share; `None` is none.
    pub remote: Option<String>,
}

impl CacheSettings {
    /// Reads the table.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let max_size = reader
            .field::<Size>(
                "max-size",
                "after a run that leaves more, what is cheapest to compute again for its size goes, as \"20GB\"; what the run used \
                 and what is pinned stays",
            )
            .not_in_key("what is kept does not change results")
            .optional();
        let remote = reader
            .field::<RemoteUrl>(
                "remote",
                "a second cache that machines share, as \"file:///shared/heddle\", \"s3://bucket/prefix\", \"gs://bucket/prefix\" or \
                 \"az://container/prefix\"; `--cache` says what is read and written there",
            )
            .not_in_key("what is kept does not change results")
            .optional();
        Self { max_size: max_size.map(|size| size.0), remote: remote.map(|url| url.0) }
    }

    /// Reads the table of an experiment; without one, there is no limit.
    pub(crate) fn from_table(env: &ReadEnv<'_>, table: Option<&Table>, at: Span) -> Self {
        let mut reader = Reader::new(env, table, at);
        let settings = Self::read(&mut reader);
        reader.finish(&[]);
        settings
    }
}
