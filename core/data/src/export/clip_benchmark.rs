//! clip-benchmark's webdataset layout: `SPLIT/0.tar` with `.cls` or `.txt`, class names beside.

use std::path::{Path, PathBuf};

use super::{Export, ExportError, Item, TarWriter, write};

/// What is measured on the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Zero-shot classification: the class names, the column that says a record's class, and prompts.
    Classification {
        /// The names; a record's label is its class's place.
        classes: Vec<String>,
        /// The column.
        column: String,
        /// Prompts with `{c}` for a class's name.
        templates: Vec<String>,
    },
    /// Retrieval: all captions of a record, one a line.
    Retrieval,
}

/// The split's shards below `SPLIT/`, with `nshards.txt` and what the task needs.
pub struct ClipBenchmark {
    folder: PathBuf,
    task: Task,
    split: String,
    per_shard: u64,
    records: u64,
    shards: u64,
    open: Option<TarWriter>,
}

impl ClipBenchmark {
    /// A set below `folder`.
    pub fn new(folder: &Path, split: &str, task: Task, per_shard: u64) -> Self {
        let (folder, split) = (folder.to_owned(), split.to_owned());
        Self { folder, task, split, per_shard, records: 0, shards: 0, open: None }
    }

    /// What goes beside the image.
    fn target(&self, item: &Item<'_>) -> Result<(&'static str, String), ExportError> {
        match &self.task {
            Task::Classification { classes, column, .. } => {
                let class = item.text(column)?;
                let label = classes.iter().position(|known| *known == class);
                let label =
                    label.ok_or_else(|| item.missing(format!("has a class `{class}` that is not listed")))?;
                Ok(("cls", label.to_string()))
            }
            Task::Retrieval => {
                // A line break within a caption would be two captions.
                let lines =
                    item.record.captions.iter().map(|caption| caption.text.replace(['\n', '\r'], " "));
                let lines: Vec<String> = lines.collect();
                if lines.is_empty() {
                    Err(item.missing("has no caption"))
                } else {
                    Ok(("txt", lines.join("\n")))
                }
            }
        }
    }
}

impl Export for ClipBenchmark {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, bytes) = item.image()?;
        let (kind, target) = self.target(item)?;
        if self.records.is_multiple_of(self.per_shard) {
            if let Some(full) = self.open.take() {
                full.finish()?;
            }
            let path = self.folder.join(&self.split).join(format!("{}.tar", self.shards));
            self.open = Some(TarWriter::create(&path)?);
            self.shards += 1;
        }
        let key = format!("s{:07}", self.records);
        self.records += 1;
        let tar = self.open.as_mut().expect("opened with the first record of a shard");
        tar.append(&format!("{key}.{extension}"), bytes)?;
        tar.append(&format!("{key}.{kind}"), target.as_bytes())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ExportError> {
        if let Some(last) = self.open.take() {
            last.finish()?;
        }
        write(&self.folder.join(&self.split).join("nshards.txt"), self.shards.to_string().as_bytes())?;
        match &self.task {
            Task::Classification { classes, templates, .. } => {
                write(&self.folder.join("classnames.txt"), classes.join("\n").as_bytes())?;
                let templates = templates.join("\n");
                write(&self.folder.join("zeroshot_classification_templates.txt"), templates.as_bytes())
            }
            Task::Retrieval => write(&self.folder.join("dataset_type.txt"), b"retrieval"),
        }
    }
}
