//! How many broken records a run puts up with.
//!
//! Failures enter from any thread, each record counting once; past the limit everyone who reports gets the
//! list as an error.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::record::Skipped;

/// More records failed than the run allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} records failed, {max_bad} are allowed:{}", skipped.len(), list(skipped))]
pub struct TooManyBad {
    /// The limit.
    pub max_bad: usize,
    /// What failed, sorted by shard and key.
    pub skipped: Vec<Skipped>,
}

fn list(skipped: &[Skipped]) -> String {
    const SHOWN: usize = 20;
    let mut lines: String = skipped.iter().take(SHOWN).map(|one| format!("\n  {one}")).collect();
    if skipped.len() > SHOWN {
        lines.push_str(&format!("\n  and {} more", skipped.len() - SHOWN));
    }
    lines
}

/// Counts failed records.
#[derive(Debug)]
pub struct BadRecords {
    max_bad: usize,
    seen: Mutex<BTreeMap<(String, String), Skipped>>,
}

impl BadRecords {
    /// Allows `max_bad` failures.
    pub fn new(max_bad: usize) -> Self {
        Self { max_bad, seen: Mutex::default() }
    }

    /// Counts a failure; a record that fails again counts once.
    ///
    /// # Errors
    /// [`TooManyBad`] once more than `max_bad` records have failed.
    pub fn report(&self, skipped: Skipped) -> Result<(), TooManyBad> {
        let mut seen = self.lock();
        seen.entry((skipped.shard.clone(), skipped.key.clone())).or_insert(skipped);
        if seen.len() <= self.max_bad {
            return Ok(());
        }
        Err(TooManyBad { max_bad: self.max_bad, skipped: seen.values().cloned().collect() })
    }

    /// What failed so far, sorted by shard and key.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.lock().values().cloned().collect()
    }

    /// A thread that panicked while counting leaves a map that is still whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Skipped>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
