//! Which records a step takes: a pure function of (seed, step).
//!
//! Numbers of records, or groups of them, enter; indices leave. A run that resumes at step 500 takes what an
//! uninterrupted one would have taken.

use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexMap;
use rand::{Rng, seq::SliceRandom};

use crate::{manifest::ManifestError, record::Record, rng};

/// A batch that the data cannot fill.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The records do not read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There are fewer records or groups than a batch takes.
    #[error("a batch of {batch} cannot be drawn from {available} {what}")]
    TooFew {
        /// Batch size.
        batch: usize,
        /// How many there are.
        available: usize,
        /// Of what.
        what: &'static str,
    },
    /// A batch of nothing.
    #[error("the batch size is 0")]
    EmptyBatch,
    /// A record lacks the column whose values must be distinct.
    #[error("record `{key}` has no column `{column}`")]
    NoColumn {
        /// The record.
        key: String,
        /// The column.
        column: String,
    },
}

/// A seeded shuffle of `0..n` for one epoch.
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.shuffle(&mut rng(seed, &[EPOCH_STREAM, epoch]));
    order
}

const EPOCH_STREAM: u64 = 0x6f72_6465;
const DISTINCT_STREAM: u64 = 0x6469_7374;

/// Which records each step takes.
pub trait Batches: Send + Sync {
    /// Indices of the records of a step, from 0.
    fn batch(&self, step: u64) -> Vec<u32>;
}

/// Every record once per epoch, in shuffled order; the last, incomplete batch of an epoch is dropped.
#[derive(Debug)]
pub struct ShuffledBatches {
    records: usize,
    batch: usize,
    seed: u64,
    /// The order used last: consecutive steps share it. Holds nothing that cannot be computed again.
    last: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl ShuffledBatches {
    /// Batches of `batch` out of `records` records.
    ///
    /// # Errors
    /// [`OrderError::TooFew`], [`OrderError::EmptyBatch`].
    pub fn new(records: usize, batch: usize, seed: u64) -> Result<Self, OrderError> {
        check_size(batch, records, "records")?;
        Ok(Self { records, batch, seed, last: Mutex::new(None) })
    }

    /// Whole batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        (self.records / self.batch) as u64
    }

    fn order(&self, epoch: u64) -> Arc<[u32]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, order)) if *known == epoch => order.clone(),
            _ => last.insert((epoch, epoch_order(self.records, self.seed, epoch).into())).1.clone(),
        }
    }
}

impl Batches for ShuffledBatches {
    fn batch(&self, step: u64) -> Vec<u32> {
        let start = (step % self.per_epoch()) as usize * self.batch;
        self.order(step / self.per_epoch())[start..start + self.batch].to_vec()
    }
}

/// Batches in which no two records share a group: groups are drawn without repetition, then one record of each.
///
/// Contrastive losses want this: two pictures of one concept in a batch would be each other's negatives.
#[derive(Debug)]
pub struct DistinctBatches {
    groups: Vec<Vec<u32>>,
    batch: usize,
    seed: u64,
}

impl DistinctBatches {
    /// Batches out of the given groups of record indices; empty groups do not count.
    ///
    /// # Errors
    /// [`OrderError::TooFew`], [`OrderError::EmptyBatch`].
    pub fn new(mut groups: Vec<Vec<u32>>, batch: usize, seed: u64) -> Result<Self, OrderError> {
        groups.retain(|group| !group.is_empty());
        check_size(batch, groups.len(), "distinct groups")?;
        Ok(Self { groups, batch, seed })
    }

    /// Groups records by the value of a column, in order of first appearance.
    ///
    /// # Errors
    /// [`OrderError`]; a record without the column is one.
    pub fn by_column(
        records: impl IntoIterator<Item = Result<Record, ManifestError>>,
        column: &str,
        batch: usize,
        seed: u64,
    ) -> Result<Self, OrderError> {
        let mut groups: IndexMap<String, Vec<u32>> = IndexMap::new();
        for (record, index) in records.into_iter().zip(0_u32..) {
            let record = record?;
            let missing = || OrderError::NoColumn { key: record.key.clone(), column: column.to_owned() };
            let value = record.column(column).ok_or_else(missing)?.to_string();
            groups.entry(value).or_default().push(index);
        }
        Self::new(groups.into_values().collect(), batch, seed)
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

impl Batches for DistinctBatches {
    fn batch(&self, step: u64) -> Vec<u32> {
        let mut rng = rng(self.seed, &[DISTINCT_STREAM, step]);
        let groups = rand::seq::index::sample(&mut rng, self.groups.len(), self.batch);
        let member = |group: usize| {
            let members = &self.groups[group];
            members[rng.gen_range(0..members.len() as u32) as usize]
        };
        groups.into_iter().map(member).collect()
    }
}

fn check_size(batch: usize, available: usize, what: &'static str) -> Result<(), OrderError> {
    match batch {
        0 => Err(OrderError::EmptyBatch),
        _ if batch > available => Err(OrderError::TooFew { batch, available, what }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
