//! `data.clip-benchmark`: test sets in clip-benchmark's layout.

use heddle_data::{Caption, Record, ScanOptions};
use heddle_graph::{config::Reader, graph::KindSpec};
use serde_json::Value as Json;

use super::{
    source::{Format, Sink},
    webdataset::scan_shards,
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct ClipBenchmark;

impl Format for ClipBenchmark {
    const SPEC: KindSpec = KindSpec {
        name: "data.clip-benchmark",
        version: 1,
        summary: "a test set in clip-benchmark's webdataset layout",
        details: "Shards `test/0.tar` with a picture and a `.cls` (zero-shot classification) or a `.txt` of one caption a line (retrieval) per key, \
                  and the class names beside them (`classnames.txt`, one a line). Column `label` is the number in `.cls`, `class` the \
                  name at that line from 0. Templates are text like any other: `templates` of `eval.zero-shot` has them.",
        example: "[nodes.cifar10]\nkind = \"data.clip-benchmark\"\nshards = \"wds_vtab-cifar10/test/*.tar\"\nclassnames = \"wds_vtab-cifar10/classnames.txt\"\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.files("shards", "the split's shards").required();
        let _ = r.file("classnames", "names of the classes, one a line").optional();
        Self
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let text = if cx.files("classnames").is_empty() { Vec::new() } else { cx.file("classnames")? };
        let text =
            String::from_utf8(text).map_err(|_| NodeError::Other("the class names are not UTF-8".into()))?;
        let names: Vec<&str> = text.lines().map(str::trim).collect();
        scan_shards(cx, sink, &ScanOptions::default(), |record| labelled(record, &names))
    }
}

/// The record with its label, class and captions.
fn labelled(mut record: Record, names: &[&str]) -> Record {
    if let Some(label) = record.columns.shift_remove("cls") {
        let name = label.as_u64().and_then(|label| names.get(usize::try_from(label).ok()?));
        if let Some(name) = name {
            record.columns.insert("class".into(), (*name).into());
        }
        record.columns.insert("label".into(), label);
    }
    if let Some(Json::String(texts)) = record.columns.shift_remove("txt") {
        let texts = texts.lines().map(str::trim).filter(|text| !text.is_empty());
        record.captions = texts.map(|text| Caption::new(text, None)).collect();
    }
    record
}
