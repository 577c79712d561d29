//! What a manifest says of all its records together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ManifestError;
use crate::{
    digest::{self, Digest},
    record::Skipped,
};

/// Version of the format.
pub(super) const VERSION: u32 = 2;

/// So many skipped records are named, the rest is counted.
const NAMED: usize = 1000;

/// A shard as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// File or folder name without the folders above it.
    pub name: String,
    /// BLAKE3 of the decompressed bytes; of a folder, over its files' paths and digests.
    #[serde(with = "digest::hex")]
    pub digest: Digest,
}

/// What was left out while a source was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// How many members or records.
    pub count: u64,
    /// The first thousand of them.
    pub first: Vec<Skipped>,
}

impl Left {
    /// Counts one more.
    pub fn push(&mut self, skipped: Skipped) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(skipped);
        }
    }

    /// Counts what another manifest left out.
    pub fn extend(&mut self, other: &Self) {
        self.count += other.count;
        let room = NAMED - self.first.len().min(NAMED);
        self.first.extend(other.first.iter().take(room).cloned());
    }
}

/// What a node kept and dropped, by source: a column of the paper's Table 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The rule: a plugin's name or a node kind.
    pub rule: String,
    /// Counts by source.
    pub sources: BTreeMap<String, SourceCount>,
    /// Counts by kind of known dirt (column [`DIRT`](crate::dirt::DIRT)), clean records under the empty name; empty where
    /// records have no such column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub truth: BTreeMap<String, TruthCount>,
}

/// Counts of one kind of known dirt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthCount {
    /// Records that came.
    pub original: u64,
    /// Records that were dropped.
    pub dropped: u64,
}

/// Counts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCount {
    /// Records that came.
    pub original: u64,
    /// Records that went on.
    pub kept: u64,
    /// Records that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Step {
    /// A step of this rule that has seen nothing.
    pub fn new(rule: impl Into<String>) -> Self {
        Self { rule: rule.into(), ..Self::default() }
    }

    /// Counts a record of a source: kept without a reason, dropped with one.
    pub fn count(&mut self, source: &str, dropped: Option<&str>) {
        if !self.sources.contains_key(source) {
            self.sources.insert(source.to_owned(), SourceCount::default());
        }
        if let Some(counts) = self.sources.get_mut(source) {
            counts.original += 1;
            match dropped {
                None => counts.kept += 1,
                Some(reason) => match counts.dropped.get_mut(reason) {
                    Some(count) => *count += 1,
                    None => {
                        counts.dropped.insert(reason.to_owned(), 1);
                    }
                },
            }
        }
    }

    /// Counts a record of which it is known whether it is dirt, and of what kind.
    pub fn count_truth(&mut self, kind: &str, dropped: bool) {
        if !self.truth.contains_key(kind) {
            self.truth.insert(kind.to_owned(), TruthCount::default());
        }
        if let Some(count) = self.truth.get_mut(kind) {
            count.original += 1;
            count.dropped += u64::from(dropped);
        }
    }

    /// Records of all sources that came, and that went on.
    pub fn totals(&self) -> (u64, u64) {
        self.sources.values().fold((0, 0), |(original, kept), one| (original + one.original, kept + one.kept))
    }
}

/// All that is not a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footer {
    version: u32,
    /// The shards that the records lie in; `shard` counts from 0.
    pub shards: Vec<ShardInfo>,
    /// What the sources left out.
    pub left: Left,
    /// What each node so far kept and dropped, in order.
    pub steps: Vec<Step>,
    /// Settings that travel with the records and mean nothing here.
    pub settings: Map<String, Value>,
}

impl Footer {
    /// A footer over shards.
    pub fn new(shards: Vec<ShardInfo>) -> Self {
        Self { version: VERSION, shards, ..Self::default() }
    }

    /// The place of a shard in the list; it is added if it is not there.
    pub fn shard(&mut self, info: &ShardInfo) -> u32 {
        let place = self.shards.iter().position(|known| known.digest == info.digest);
        place.unwrap_or_else(|| {
            self.shards.push(info.clone());
            self.shards.len() - 1
        }) as u32
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&Self { version: VERSION, ..self.clone() })
            .expect("string-keyed maps of plain values always serialise")
    }

    pub(super) fn from_json(text: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let failed = |error: serde_json::Error| ManifestError::Format(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(failed)?;
        if version != VERSION {
            return Err(ManifestError::Version { found: version });
        }
        serde_json::from_str(text).map_err(failed)
    }
}
