//! Parquet files with pictures in a column, or with a tar beside each, as img2dataset writes them.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_schema::{Field, FieldRef, Schema};
use heddle_data::{
    Manifest, Record, Shards,
    export::{TarWriter, captions_json, own_columns},
    image::extension_of,
};
use heddle_parquet::TableWriter;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::exit::Failure;
use crate::exec::NodeError;

/// Columns of a manifest that say where bytes lie; they mean nothing elsewhere.
const PLACES: [&str; 3] = ["shard", "parts", "digest"];

/// `00000.parquet` and so on, of so many records each, with the encoded picture in column `image`.
pub fn parquet(folder: &Path, manifest: &Manifest, shards: &Shards, per_shard: u64) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(Failure::io(format!("making {}", folder.display())))?;
    files(folder, manifest, per_shard, |_, batch| {
        let records = manifest.records_of(batch).map_err(NodeError::from)?;
        let mut pictures = Vec::with_capacity(records.len());
        for record in &records {
            pictures.push(picture(record, shards)?.map(|(_, bytes)| bytes));
        }
        let pictures: BinaryArray = pictures.iter().map(Option::as_deref).collect();
        let caption = first_captions(&records);
        let added: [(&str, ArrayRef); 2] = [("caption", caption), ("image", Arc::new(pictures))];
        with_columns(batch, &added)
    })?;
    Ok(())
}

/// Four digits of img2dataset's keys count the records of a shard.
pub const MOST_OF_A_TAR: u64 = 10_000;

/// `00000.tar` with `00000.parquet` and `00000_stats.json`; keys are numbers, as img2dataset gives them. At most
/// [`MOST_OF_A_TAR`] records a shard.
pub fn img2dataset(
    folder: &Path,
    manifest: &Manifest,
    shards: &Shards,
    per_shard: u64,
) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(Failure::io(format!("making {}", folder.display())))?;
    let (mut tar, mut within): (Option<(u64, TarWriter)>, u64) = (None, 0);
    let io = |error: heddle_data::export::ExportError| Failure::Other(error.to_string());
    let counts = files(folder, manifest, per_shard, |number, batch| {
        if tar.as_ref().is_none_or(|(open, _)| *open != number) {
            if let Some((_, full)) = tar.take() {
                full.finish().map_err(io)?;
            }
            tar = Some((number, TarWriter::create(&folder.join(format!("{number:05}.tar"))).map_err(io)?));
            within = 0;
        }
        let (_, tar) = tar.as_mut().expect("opened above");
        let records = manifest.records_of(batch).map_err(NodeError::from)?;
        let (mut keys, mut sums) = (Vec::new(), Vec::new());
        for record in &records {
            let (extension, bytes) = picture(record, shards)?
                .ok_or_else(|| Failure::Other(format!("record `{}` has no image", record.key)))?;
            let key = format!("{number:05}{within:04}");
            within += 1;
            let sum = hex(&Sha256::digest(&bytes));
            tar.append(&format!("{key}.{extension}"), &bytes).map_err(io)?;
            tar.append(&format!("{key}.json"), sidecar(record, &key, &sum).to_string().as_bytes())
                .map_err(io)?;
            if let Some(caption) = record.captions.first() {
                tar.append(&format!("{key}.txt"), caption.text.as_bytes()).map_err(io)?;
            }
            keys.push(key);
            sums.push(sum);
        }
        let status: ArrayRef = Arc::new(StringArray::from(vec!["success"; records.len()]));
        let original: ArrayRef =
            Arc::new(records.iter().map(|record| Some(record.key.as_str())).collect::<StringArray>());
        let added: [(&str, ArrayRef); 5] = [
            ("key", Arc::new(StringArray::from(keys))),
            ("caption", first_captions(&records)),
            ("status", status),
            ("sha256", Arc::new(StringArray::from(sums))),
            ("original_key", original),
        ];
        with_columns(batch, &added)
    })?;
    if let Some((_, last)) = tar {
        last.finish().map_err(io)?;
    }
    for (number, count) in counts.iter().enumerate() {
        let stats =
            json!({ "count": count, "successes": count, "failed_to_download": 0, "failed_to_resize": 0 });
        let path = folder.join(format!("{number:05}_stats.json"));
        std::fs::write(&path, stats.to_string())
            .map_err(Failure::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}

/// The JSON beside a picture in a tar.
fn sidecar(record: &Record, key: &str, sha256: &str) -> Value {
    let mut columns = own_columns(record);
    columns.insert("key".into(), key.into());
    columns.insert("original_key".into(), record.key.as_str().into());
    columns.insert("status".into(), "success".into());
    columns.insert("sha256".into(), sha256.into());
    if let Some([width, height]) = record.size {
        columns.insert("width".into(), width.into());
        columns.insert("height".into(), height.into());
    }
    if let Some(first) = record.captions.first() {
        columns.insert("caption".into(), first.text.as_str().into());
        columns.insert("captions".into(), captions_json(&record.captions));
    }
    Value::Object(columns)
}

/// The image of a record, and its extension by its bytes.
fn picture(record: &Record, shards: &Shards) -> Result<Option<(&'static str, Vec<u8>)>, Failure> {
    let Some(part) = record.image() else { return Ok(None) };
    let bytes = shards.bytes(part).map_err(NodeError::data)?.into_owned();
    let extension = extension_of(&bytes).unwrap_or("png");
    Ok(Some((extension, bytes)))
}

fn first_captions(records: &[Record]) -> ArrayRef {
    let first = |record: &Record| record.captions.first().map(|caption| caption.text.clone());
    Arc::new(records.iter().map(first).collect::<StringArray>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Goes through a manifest and writes what `rows` makes of each piece to `00000.parquet` and so on; how many records each
/// file has.
fn files(
    folder: &Path,
    manifest: &Manifest,
    per_file: u64,
    mut rows: impl FnMut(u64, &RecordBatch) -> Result<RecordBatch, Failure>,
) -> Result<Vec<u64>, Failure> {
    let mut counts: Vec<u64> = Vec::new();
    let mut open: Option<TableWriter<File>> = None;
    for batch in manifest.batches() {
        let batch = batch.map_err(NodeError::from)?;
        let mut done = 0;
        while done < batch.num_rows() {
            if open.is_none() {
                counts.push(0);
            }
            let number = counts.len() as u64 - 1;
            let count = &mut counts[number as usize];
            let room = usize::try_from(per_file - *count).unwrap_or(usize::MAX);
            let piece = batch.slice(done, room.min(batch.num_rows() - done));
            done += piece.num_rows();
            *count += piece.num_rows() as u64;
            let full = *count == per_file;
            let made = rows(number, &piece)?;
            let mut writer = match open.take() {
                Some(writer) => writer,
                None => {
                    let path = folder.join(format!("{number:05}.parquet"));
                    let file =
                        File::create(&path).map_err(Failure::io(format!("making {}", path.display())))?;
                    TableWriter::new(file, made.schema()).map_err(|error| failed(&error))?
                }
            };
            writer.write(&made).map_err(|error| failed(&error))?;
            if full {
                writer.finish().map_err(|error| failed(&error))?;
            } else {
                open = Some(writer);
            }
        }
    }
    if let Some(last) = open {
        last.finish().map_err(|error| failed(&error))?;
    }
    Ok(counts)
}

/// A manifest's batch with these columns before it, in place of those of the same name.
fn with_columns(batch: &RecordBatch, added: &[(&str, ArrayRef)]) -> Result<RecordBatch, Failure> {
    let schema = batch.schema();
    let replaced = |name: &str| added.iter().any(|(known, _)| *known == name);
    let kept = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(field, _)| !PLACES.contains(&field.name().as_str()) && !replaced(field.name()));
    let added = added.iter().map(|(name, array)| {
        let field: FieldRef = Arc::new(Field::new(*name, array.data_type().clone(), true));
        (field, array.clone())
    });
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) =
        added.chain(kept.map(|(field, array)| (field.clone(), array.clone()))).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!("writing parquet: {error}"))
}
