//! Parquet files as rows: the bytes of a file enter a [`Table`], [`Row`]s leave, a batch at a time; Arrow batches enter a
//! [`TableWriter`], a file leaves.
//!
//! Columns come as JSON, as Arrow's own JSON writer puts them (timestamps as text, missing values left out); one column of
//! bytes may be asked for beside them: the pictures that img2dataset and Hugging Face datasets keep inside. Binary columns that
//! were not asked for are not read.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, BinaryArray, LargeBinaryArray, RecordBatch, StructArray, cast::AsArray};
use arrow_json::LineDelimitedWriter;
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use serde_json::{Map, Value};

/// Rows of a batch: so many are in memory at once.
const BATCH: usize = 1024;
/// Rows are written out once so many bytes of them wait.
const GROUP_BYTES: usize = 64 << 20;

/// A file that cannot be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not parquet, or damaged, or packed in a way that is not supported.
    #[error("the file does not read as parquet: {0}")]
    Format(#[from] ParquetError),
    /// Its values do not read.
    #[error("its values do not read: {0}")]
    Values(#[from] ArrowError),
    /// The reader gave up on damaged pages in the middle of its work.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// A row does not come back from Arrow's JSON.
    #[error("row {row} (from 0) does not read: {message}")]
    Row {
        /// Its place.
        row: u64,
        /// The parser's words.
        message: String,
    },
    /// There is no such column.
    #[error("there is no column `{column}`; there are {}", known.join(", "))]
    NoColumn {
        /// The column asked for.
        column: String,
        /// The columns of the file.
        known: Vec<String>,
    },
    /// A column that should hold bytes does not.
    #[error("column `{column}` is {found}; bytes are wanted, or a struct with a field `bytes`")]
    NotBytes {
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
    },
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its values by column; what is null is left out.
    pub columns: Map<String, Value>,
    /// The bytes of the column that was asked for, where the row has some.
    pub bytes: Option<Vec<u8>>,
}

/// An opened file.
pub struct Table {
    builder: ParquetRecordBatchReaderBuilder<Bytes>,
}

impl Table {
    /// Reads the footer.
    ///
    /// # Errors
    /// [`TableError::Format`].
    pub fn open(bytes: Bytes) -> Result<Self, TableError> {
        let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(bytes))??;
        Ok(Self { builder: builder.with_batch_size(BATCH) })
    }

    /// Its columns with their types.
    pub fn schema(&self) -> &SchemaRef {
        self.builder.schema()
    }

    /// Rows of all groups, as the footer says.
    pub fn len(&self) -> u64 {
        u64::try_from(self.builder.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fails with the columns that there are, unless all of these are among them.
    ///
    /// # Errors
    /// [`TableError::NoColumn`].
    pub fn require(&self, columns: &[&str]) -> Result<(), TableError> {
        let missing = columns.iter().find(|column| self.schema().field_with_name(column).is_err());
        missing.map_or(Ok(()), |column| {
            let known = self.schema().fields().iter().map(|field| field.name().clone()).collect();
            Err(TableError::NoColumn { column: (*column).to_owned(), known })
        })
    }

    /// All columns in order, as Arrow batches.
    ///
    /// # Errors
    /// [`TableError::Format`].
    pub fn batches(self) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>>, TableError> {
        Ok(Batches { reader: Some(guarded(|| self.builder.build())??) })
    }

    /// All rows in order. `bytes` is a column of bytes, or a struct whose field `bytes` holds them, as Hugging Face's images.
    ///
    /// # Errors
    /// [`TableError`] if there is no such column, or it holds something else.
    pub fn rows(self, bytes: Option<&str>) -> Result<Rows, TableError> {
        if let Some(column) = bytes {
            self.require(&[column])?;
            let field = self.schema().field_with_name(column)?;
            if !holds_bytes(field.data_type()) {
                return Err(TableError::NotBytes {
                    column: column.to_owned(),
                    found: field.data_type().clone(),
                });
            }
        }
        let wanted = |(place, field): (usize, &Arc<arrow_schema::Field>)| {
            (bytes == Some(field.name()) || !holds_bytes(field.data_type())).then_some(place)
        };
        let wanted: Vec<usize> = self.schema().fields().iter().enumerate().filter_map(wanted).collect();
        let mask = ProjectionMask::roots(self.builder.parquet_schema(), wanted);
        let builder = self.builder.with_projection(mask);
        let batches = Batches { reader: Some(guarded(|| builder.build())??) };
        Ok(Rows { batches, bytes: bytes.map(str::to_owned), batch: Vec::new().into_iter(), row: 0 })
    }
}

/// The batches of a file; they end with the first error.
struct Batches {
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let next = guarded(|| reader.next());
        let next = next.transpose()?.and_then(|batch| Ok(batch?));
        if next.is_err() {
            self.reader = None;
        }
        Some(next)
    }
}

/// Runs a part of the reader: it panics on some damaged files (parquet 60.1), and what it holds is dropped then.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        TableError::Damaged(text.unwrap_or_else(|| "its pages make no sense".to_owned()))
    })
}

/// The rows of a file.
pub struct Rows {
    batches: Batches,
    bytes: Option<String>,
    batch: std::vec::IntoIter<Row>,
    row: u64,
}

impl Rows {
    fn read(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let pictures: Option<ArrayRef> = match &self.bytes {
            Some(column) => batch.column_by_name(column).cloned(),
            None => None,
        };
        let schema = batch.schema();
        let rest: Vec<usize> = (0..batch.num_columns())
            .filter(|place| Some(schema.field(*place).name()) != self.bytes.as_ref())
            .collect();
        let maps = maps(&batch.project(&rest)?, self.row)?;
        let picture = |row| pictures.as_ref().and_then(|column| bytes_at(column, row)).map(<[u8]>::to_vec);
        let rows: Vec<Row> =
            maps.into_iter().enumerate().map(|(row, columns)| Row { columns, bytes: picture(row) }).collect();
        self.row += rows.len() as u64;
        self.batch = rows.into_iter();
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = Result<Row, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            let read = match self.batches.next()? {
                Ok(batch) => self.read(&batch),
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
    }
}

/// Every row as JSON.
fn maps(batch: &RecordBatch, first: u64) -> Result<Vec<Map<String, Value>>, TableError> {
    if batch.num_columns() == 0 {
        return Ok(vec![Map::new(); batch.num_rows()]);
    }
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = writer.into_inner();
    let lines = text.split(|byte| *byte == b'\n').take(batch.num_rows());
    lines
        .zip(first..)
        .map(|(line, row)| {
            serde_json::from_slice(line).map_err(|error| TableError::Row { row, message: error.to_string() })
        })
        .collect()
}

fn holds_bytes(ty: &DataType) -> bool {
    match ty {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Struct(fields) => {
            fields.iter().any(|field| field.name() == "bytes" && holds_bytes(field.data_type()))
        }
        _ => false,
    }
}

/// The bytes at a row of a column for which [`holds_bytes`].
fn bytes_at(column: &dyn Array, row: usize) -> Option<&[u8]> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => column.as_any().downcast_ref::<BinaryArray>().map(|column| column.value(row)),
        DataType::LargeBinary => {
            column.as_any().downcast_ref::<LargeBinaryArray>().map(|column| column.value(row))
        }
        DataType::BinaryView => Some(column.as_binary_view().value(row)),
        DataType::Struct(_) => {
            let column = column.as_any().downcast_ref::<StructArray>()?;
            bytes_at(column.column_by_name("bytes")?, row)
        }
        _ => None,
    }
}

/// The columns of a schema that can be asked for as bytes.
pub fn byte_columns(schema: &Schema) -> Vec<&str> {
    let fields = schema.fields().iter().filter(|field| holds_bytes(field.data_type()));
    fields.map(|field| field.name().as_str()).collect()
}

/// A file in the making.
pub struct TableWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> TableWriter<W> {
    /// Starts a file of these columns, packed with zstd.
    ///
    /// # Errors
    /// [`TableError::Format`] if parquet has no such type, or writing fails.
    pub fn new(out: W, schema: SchemaRef) -> Result<Self, TableError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            // The writer's name and version stay out of the bytes.
            .set_created_by("heddle".to_owned())
            .build();
        Ok(Self { writer: ArrowWriter::try_new(out, schema, Some(properties))? })
    }

    /// Appends rows, and writes them out once there are some megabytes.
    ///
    /// # Errors
    /// [`TableError::Format`].
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        self.writer.write(rows)?;
        if self.writer.in_progress_size() > GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Writes the footer, and gives back what was written to.
    ///
    /// # Errors
    /// [`TableError::Format`].
    pub fn finish(self) -> Result<W, TableError> {
        Ok(self.writer.into_inner()?)
    }
}

#[cfg(test)]
mod tests;
