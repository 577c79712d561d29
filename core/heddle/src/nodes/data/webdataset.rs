//! `data.webdataset`: records from tar shards.

use std::collections::BTreeSet;

use heddle_data::{Manifest, ScanOptions, Select, Shard, SplitFrom, select::Join};
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};

use super::{Filters, Records, image::read_image, read_filters, records::Settings};
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct WebDataset;

struct Source {
    join_on: Option<String>,
    filters: Filters,
    splits: Option<Vec<String>>,
    limit: Option<usize>,
    settings: Settings,
}

impl Kind<dyn Node, Models> for WebDataset {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.webdataset",
            version: 2,
            summary: "image-text records from webdataset tar shards",
            details: "Members that share a key (`key.png`, `key.json`) are one record; the JSON's fields are its columns. \
                      The column `split` is the shard's name up to its number (`train-0000.tar`: train). Shards may be \
                      `.tar` or `.tar.gz` files, or `embedded:emoji/...`; patterns are `*`, `{a,b}` and `{0000..0009}`. \
                      Only the manifest is kept: images stay in their shard until a node reads them. A broken member is \
                      named and skipped, up to `max-bad` of them.",
            example: "[nodes.pairs]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/train-*.tar\"\n\
                      where = { novel = false }\nimage = { size = 32 }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.files("shards", "tar shards: paths or patterns").or(&["embedded:emoji/train-*.tar"]);
        let join_on = r.optional_table("join", "columns from a JSON-lines table", |r| {
            let _ = r.file("file", "the table, one JSON object a line").required();
            r.field("on", "the column that both have").required()
        });
        Box::new(Source {
            join_on,
            filters: read_filters(
                r,
                "where",
                "conditions on columns, a value or a list of values each; all must hold",
            ),
            splits: r.field("split", "splits to keep; default: all").optional(),
            limit: r.field("limit", "keep this many records, from the front").min(1).optional(),
            settings: Settings {
                image: r.table("image", "how pictures become tensors", read_image),
                max_bad: r.field("max-bad", "broken records that a run puts up with").or(0),
            },
        })
    }
}

impl NodeSpec for Source {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let [height, width] = self.settings.image.size;
        let shape = [3, height as usize, width as usize].map(Into::into);
        Ok(vec![OutPort::new("records", PortType::new(Class::Records, shape))])
    }
}

impl Node for Source {
    fn reads_file_names(&self) -> bool {
        true
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let shards = cx.files("shards").iter().map(|file| {
            let name = file.name.clone().unwrap_or_default();
            // Two files may have one content; the name decides the split.
            Ok(Shard { name: name.clone(), ..(*cx.library.shard(&file.digest, &name)?).clone() })
        });
        let shards: Vec<Shard> = shards.collect::<Result<_, NodeError>>()?;
        let scanned = Manifest::scan(
            &shards,
            &ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() },
        );
        for skipped in &scanned.skipped {
            cx.progress.note(format!("skipped {skipped}"));
        }
        if scanned.skipped.len() > self.settings.max_bad {
            let list: Vec<String> =
                scanned.skipped.iter().take(20).map(|skipped| format!("\n  {skipped}")).collect();
            return Err(NodeError::Other(format!(
                "{} members are broken, {} are allowed (`max-bad`):{}",
                scanned.skipped.len(),
                self.settings.max_bad,
                list.concat()
            )));
        }
        let manifest = scanned.select(&self.select(cx)?).map_err(NodeError::data)?;
        if manifest.records.is_empty() {
            return Err(NodeError::Other(format!(
                "no record is left of {}; splits in the shards: {}",
                scanned.records.len(),
                splits(&scanned).into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        cx.progress.note(format!("{} records", manifest.records.len()));
        let records = Records { manifest, settings: self.settings.clone() };
        Ok(Outputs::from([("records".to_owned(), records.to_bytes()?)]))
    }
}

impl Source {
    fn select(&self, cx: &RunContext<'_>) -> Result<Select, NodeError> {
        let join = match &self.join_on {
            None => None,
            Some(on) => Some(Join::from_jsonl(on.clone(), &cx.file("join.file")?).map_err(NodeError::data)?),
        };
        let mut filters = self.filters.0.clone();
        if let Some(splits) = &self.splits {
            filters.push(heddle_data::select::Filter::new("split", splits.clone().into()));
        }
        Ok(Select { join, filters, limit: self.limit })
    }
}

fn splits(manifest: &Manifest) -> BTreeSet<String> {
    manifest.records.iter().filter_map(|record| super::column_text(record, "split")).collect()
}
