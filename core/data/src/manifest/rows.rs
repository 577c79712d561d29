//! Writes a manifest from records whose columns are JSON, as tar members and JSON lines have them.
//!
//! The types of the columns are known only when all rows were seen, so rows wait: in memory while they are few, then
//! in a temporary file.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, BufWriter, Seek, Write},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_schema::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::SpooledTempFile;

use super::{
    FixedColumns, Footer, ManifestError, ManifestWriter, ROWS, ShardInfo, fixed_fields, infer::Shapes,
};
use crate::{
    digest::{self, Digest},
    record::{Caption, FIXED_COLUMNS, Part, Record, Skipped},
};

/// Rows wait in memory up to this many bytes.
const MEMORY_BYTES: usize = 64 << 20;

/// Takes records one by one.
pub struct RowWriter {
    /// What is written at the end.
    pub footer: Footer,
    shapes: Shapes,
    spool: BufWriter<SpooledTempFile>,
    shards: BTreeMap<Digest, u32>,
    rows: u64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    key: String,
    source: String,
    shard: u32,
    parts: Vec<(String, String, u64, u64, String)>,
    captions: Vec<Caption>,
    size: Option<[u32; 2]>,
    columns: Map<String, Value>,
}

impl RowWriter {
    /// A writer that has seen nothing; `footer` may name shards and settings already.
    pub fn new(footer: Footer) -> Self {
        let shards = footer.shards.iter().zip(0..).map(|(info, place)| (info.digest, place)).collect();
        let spool = BufWriter::new(SpooledTempFile::new(MEMORY_BYTES));
        Self { footer, shapes: Shapes::default(), spool, shards, rows: 0 }
    }

    /// Names a shard before its records come.
    pub fn shard(&mut self, info: ShardInfo) {
        if !self.shards.contains_key(&info.digest) {
            self.shards.insert(info.digest, self.footer.shards.len() as u32);
            self.footer.shards.push(info);
        }
    }

    /// Counts something that was left out.
    pub fn skip(&mut self, skipped: Skipped) {
        self.footer.left.push(skipped);
    }

    /// Appends a record. Columns named as fixed ones are renamed `user.NAME`, those that [`Record::with_fields`] made
    /// are left out.
    ///
    /// # Errors
    /// If its shard was not named, a part lies in another, or the disk is full.
    pub fn push(&mut self, record: Record) -> Result<(), ManifestError> {
        let unknown =
            || ManifestError::Format(format!("record `{}` lies in a shard that was not named", record.key));
        let shard = *self.shards.get(&record.shard).ok_or_else(unknown)?;
        if let Some((name, _)) = record.parts.iter().find(|(_, part)| part.shard != record.shard) {
            let message =
                format!("part `{name}` of record `{}` lies in another shard than the record", record.key);
            return Err(ManifestError::Format(message));
        }
        let made = Record { columns: Map::new(), ..record.clone() }.with_fields().columns;
        let mut columns = Map::new();
        for (name, value) in record.columns {
            if made.get(&name) == Some(&value) {
                continue;
            }
            let name = if FIXED_COLUMNS.contains(&name.as_str()) { format!("user.{name}") } else { name };
            columns.insert(name, value);
        }
        self.shapes.see(&columns);
        let part = |(name, part): (String, Part)| {
            (name, part.path, part.offset, part.len, digest::to_hex(&part.digest))
        };
        let row = Row {
            key: record.key,
            source: record.source,
            shard,
            parts: record.parts.into_iter().map(part).collect(),
            captions: record.captions,
            size: record.size,
            columns,
        };
        serde_json::to_writer(&mut self.spool, &row).map_err(|error| ManifestError::Io(error.into()))?;
        self.spool.write_all(b"\n")?;
        self.rows += 1;
        Ok(())
    }

    /// Records so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// If the disk or what is written to fails.
    pub fn finish<W: Write>(self, out: W) -> Result<W, ManifestError> {
        let own = self.shapes.fields();
        let fields: Vec<_> = fixed_fields().iter().cloned().chain(own.iter().cloned()).collect();
        let schema = Arc::new(Schema::new(fields));
        let own = Arc::new(Schema::new(own));
        let infos = self.footer.shards.clone();
        let mut writer = ManifestWriter::new(out, schema.clone(), self.footer)?;
        let mut spool = self.spool.into_inner().map_err(|error| ManifestError::Io(error.into_error()))?;
        spool.rewind()?;
        let mut lines = BufReader::new(spool).lines();
        loop {
            let rows: Vec<Row> = lines
                .by_ref()
                .take(ROWS)
                .map(|line| serde_json::from_str(&line?).map_err(ManifestError::Spool))
                .collect::<Result<_, ManifestError>>()?;
            if rows.is_empty() {
                return writer.finish();
            }
            writer.write(batch(rows, &schema, &own, &self.shapes, &infos)?)?;
        }
    }
}

fn batch(
    rows: Vec<Row>,
    schema: &SchemaRef,
    own: &SchemaRef,
    shapes: &Shapes,
    infos: &[ShardInfo],
) -> Result<RecordBatch, ManifestError> {
    let mut fixed = FixedColumns::default();
    let mut columns = Vec::with_capacity(rows.len());
    for mut row in rows {
        let shard = infos[row.shard as usize].digest;
        let part = |(name, path, offset, len, hex): (String, String, u64, u64, String)| {
            let digest = digest::from_hex(&hex).ok_or_else(|| {
                ManifestError::Format("a digest that was written does not read back".into())
            })?;
            Ok((name, Part { shard, path, offset, len, digest }))
        };
        let parts: BTreeMap<String, Part> =
            row.parts.into_iter().map(part).collect::<Result<_, ManifestError>>()?;
        let digest = crate::record::content_digest(&parts);
        fixed.push(&row.key, &row.source, row.shard, &parts, &digest, &row.captions, row.size)?;
        shapes.settle(&mut row.columns);
        columns.push(row.columns);
    }
    let mut arrays = fixed.finish();
    if !own.fields().is_empty() {
        let mut decoder = ReaderBuilder::new(own.clone()).with_batch_size(columns.len()).build_decoder()?;
        decoder.serialize(&columns)?;
        let decoded = decoder.flush()?;
        arrays.extend(decoded.iter().flat_map(|batch| batch.columns().iter().cloned()));
    }
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}
