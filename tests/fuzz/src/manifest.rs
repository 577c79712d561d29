//! Any bytes as a manifest, which may be a file of a cache that was damaged.

use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field};
use heddle_data::{
    Manifest, ManifestWriter,
    manifest::{ROWS, column_values},
};

/// Whether every record could be read.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::open(Buffer::from(bytes.to_vec())) else { return false };
    let mut count = 0;
    let mut whole = true;
    for batch in manifest.batches() {
        let Ok(batch) = batch else {
            whole = false;
            continue;
        };
        assert!((1..=ROWS).contains(&batch.num_rows()));
        count += batch.num_rows();
        for array in batch.columns() {
            array.to_data().validate_full().expect("a batch that was read is sound");
        }
        columns_are_found(&batch);
        whole &= manifest.records_of(&batch).is_ok();
        whole &= is_written_again(&manifest, &batch);
    }
    if whole {
        assert_eq!(count, manifest.len());
        assert!(manifest.records().all(|record| record.is_ok()));
    }
    for index in [0, manifest.len().saturating_sub(1), manifest.len()] {
        let record = manifest.record(index);
        assert!(index < manifest.len() || record.is_err());
    }
    whole
}

/// Every column, and every field inside of it, is found by its path or is not there; nothing else.
fn columns_are_found(batch: &RecordBatch) {
    for field in batch.schema().fields() {
        for path in paths(field, 0) {
            if let Some(array) = column_values(batch, &path) {
                assert_eq!(array.len(), batch.num_rows(), "{path}");
                array.to_data().validate_full().expect("a field of a sound column is sound");
            }
        }
    }
}

fn paths(field: &Field, depth: usize) -> Vec<String> {
    let inner: Vec<String> = match field.data_type() {
        _ if depth == 4 => Vec::new(),
        DataType::Struct(fields) => fields.iter().flat_map(|field| paths(field, depth + 1)).collect(),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().flat_map(|field| paths(field, depth + 1)).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let below = inner.iter().map(|path| format!("{}.{path}", field.name()));
    std::iter::once(field.name().clone()).chain(below).collect()
}

/// Whether the batch goes through a writer; what comes out has as many records.
fn is_written_again(manifest: &Manifest, batch: &RecordBatch) -> bool {
    let writer = ManifestWriter::new(Vec::new(), manifest.schema().clone(), (*manifest.footer).clone());
    let written = writer.and_then(|mut writer| {
        writer.write(batch.clone())?;
        writer.finish()
    });
    let Ok(bytes) = written else { return false };
    let again = Manifest::open(Buffer::from(bytes)).expect("a manifest that was written opens");
    assert_eq!(again.len(), batch.num_rows());
    true
}
