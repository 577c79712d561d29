//! Writes a manifest batch by batch; memory holds one batch.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::SchemaRef;
use arrow_select::coalesce::BatchCoalescer;

use super::{Footer, ManifestError, read::check_schema};

/// Records in a batch of a manifest; the last batch may have fewer.
pub const ROWS: usize = 4096;

/// Takes batches of any length and writes an Arrow IPC file whose batches have [`ROWS`] records.
pub struct ManifestWriter<W: Write> {
    /// What is written at the end; steps, shards and settings may change until then.
    pub footer: Footer,
    file: FileWriter<W>,
    pending: BatchCoalescer,
    rows: u64,
}

impl<W: Write> ManifestWriter<W> {
    /// Starts a file with this schema, which has the fixed columns.
    ///
    /// # Errors
    /// [`ManifestError::Column`] if a fixed column is missing; what writing gives.
    pub fn new(out: W, schema: SchemaRef, footer: Footer) -> Result<Self, ManifestError> {
        check_schema(&schema)?;
        let pending = BatchCoalescer::new(schema.clone(), ROWS);
        Ok(Self { footer, file: FileWriter::try_new(out, &schema)?, pending, rows: 0 })
    }

    /// Appends records.
    ///
    /// # Errors
    /// If the batch has another schema, or writing fails.
    pub fn write(&mut self, batch: RecordBatch) -> Result<(), ManifestError> {
        self.rows += batch.num_rows() as u64;
        self.pending.push_batch(batch)?;
        self.drain()
    }

    /// Records so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and the footer, and gives back what was written to.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<W, ManifestError> {
        self.pending.finish_buffered_batch()?;
        self.drain()?;
        // One entry: the order of several would differ from run to run.
        self.file.write_metadata("heddle", self.footer.to_json());
        Ok(self.file.into_inner()?)
    }

    fn drain(&mut self) -> Result<(), ManifestError> {
        while let Some(batch) = self.pending.next_completed_batch() {
            self.file.write(&batch)?;
        }
        Ok(())
    }
}
