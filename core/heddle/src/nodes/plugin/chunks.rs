//! Cuts records into chunks at places that the records themselves choose.
//!
//! A chunk ends behind a record whose digest begins in a certain way. So a record that is added or taken away changes the
//! chunk that it is in, and what was kept for all others still counts.

use arrow_array::{RecordBatch, cast::AsArray};
use arrow_select::concat::concat_batches;
use heddle_data::{Manifest, ManifestError};

/// One record in so many ends a chunk.
const MEAN: u16 = 1024;
/// Fewer records are no chunk, unless they are the last.
const LEAST: usize = 256;
/// More are two.
const MOST: usize = 4096;

/// The chunks of a manifest in order, none of more than `most` records.
pub struct Chunks<'a> {
    manifest: &'a Manifest,
    most: usize,
    next: usize,
    /// What is left of the current batch.
    batch: Option<RecordBatch>,
    failed: bool,
}

impl<'a> Chunks<'a> {
    pub fn new(manifest: &'a Manifest, most: Option<u32>) -> Self {
        let most = most.map_or(MOST, |most| most as usize).clamp(1, MOST);
        Self { manifest, most, next: 0, batch: None, failed: false }
    }

    fn chunk(&mut self) -> Result<Option<RecordBatch>, ManifestError> {
        let (mut parts, mut rows) = (Vec::new(), 0);
        loop {
            let batch = match self.batch.take() {
                Some(batch) => batch,
                None if self.next < self.manifest.batch_count() => {
                    self.next += 1;
                    self.manifest.batch(self.next - 1)?
                }
                None => break,
            };
            let (taken, ended) = cut(&batch, rows, self.most);
            rows += taken;
            parts.push(batch.slice(0, taken));
            if taken < batch.num_rows() {
                self.batch = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            if ended {
                break;
            }
        }
        match parts.len() {
            0 => Ok(None),
            1 => Ok(parts.pop()),
            _ => Ok(Some(concat_batches(self.manifest.schema(), &parts)?)),
        }
    }
}

/// How many records of a batch the chunk takes that has `rows` already, and whether it ends with them.
fn cut(batch: &RecordBatch, rows: usize, most: usize) -> (usize, bool) {
    let digests = batch.column_by_name("digest").and_then(|column| column.as_fixed_size_binary_opt());
    for row in 0..batch.num_rows() {
        let len = rows + row + 1;
        let chosen = digests.is_some_and(|digests| {
            let digest = digests.value(row);
            u16::from_le_bytes([digest[0], digest[1]]) % MEAN == 0
        });
        if len >= most || (chosen && len >= LEAST.min(most)) {
            return (row + 1, true);
        }
    }
    (batch.num_rows(), false)
}

impl Iterator for Chunks<'_> {
    type Item = Result<RecordBatch, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let chunk = self.chunk().transpose();
        self.failed = matches!(chunk, Some(Err(_)));
        chunk
    }
}
