//! `heddle cache pin`, `unpin`, and the list of pinned runs.

use std::collections::BTreeSet;

use heddle_graph::{digest::Digest, plan::Known};
use serde_json::{Value as Json, json};

use super::bytes;
use crate::{
    cli::{
        exit::{Exit, Failure},
        output, runs,
    },
    exec::{Pin, RunRecord, Store, StoreError},
};

/// A pinned run and what it holds.
pub struct Pinned {
    id: String,
    pin: Pin,
    artifacts: usize,
    bytes: u64,
    missing: usize,
}

impl Pinned {
    fn of(store: &Store, id: String, pin: Pin) -> Result<Self, Failure> {
        let traces = pin.keys.iter().filter_map(|key| store.trace(key));
        let mut artifacts: BTreeSet<Digest> = traces.flat_map(|trace| trace.outputs.into_values()).collect();
        artifacts.extend(&pin.artifacts);
        let size = |digest: &Digest| store.cache().size(digest).map_err(StoreError::from);
        let sizes: Vec<Option<u64>> = artifacts.iter().map(size).collect::<Result<_, _>>()?;
        let there: Vec<u64> = sizes.iter().flatten().copied().collect();
        let missing = sizes.len() - there.len();
        Ok(Self { id, pin, artifacts: there.len(), bytes: there.iter().sum(), missing })
    }

    /// For people.
    pub fn line(&self) -> String {
        let Self { id, pin, artifacts, missing, .. } = self;
        let gone = if *missing > 0 { format!(", {missing} gone") } else { String::new() };
        format!("pinned {id} of {}: {artifacts} artifacts, {}{gone}", pin.file, bytes(self.bytes))
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let Self { id, pin, artifacts, bytes, missing } = self;
        json!({ "run": id, "file": pin.file, "artifacts": artifacts, "bytes": bytes, "missing": missing })
    }
}

/// All pinned runs.
pub fn list(store: &Store) -> Result<Vec<Pinned>, Failure> {
    store.pins()?.into_iter().map(|(id, pin)| Pinned::of(store, id, pin)).collect()
}

/// Pins a run.
pub fn pin(store: &Store, record: &RunRecord) -> Result<Exit, Failure> {
    let pin = Pin::of(record);
    store.pin(&record.id, &pin)?;
    output::result(&Pinned::of(store, record.id.clone(), pin)?.line());
    Ok(Exit::Done)
}

/// Lets go of a run, whose record may be gone.
pub fn unpin(store: &Store, wanted: &str) -> Result<Exit, Failure> {
    let ids: Vec<String> = store.pins()?.into_iter().map(|(id, _)| id).collect();
    let found = runs::find(&ids, wanted).map_err(|_| {
        Failure::Other(format!("`{wanted}` names no single pinned run; `heddle cache du` lists them"))
    })?;
    store.unpin(found)?;
    output::result(&format!("unpinned {found}"));
    Ok(Exit::Done)
}
