//! `data.table`: pictures whose paths are in a table.

use heddle_data::sources::{TableKind, table};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{
    Common,
    source::{folder, listing},
};
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Table;

struct Source {
    common: Common,
    path_column: String,
    kind: Option<TableKind>,
}

impl Kind<dyn Node, Models> for Table {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.table",
            version: 1,
            summary: "pictures whose paths are in a table",
            details: "CSV, TSV or JSON lines (by the file's ending, or `format`), a picture a row, as open_clip reads them. The path \
                      is below `folder`; all other values are columns, and `captions = { en = \"title\" }` says which are \
                      captions. Rows that do not read and paths without a file are skipped, up to `max-bad` of them.",
            example: "[nodes.pictures]\nkind = \"data.table\"\nfile = \"pairs.csv\"\nfolder = \"images\"\ncaptions = { und = \"title\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let file = r.file("file", "the table").required();
        let _ = r.folder("folder", "folder that the paths are below").required();
        let path_column: String = r.field("path", "column with the picture's path").or("filepath".to_owned());
        let format = r
            .choice(
                "format",
                "form of the table; default: by the file's ending",
                &[
                    ("csv", Some(TableKind::Csv), "commas, names in the first row"),
                    ("tsv", Some(TableKind::Tsv), "tabs, names in the first row"),
                    ("jsonl", Some(TableKind::JsonLines), "a JSON object a line"),
                    ("by-name", None, "`.csv`, `.tsv`, `.jsonl` or `.ndjson`"),
                ],
            )
            .or("by-name");
        let kind = format.or_else(|| TableKind::of(&file.path));
        if kind.is_none() && !file.path.is_empty() {
            r.error(
                "file",
                "the file's ending does not say what it is",
                Some("set `format`: csv, tsv or jsonl"),
            );
        }
        Box::new(Source { common: Common::read(r, "table"), path_column, kind })
    }
}

impl NodeSpec for Source {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(self.common.outputs())
    }
}

impl Node for Source {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let shard = folder(cx, "folder")?;
        let kind = self.kind.ok_or_else(|| NodeError::Other("the table's form is not known".into()))?;
        let bytes = cx.file("file")?;
        let found = table(&bytes, kind, "table", &self.path_column, listing(&shard)?, shard.digest);
        let found = found.map_err(|error| NodeError::Other(format!("the table does not read: {error}")))?;
        let mut sink = self.common.sink(cx)?;
        sink.take(&shard, found)?;
        sink.finish()
    }
}
