//! What all data sources have in common: a [`Format`] finds records; which of them are kept, how their images are read, what may be broken.

use std::{collections::BTreeSet, marker::PhantomData};

use heddle_data::{
    Caption, Footer, Record, RowWriter, Select, Shard, ShardInfo, Skipped,
    manifest::Step,
    select::{Filter, Join},
    sources::Found,
};
use heddle_graph::{
    config::Reader,
    digest::Digest,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{Filters, Settings, column_text, image::read_image, read_filters};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The parameters of every source.
struct Common {
    source: String,
    source_column: Option<String>,
    captions: IndexMap<String, String>,
    join_on: Option<String>,
    filters: Filters,
    splits: Option<Vec<String>>,
    limit: Option<usize>,
    settings: Settings,
}

impl Common {
    /// Reads them; `source` is the name that reports count by where the file gives none.
    fn read(r: &mut Reader<'_>, source: &'static str) -> Self {
        let source = r.field("source", "name of the data set, by which reports count").or(source.to_owned());
        let source_column =
            r.field("source-column", "column with the name of the data set, in place of `source`").optional();
        let captions = r.map(
            "captions",
            "captions from columns, by language: `{ en = \"title\" }`; `und` where it is unknown. Without it, what the \
             format calls captions",
        );
        let join_on = r.optional_table("join", "columns from a JSON-lines table", |r| {
            let _ = r.file("file", "the table, one JSON object a line").required();
            r.field("on", "the column that both have").required()
        });
        Self {
            source,
            source_column,
            captions,
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
        }
    }

    /// Starts taking records.
    fn sink<'a>(&'a self, cx: &'a RunContext<'_>) -> Result<Sink<'a>, NodeError> {
        let join = match &self.join_on {
            None => None,
            Some(on) => Some(Join::from_jsonl(on.clone(), &cx.file("join.file")?).map_err(NodeError::data)?),
        };
        let mut filters = self.filters.0.clone();
        if let Some(splits) = &self.splits {
            filters.push(Filter::new("split", splits.clone().into()));
        }
        let mut footer = Footer::default();
        self.settings.put(&mut footer)?;
        Ok(Sink {
            common: self,
            cx,
            select: Select::new(join, filters, self.limit),
            rows: RowWriter::new(footer),
            splits: BTreeSet::new(),
            came: 0,
            more: Outputs::new(),
            unfetched: Step::new("download"),
        })
    }
}

/// A format of data sets: a kind of its own is [`Source`] over it.
pub trait Format: Sized + Send + Sync + 'static {
    /// The kind's name and texts.
    const SPEC: KindSpec;
    /// Whether the names of its files decide what it gives.
    const READS_FILE_NAMES: bool = false;

    /// Reads the fields that are the format's own.
    fn read(r: &mut Reader<'_>) -> Self;

    /// What it gives beside the records.
    fn more_outputs(&self) -> Vec<OutPort> {
        Vec::new()
    }

    /// Gives all records, and what cannot be used, to the sink.
    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError>;
}

/// The kind of node that reads a format.
pub struct Source<F>(PhantomData<F>);

impl<F: Format> Source<F> {
    /// The kind.
    pub const KIND: Self = Self(PhantomData);
}

/// A node that reads a format.
struct Reads<F> {
    common: Common,
    format: F,
}

impl<F: Format> Kind<dyn Node, Models> for Source<F> {
    fn spec(&self) -> KindSpec {
        F::SPEC
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let format = F::read(r);
        let name = F::SPEC.name;
        Box::new(Reads { common: Common::read(r, name.strip_prefix("data.").unwrap_or(name)), format })
    }
}

impl<F: Format> NodeSpec for Reads<F> {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let mut ports = vec![records_port(&self.common.settings)];
        ports.extend(self.format.more_outputs());
        Ok(ports)
    }
}

impl<F: Format> Node for Reads<F> {
    fn reads_file_names(&self) -> bool {
        F::READS_FILE_NAMES
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let mut sink = self.common.sink(cx)?;
        self.format.feed(cx, &mut sink)?;
        sink.finish()
    }
}

/// The records port of a node whose images are read so.
pub fn records_port(settings: &Settings) -> OutPort {
    let [height, width] = settings.image.size;
    let shape = [3, height as usize, width as usize].map(Into::into);
    OutPort::new("records", PortType::new(Class::Records, shape))
}

/// Where a source's records go.
pub struct Sink<'a> {
    common: &'a Common,
    cx: &'a RunContext<'a>,
    select: Select,
    /// The manifest in the making: shards are named here.
    rows: RowWriter,
    splits: BTreeSet<String>,
    came: u64,
    more: Outputs,
    unfetched: Step,
}

impl Sink<'_> {
    /// Keeps what a format found, and names what cannot be used.
    pub fn take(&mut self, found: impl Iterator<Item = Found>) -> Result<(), NodeError> {
        for one in found {
            if self.is_full() {
                break;
            }
            self.cx.check_cancelled()?;
            match one {
                Ok(record) => self.push(record)?,
                Err(skipped) => self.skip(skipped),
            }
        }
        Ok(())
    }

    /// Gives an output beside the records.
    pub fn give(&mut self, port: &str, digest: Digest) {
        self.more.insert(port.to_owned(), Output::Kept(digest));
    }

    /// Counts a row whose picture was fetched (no reason), or was not when the set was made: that is no mistake, and
    /// reports tell it as the first rule.
    pub fn fetched(&mut self, reason: Option<&str>) {
        self.unfetched.count(&self.common.source, reason);
    }

    /// Names a shard before its records come.
    pub fn shard(&mut self, shard: &Shard) {
        self.rows.shard(ShardInfo { name: shard.name.clone(), digest: shard.digest });
    }

    /// Keeps a record, if it is one of those that are wanted.
    pub fn push(&mut self, record: Record) -> Result<(), NodeError> {
        self.came += 1;
        if self.splits.len() < 20
            && let Some(split) = column_text(&record, "split")
        {
            self.splits.insert(split);
        }
        if let Some(mut record) = self.select.apply(record) {
            let column = self.common.source_column.as_ref();
            record.source = column
                .and_then(|column| column_text(&record, column))
                .unwrap_or_else(|| self.common.source.clone());
            if !self.common.captions.is_empty() {
                record.captions = captions(&record, &self.common.captions);
            }
            self.rows.push(record)?;
        }
        Ok(())
    }

    /// Whether nothing that may still come is kept.
    pub fn is_full(&self) -> bool {
        self.select.is_full()
    }

    /// Counts what cannot be used; more of it than the node allows ends the run at the end, with the list.
    pub fn skip(&mut self, skipped: Skipped) {
        if self.rows.footer.left.count < 20 {
            self.cx.progress.note(format!("skipped {skipped}"));
        }
        self.rows.skip(skipped);
    }

    /// Writes the manifest.
    fn finish(self) -> Result<Outputs, NodeError> {
        let Self { common, cx, select, mut rows, splits, came, more, unfetched } = self;
        if unfetched.totals().0 > 0 {
            rows.footer.steps.push(unfetched);
        }
        let left = &rows.footer.left;
        if left.count > common.settings.max_bad as u64 {
            let list: Vec<String> =
                left.first.iter().take(20).map(|skipped| format!("\n  {skipped}")).collect();
            return Err(NodeError::Other(format!(
                "{} members are broken, {} are allowed (`max-bad`):{}",
                left.count,
                common.settings.max_bad,
                list.concat()
            )));
        }
        select.finish().map_err(NodeError::data)?;
        if rows.rows() == 0 {
            let names = splits.into_iter().collect::<Vec<_>>().join(", ");
            let splits =
                if names.is_empty() { String::new() } else { format!("; splits in the data: {names}") };
            return Err(NodeError::Other(format!("no record is left of {came}{splits}")));
        }
        cx.progress.note(format!("{} records", rows.rows()));
        let digest = rows.finish(cx.writer()?)?.finish()?;
        let mut outputs = more;
        outputs.insert("records".to_owned(), Output::Kept(digest));
        Ok(outputs)
    }
}

/// Captions from columns by language.
fn captions(record: &Record, columns: &IndexMap<String, String>) -> Vec<Caption> {
    let mut captions = Vec::new();
    for (language, column) in columns {
        let language = Some(language.as_str()).filter(|language| *language != "und");
        let mut add = |value: &Json| captions.extend(value.as_str().map(|text| Caption::new(text, language)));
        match record.column(column) {
            Some(Json::Array(texts)) => texts.iter().for_each(&mut add),
            Some(value) => add(value),
            None => {}
        }
    }
    captions
}
