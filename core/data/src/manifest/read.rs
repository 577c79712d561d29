//! Reads a manifest in place: batches in order, records by index.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arrow_array::{
    Array, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray, UInt32Array, UInt64Array,
    cast::AsArray,
};
use arrow_buffer::Buffer;
use arrow_ipc::{Block, convert::try_fb_to_schema, reader::FileDecoder, root_as_footer};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use super::{
    Footer, ManifestError, ROWS,
    columns::value_at,
    fields::fixed_fields,
    verify::{check_batch, check_types},
};
use crate::{
    digest::Digest,
    record::{Caption, FIXED_COLUMNS, Part, Record},
};

const TRAILER: usize = 10;

/// A manifest over bytes that stay where they are (a memory map); clones share them.
#[derive(Clone)]
pub struct Manifest {
    /// What it says of all records together.
    pub footer: Arc<Footer>,
    schema: SchemaRef,
    bytes: Buffer,
    blocks: Arc<Vec<Block>>,
    decoder: Arc<FileDecoder>,
    /// Batches that single records were asked of; their arrays point into the bytes.
    opened: Arc<Vec<OnceLock<RecordBatch>>>,
    len: usize,
}

impl Manifest {
    /// Opens what [`super::ManifestWriter`] wrote. `bytes` may be anything that is read in place, such as
    /// `Buffer::from(Bytes::from_owner(map))`.
    ///
    /// # Errors
    /// [`ManifestError`] if the bytes are anything else.
    pub fn open(bytes: Buffer) -> Result<Self, ManifestError> {
        let format = |reason: &str| ManifestError::Format(reason.to_owned());
        let trailer = bytes.len().checked_sub(TRAILER).ok_or_else(|| format("too short"))?;
        let tail: [u8; TRAILER] = bytes[trailer..].try_into().map_err(|_| format("too short"))?;
        let footer_len = arrow_ipc::reader::read_footer_length(tail)?;
        let start =
            trailer.checked_sub(footer_len).ok_or_else(|| format("the footer is longer than the file"))?;
        let footer = root_as_footer(&bytes[start..trailer]).map_err(|error| format(&error.to_string()))?;
        let schema = footer.schema().ok_or_else(|| format("no schema"))?;
        let schema = Arc::new(try_fb_to_schema(schema)?);
        check_schema(&schema)?;
        if footer.dictionaries().is_some_and(|dictionaries| !dictionaries.is_empty()) {
            return Err(format("dictionaries have no place in a manifest"));
        }
        let blocks: Vec<Block> = footer.recordBatches().iter().flatten().copied().collect();
        let metadata = footer.custom_metadata();
        let entry = metadata.iter().flatten().find(|entry| entry.key() == Some("heddle"));
        let entry = entry.and_then(|entry| entry.value()).ok_or_else(|| format("no `heddle` metadata"))?;
        let mut manifest = Self {
            footer: Arc::new(Footer::from_json(entry)?),
            decoder: Arc::new(FileDecoder::new(schema.clone(), footer.version())),
            schema,
            opened: Arc::new(blocks.iter().map(|_| OnceLock::new()).collect()),
            blocks: Arc::new(blocks),
            bytes: bytes.clone(),
            len: 0,
        };
        if let Some(last) = manifest.blocks.len().checked_sub(1) {
            manifest.len = last * ROWS + manifest.batch(last)?.num_rows();
        }
        Ok(manifest)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        self.blocks.len()
    }

    /// A batch; its arrays point into the bytes.
    ///
    /// # Errors
    /// If the bytes are damaged, or there is no such batch.
    pub fn batch(&self, index: usize) -> Result<RecordBatch, ManifestError> {
        let damaged = || ManifestError::Format(format!("batch {index} lies outside of the file"));
        let block = self.blocks.get(index).ok_or_else(damaged)?;
        let part = |value: i64| usize::try_from(value).map_err(|_| damaged());
        let header = usize::try_from(block.metaDataLength()).map_err(|_| damaged())?;
        let (start, len) = (part(block.offset())?, header.saturating_add(part(block.bodyLength())?));
        if start.checked_add(len).is_none_or(|end| end > self.bytes.len()) {
            return Err(damaged());
        }
        let bytes = self.bytes.slice_with_length(start, len);
        check_batch(&bytes[..header], len - header, &self.schema)?;
        let batch = self.decoder.read_record_batch(block, &bytes)?.ok_or_else(damaged)?;
        let expected = if index + 1 == self.blocks.len() { 1..=ROWS } else { ROWS..=ROWS };
        if !expected.contains(&batch.num_rows()) {
            return Err(ManifestError::Format(format!("batch {index} has {} records", batch.num_rows())));
        }
        Ok(batch)
    }

    /// All batches in order.
    pub fn batches(&self) -> impl Iterator<Item = Result<RecordBatch, ManifestError>> + '_ {
        (0..self.blocks.len()).map(|index| self.batch(index))
    }

    /// One record, with its fields among the columns (see [`Record::with_fields`]).
    ///
    /// # Errors
    /// If the bytes are damaged, or there is no such record.
    pub fn record(&self, index: usize) -> Result<Record, ManifestError> {
        if index >= self.len {
            return Err(ManifestError::Format(format!("there is no record {index} among {}", self.len)));
        }
        let place = index / ROWS;
        let batch = match self.opened[place].get() {
            Some(batch) => batch,
            None => {
                let batch = self.batch(place)?;
                self.opened[place].get_or_init(|| batch)
            }
        };
        RecordsOf::new(batch, &self.footer)?.record(index % ROWS)
    }

    /// All records in order, with their fields among the columns.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ManifestError>> + '_ {
        self.batches().flat_map(|batch| match batch.and_then(|batch| self.records_of(&batch)) {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// The records of a batch with this manifest's shards.
    ///
    /// # Errors
    /// If a fixed column is missing or a shard is not in the footer.
    pub fn records_of(&self, batch: &RecordBatch) -> Result<Vec<Record>, ManifestError> {
        let records = RecordsOf::new(batch, &self.footer)?;
        (0..batch.num_rows()).map(|row| records.record(row)).collect()
    }
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manifest")
            .field("len", &self.len)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Whether a schema has the fixed columns in their types, and others of types that can be read.
pub(super) fn check_schema(schema: &Schema) -> Result<(), ManifestError> {
    for fixed in fixed_fields() {
        let same = schema
            .field_with_name(fixed.name())
            .is_ok_and(|field| field.data_type().equals_datatype(fixed.data_type()));
        if !same {
            return Err(ManifestError::Column {
                column: fixed.name().clone(),
                expected: "of a manifest's type",
            });
        }
    }
    check_types(schema)
}

/// The fixed columns of a batch, found once.
struct RecordsOf<'a> {
    footer: &'a Footer,
    batch: &'a RecordBatch,
    key: &'a StringArray,
    source: &'a StringArray,
    shard: &'a UInt32Array,
    parts: &'a ListArray,
    digest: &'a FixedSizeBinaryArray,
    captions: &'a ListArray,
    width: &'a UInt32Array,
    height: &'a UInt32Array,
}

impl<'a> RecordsOf<'a> {
    fn new(batch: &'a RecordBatch, footer: &'a Footer) -> Result<Self, ManifestError> {
        check_schema(&batch.schema())?;
        let column = |name: &str| -> &'a arrow_array::ArrayRef {
            batch.column_by_name(name).expect("the schema was checked")
        };
        Ok(Self {
            footer,
            batch,
            key: column("key").as_string(),
            source: column("source").as_string(),
            shard: column("shard").as_primitive(),
            parts: column("parts").as_list(),
            digest: column("digest").as_fixed_size_binary(),
            captions: column("captions").as_list(),
            width: column("width").as_primitive(),
            height: column("height").as_primitive(),
        })
    }

    fn record(&self, row: usize) -> Result<Record, ManifestError> {
        let shard = self.footer.shards.get(self.shard.value(row) as usize);
        let shard = shard.ok_or_else(|| ManifestError::Format("a record of an unknown shard".into()))?.digest;
        let size = (self.width.is_valid(row) && self.height.is_valid(row))
            .then(|| [self.width.value(row), self.height.value(row)]);
        let schema = self.batch.schema();
        let mut columns = serde_json::Map::new();
        for (field, array) in schema.fields().iter().zip(self.batch.columns()) {
            if !FIXED_COLUMNS.contains(&field.name().as_str()) && array.is_valid(row) {
                columns.insert(field.name().clone(), value_at(array, row, field)?);
            }
        }
        let record = Record {
            key: self.key.value(row).to_owned(),
            source: self.source.value(row).to_owned(),
            shard,
            parts: parts_of(&self.parts.value(row), shard)?,
            captions: captions_of(&self.captions.value(row))?,
            size,
            columns,
            digest: digest_of(self.digest.value(row))?,
        };
        Ok(record.with_fields())
    }
}

fn parts_of(list: &dyn Array, shard: Digest) -> Result<BTreeMap<String, Part>, ManifestError> {
    let list = as_struct(list)?;
    let name: &StringArray = list.column(0).as_string();
    let path: &StringArray = list.column(1).as_string();
    let offset: &UInt64Array = list.column(2).as_primitive();
    let len: &UInt64Array = list.column(3).as_primitive();
    let digest: &FixedSizeBinaryArray = list.column(4).as_fixed_size_binary();
    let part = |row: usize| {
        let part = Part {
            shard,
            path: path.value(row).to_owned(),
            offset: offset.value(row),
            len: len.value(row),
            digest: digest_of(digest.value(row))?,
        };
        Ok((name.value(row).to_owned(), part))
    };
    (0..list.len()).map(part).collect()
}

fn captions_of(list: &dyn Array) -> Result<Vec<Caption>, ManifestError> {
    let list = as_struct(list)?;
    let (text, language): (&StringArray, &StringArray) =
        (list.column(0).as_string(), list.column(1).as_string());
    let caption = |row| Caption::new(text.value(row), language.is_valid(row).then(|| language.value(row)));
    Ok((0..list.len()).map(caption).collect())
}

fn as_struct(array: &dyn Array) -> Result<&StructArray, ManifestError> {
    array.as_struct_opt().ok_or_else(|| ArrowError::SchemaError("expected a struct".into()).into())
}

fn digest_of(bytes: &[u8]) -> Result<Digest, ManifestError> {
    bytes.try_into().map_err(|_| ManifestError::Format("a digest does not have 32 bytes".into()))
}
