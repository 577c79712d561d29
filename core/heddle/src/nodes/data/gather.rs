//! Rows of manifests in another order: the batches that they lie in are opened once each.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use heddle_data::{ManifestError, manifest::ROWS};

/// The batches that some rows lie in.
#[derive(Default)]
pub struct Gather {
    /// In the order in which they were first asked for.
    pub batches: Vec<RecordBatch>,
    places: HashMap<(usize, usize), usize>,
}

impl Gather {
    /// The place of a row of a set: its batch among [`Gather::batches`], and its row there. `open` gives the batch of this
    /// number, if it is not open yet.
    pub fn place(
        &mut self,
        set: usize,
        row: usize,
        open: impl FnOnce(usize) -> Result<RecordBatch, ManifestError>,
    ) -> Result<(usize, usize), ManifestError> {
        let number = row / ROWS;
        let batch = match self.places.get(&(set, number)) {
            Some(batch) => *batch,
            None => {
                self.batches.push(open(number)?);
                self.places.insert((set, number), self.batches.len() - 1);
                self.batches.len() - 1
            }
        };
        Ok((batch, row % ROWS))
    }
}
