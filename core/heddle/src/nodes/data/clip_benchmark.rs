//! `data.clip-benchmark`: test sets in clip-benchmark's layout.

use heddle_data::{Caption, Record, ScanOptions, SkipReason, Skipped, sources::Found};
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
        scan_shards(cx, sink, &ScanOptions::default(), |shard, record| labelled(shard, record, &names))
    }
}

/// The record with its label, class and captions; a label without a name is broken, where there are names.
fn labelled(shard: &str, mut record: Record, names: &[&str]) -> Found {
    if let Some(label) = record.columns.shift_remove("cls") {
        let name = label.as_u64().and_then(|label| names.get(usize::try_from(label).ok()?));
        match name {
            Some(name) => {
                record.columns.insert("class".into(), (*name).into());
            }
            None if !names.is_empty() => {
                let (shard, key, member) =
                    (shard.to_owned(), record.key.clone(), format!("{}.cls", record.key));
                let reason = SkipReason::NoClass { label: label.to_string(), names: names.len() };
                return Err(Skipped { shard, key, member, reason });
            }
            None => {}
        }
        record.columns.insert("label".into(), label);
    }
    if let Some(Json::String(texts)) = record.columns.shift_remove("txt") {
        let texts = texts.lines().map(str::trim).filter(|text| !text.is_empty());
        record.captions = texts.map(|text| Caption::new(text, None)).collect();
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_needs_a_name_where_there_are_names() {
        let labelled = |label: Json, names: &[&str]| {
            let columns = serde_json::Map::from_iter([("cls".to_owned(), label)]);
            let found = labelled("0.tar", Record::new("k".into(), [0; 32], [].into(), columns), names);
            found
                .map(|record| Json::Object(record.columns).to_string())
                .map_err(|skipped| skipped.to_string())
        };
        assert_eq!(labelled(1.into(), &["a", "b"]).as_deref(), Ok(r#"{"class":"b","label":1}"#));
        assert_eq!(labelled(2.into(), &[]).as_deref(), Ok(r#"{"label":2}"#));
        let error = labelled(2.into(), &["a", "b"]).expect_err("there is no third name");
        assert_eq!(error, "0.tar: k.cls: the label 2 has no name; there are 2 class names, counted from 0");
    }
}
