//! `data.webdataset`: records from tar shards.

use heddle_data::{Record, Scan, ScanOptions, Shard, SplitFrom, scan, sources::Found};
use heddle_graph::{config::Reader, graph::KindSpec};
use rayon::prelude::*;

use super::source::{Format, Sink};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct WebDataset;

impl Format for WebDataset {
    const SPEC: KindSpec = KindSpec {
        name: "data.webdataset",
        version: 4,
        summary: "image-text records from webdataset tar shards",
        details: "Members that share a key (`key.png`, `key.json`) are one record; the JSON's fields are its columns, \
                  its captions are the JSON's `captions` (texts, `{ text, language }`, or texts by language), else the `.txt` \
                  member or the JSON's `caption`. \
                  The column `split` is the shard's name up to its number (`train-0000.tar`: train). Shards may be \
                  `.tar` or `.tar.gz` files, or `embedded:emoji/...`; patterns are `*`, `{a,b}` and `{0000..0009}`, \
                  and `@list.txt` is a list of them, one a line. \
                  Only the manifest is kept: images stay in their shard until a node reads them. A broken member is \
                  named and skipped, up to `max-bad` of them.",
        example: "[nodes.pairs]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/train-*.tar\"\n\
                  where = { novel = false }\nimage = { size = 32 }\n",
    };
    const READS_FILE_NAMES: bool = true;

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.files("shards", "tar shards: paths or patterns").or(&["embedded:emoji/train-*.tar"]);
        Self
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let options = ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() };
        scan_shards(cx, sink, &options, |_, record| Ok(record))
    }
}

/// Gives the records of the tar files under `shards` to the sink, in order, each as `shape` makes it from the shard's name and
/// what was scanned.
pub fn scan_shards(
    cx: &RunContext<'_>,
    sink: &mut Sink<'_>,
    options: &ScanOptions,
    shape: impl Fn(&str, Record) -> Found,
) -> Result<(), NodeError> {
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
                let scan = scan(&shard, options);
                Ok((shard, scan))
            })
            .collect::<Result<_, NodeError>>()?;
        for (shard, scan) in scans {
            // Shards behind the limit do not count, however many were read at once.
            if sink.is_full() {
                break;
            }
            sink.shard(&shard);
            scan.skipped.into_iter().for_each(|skipped| sink.skip(skipped));
            sink.take(scan.records.into_iter().map(|record| shape(&shard.name, record)))?;
        }
        if sink.is_full() {
            break;
        }
    }
    Ok(())
}
