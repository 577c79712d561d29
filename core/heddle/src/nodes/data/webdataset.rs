//! `data.webdataset`: records from tar shards.

use heddle_data::{Scan, ScanOptions, Shard, ShardInfo, SplitFrom, scan};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use rayon::prelude::*;

use super::Common;
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct WebDataset;

struct Source {
    common: Common,
}

impl Kind<dyn Node, Models> for WebDataset {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.webdataset",
            version: 3,
            summary: "image-text records from webdataset tar shards",
            details: "Members that share a key (`key.png`, `key.json`) are one record; the JSON's fields are its columns, \
                      its caption is the `.txt` member or the JSON's `caption`. \
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
        Box::new(Source { common: Common::read(r, "webdataset") })
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
    fn reads_file_names(&self) -> bool {
        true
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let mut sink = self.common.sink(cx)?;
        let options = ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() };
        let files = cx.files("shards");
        // As many shards at once as there are threads; memory holds the records of those.
        for (place, some) in files.chunks(rayon::current_num_threads()).enumerate() {
            cx.check_cancelled()?;
            cx.progress.set((place * rayon::current_num_threads()) as u64, files.len() as u64, "shards");
            let scans: Vec<(Shard, Scan)> = some
                .par_iter()
                .map(|file| {
                    let name = file.name.clone().unwrap_or_default();
                    // Two files may have one content; the name decides the split.
                    let shard = (*cx.library.shard(&file.digest, &name)?).clone().named(name);
                    let scan = scan(&shard, &options);
                    Ok((shard, scan))
                })
                .collect::<Result<_, NodeError>>()?;
            for (shard, scan) in scans {
                // Shards behind the limit do not count, however many were read at once.
                if sink.is_full() {
                    break;
                }
                sink.rows.shard(ShardInfo { name: shard.name.clone(), digest: shard.digest });
                scan.skipped.into_iter().for_each(|skipped| sink.skip(skipped));
                scan.records.into_iter().try_for_each(|record| sink.push(record))?;
            }
            if sink.is_full() {
                break;
            }
        }
        sink.finish()
    }
}
