//! `data.parquet`: records in parquet files, their pictures inside or in tars beside.

use std::collections::HashMap;

use bytes::Bytes;
use heddle_data::{Record, ScanOptions, Shard, SkipReason, Skipped, digest, image::extension_of, scan};
use heddle_graph::{
    config::Reader,
    graph::{Class, KindSpec, OutPort, PortType},
    plan::FileKey,
};
use heddle_parquet::{Row, Table, TableError, byte_columns};
use serde_json::{Map, Value as Json};

use super::{
    shard_writer::{Layout, ShardWriter},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct Parquet {
    image: Option<String>,
    beside: bool,
}

/// What img2dataset says of a picture that it has.
const FETCHED: &str = "success";

impl Format for Parquet {
    const SPEC: KindSpec = KindSpec {
        name: "data.parquet",
        version: 1,
        summary: "records in parquet files, as img2dataset and Hugging Face datasets write them",
        details: "Pictures are bytes in a column (`picture`; a struct with a field `bytes` will do), or members of tars beside the \
                  tables: `00000.parquet` with `00000.tar`, joined on `key`, as img2dataset's webdataset output. A row whose \
                  `status` is not `success` was never fetched: it is passed over, and reports count it under `download`. Captions \
                  are the columns `captions` or `caption`, or the tar's texts. Pictures out of a column are written to a tar of their own (port `shard`); memory holds \
                  a batch of rows, with tars the rows of one table. Two passes are made over pictures in a column.",
        example: "[nodes.laion]\nkind = \"data.parquet\"\ntables = \"laion/*.parquet\"\nshards = \"laion/*.tar\"\n",
    };
    const READS_FILE_NAMES: bool = true;

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.files("tables", "parquet files: paths or patterns").required();
        let beside = r.has("shards");
        let _ = r.files("shards", "tars with the pictures, each named as its table").optional();
        let image =
            r.field("picture", "column with the pictures; default: the only column of bytes").optional();
        if beside && r.has("picture") {
            r.error("picture", "the pictures are in `shards`", Some("leave out `picture` or `shards`"));
        }
        Self { image, beside }
    }

    fn more_outputs(&self) -> Vec<OutPort> {
        if self.beside { Vec::new() } else { vec![OutPort::new("shard", PortType::plain(Class::Shard))] }
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        if self.beside { beside(cx, sink) } else { self.inside(cx, sink) }
    }
}

/// Opens the parquet file of a field.
pub fn open_parquet(cx: &RunContext<'_>, file: Option<&FileKey>) -> Result<Table, NodeError> {
    struct Mapped(Shard);
    impl AsRef<[u8]> for Mapped {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let file = file.ok_or_else(|| NodeError::Other("the node names no table".into()))?;
    let name = name_of(file);
    let shard = cx.library.shard(&file.digest, name)?;
    Table::open(Bytes::from_owner(Mapped((*shard).clone()))).map_err(|error| in_file(name, &error))
}

/// A table that breaks off: what came before it is used.
pub fn broken_row(name: &str, error: &TableError) -> Skipped {
    let reason = SkipReason::Unreadable { message: error.to_string() };
    Skipped { shard: name.to_owned(), key: String::new(), member: name.to_owned(), reason }
}

fn in_file(name: &str, error: &TableError) -> NodeError {
    NodeError::Other(format!("`{name}`: {error}"))
}

fn name_of(file: &FileKey) -> &str {
    file.name.as_deref().unwrap_or("table")
}

/// A file's name up to its first dot.
fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Tables with a tar each.
fn beside(cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
    let tars: HashMap<&str, &FileKey> =
        cx.files("shards").iter().map(|file| (stem(name_of(file)), file)).collect();
    for file in cx.files("tables") {
        cx.check_cancelled()?;
        if sink.is_full() {
            break;
        }
        let name = name_of(file);
        let tar = tars.get(stem(name)).ok_or_else(|| {
            NodeError::Other(format!("`{name}` has no tar called `{}.tar` under `shards`", stem(name)))
        })?;
        let table = open_parquet(cx, Some(file))?;
        table.require(&["key"]).map_err(|error| in_file(name, &error))?;
        let mut rows: HashMap<String, Map<String, Json>> = HashMap::new();
        for row in table.rows(None).map_err(|error| in_file(name, &error))? {
            match row {
                Ok(row) if is_fetched(&row.columns, sink) => {
                    if let Some(key) = key_of(&row.columns) {
                        rows.insert(key, row.columns);
                    }
                }
                Ok(_) => {}
                Err(error) => sink.skip(broken_row(name, &error)),
            }
        }
        let shard = (*cx.library.shard(&tar.digest, name_of(tar))?).clone().named(name_of(tar));
        sink.shard(&shard);
        let found = scan(&shard, &ScanOptions::default());
        found.skipped.into_iter().for_each(|skipped| sink.skip(skipped));
        let no_row = |key: String, message: &str| {
            let reason = SkipReason::NoRow { message: message.to_owned() };
            Skipped { shard: name.to_owned(), member: key.clone(), key, reason }
        };
        for mut record in found.records {
            match rows.remove(&record.key) {
                Some(row) => {
                    // The record's own columns win: they are closer to the image.
                    row.into_iter().filter(|(name, _)| name != "key").for_each(|(name, value)| {
                        record.columns.entry(name).or_insert(value);
                    });
                    sink.push(record.adopt_columns())?;
                }
                None => sink.skip(no_row(record.key, "the table has no row of this key")),
            }
        }
        let mut left: Vec<String> = rows.into_keys().collect();
        left.sort_unstable();
        left.into_iter().for_each(|key| sink.skip(no_row(key, "the tar has no picture of this key")));
    }
    Ok(())
}

impl Parquet {
    /// Tables with pictures in a column: first the tar of them, then the records, since a record names its shard's digest.
    fn inside(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let mut tar = ShardWriter::new(cx)?;
        self.each_picture(cx, |_, _, row, picture| {
            if let (Ok(_), Some((extension, bytes))) = (row, picture) {
                tar.append(&digest::of(bytes), extension, bytes)?;
            }
            Ok(!cx.cancel.is_cancelled())
        })?;
        cx.check_cancelled()?;
        let shard = tar.finish()?;
        sink.give("shard", shard);
        let shard = *shard.as_bytes();
        sink.shard(&Shard::known_bytes("pictures.tar", shard, std::sync::Arc::new(Vec::new())));
        let mut layout = Layout::default();
        self.each_picture(cx, |name, place, row, picture| {
            cx.check_cancelled()?;
            let mut columns = match row {
                Ok(columns) => columns,
                Err(error) => {
                    sink.skip(broken_row(name, &error));
                    return Ok(true);
                }
            };
            if !is_fetched(&columns, sink) {
                return Ok(true);
            }
            let key = key_of(&columns).unwrap_or_else(|| format!("{}/{place}", stem(name)));
            let Some((extension, bytes)) = picture else {
                let reason = SkipReason::MissingImage;
                sink.skip(Skipped { shard: name.to_owned(), member: key.clone(), key, reason });
                return Ok(true);
            };
            columns.shift_remove("key");
            let parts = [(extension.to_owned(), layout.next(shard, bytes))].into();
            sink.push(Record::new(key, shard, parts, columns).adopt_columns())?;
            Ok(!sink.is_full())
        })
    }

    /// Goes through all rows until `each` says no: the table's name, the row's place in it, its columns, its picture with
    /// the extension. Only rows that were fetched have a picture.
    fn each_picture(
        &self,
        cx: &RunContext<'_>,
        mut each: impl FnMut(
            &str,
            usize,
            Result<Map<String, Json>, TableError>,
            Option<(&str, &[u8])>,
        ) -> Result<bool, NodeError>,
    ) -> Result<(), NodeError> {
        for file in cx.files("tables") {
            let name = name_of(file);
            let table = open_parquet(cx, Some(file))?;
            let column = match &self.image {
                Some(column) => column.clone(),
                None => {
                    only_bytes(&table).map_err(|problem| NodeError::Other(format!("`{name}`: {problem}")))?
                }
            };
            let rows = table.rows(Some(&column)).map_err(|error| in_file(name, &error))?;
            for (place, row) in rows.enumerate() {
                let (columns, bytes) = match row {
                    Ok(Row { columns, bytes }) => (Ok(columns), bytes),
                    Err(error) => (Err(error), None),
                };
                let bytes = bytes.filter(|_| columns.as_ref().is_ok_and(|columns| !was_lost(columns)));
                let picture = bytes.as_deref().and_then(|bytes| Some((extension_of(bytes)?, bytes)));
                if !each(name, place, columns, picture)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn only_bytes(table: &Table) -> Result<String, String> {
    let columns = byte_columns(table.schema());
    match columns[..] {
        [column] => Ok(column.to_owned()),
        [] => {
            Err("no column holds bytes; are the pictures in tars (`shards`), or files (`data.table`)?".into())
        }
        _ => Err(format!("several columns hold bytes: {}; say which with `picture`", columns.join(", "))),
    }
}

/// Whether the tool that made the set says that it has no picture.
fn was_lost(columns: &Map<String, Json>) -> bool {
    columns.get("status").and_then(Json::as_str).is_some_and(|status| status != FETCHED)
}

/// Counts a row, if its set says which pictures were fetched.
fn is_fetched(columns: &Map<String, Json>, sink: &mut Sink<'_>) -> bool {
    if let Some(status) = columns.get("status").and_then(Json::as_str) {
        sink.fetched(Some(status).filter(|status| *status != FETCHED));
    }
    !was_lost(columns)
}

fn key_of(columns: &Map<String, Json>) -> Option<String> {
    match columns.get("key")? {
        Json::String(key) => Some(key.clone()),
        Json::Number(key) => Some(key.to_string()),
        _ => None,
    }
}
