//! Calls a plugin on chunks: from what was kept where that is possible, else on all threads; answers come in order.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arrow_array::{ArrayRef, RecordBatch, builder::BinaryBuilder};
use heddle_data::{Shards, manifest::column_values};
use heddle_graph::digest::{Digest, DigestWriter};
use heddle_plugin::{Answer, Batch, Failure, Prepared, Session, State};
use rayon::prelude::*;
use serde_json::Value as Json;

use super::{
    chunks::Chunks,
    settings::{OnError, Plugged},
};
use crate::{
    exec::{NodeError, RunContext},
    nodes::data::Records,
};

/// An answer that can be kept.
pub trait Kept: Sized + Send {
    /// Its bytes.
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError>;
    /// What `to_bytes` wrote, for so many records; `None` if the bytes are anything else.
    fn from_bytes(bytes: &[u8], rows: usize) -> Option<Self>;
}

/// A plugin at work on the records of a node.
pub struct Calls<'a> {
    cx: &'a RunContext<'a>,
    plugged: &'a Plugged,
    records: &'a Records,
    session: Session,
    shards: OnceLock<Shards>,
    conditions: String,
    counters: BTreeMap<String, u64>,
    logged: usize,
    failed: u64,
    kept: u64,
    ran: u64,
}

/// A chunk and what the plugin gave for it; nothing if it failed and the run goes on.
pub type Answered<T> = (RecordBatch, Option<T>);

/// Log lines that are shown.
const LOG_LINES: usize = 20;

impl<'a> Calls<'a> {
    pub fn new(
        cx: &'a RunContext<'a>,
        plugged: &'a Plugged,
        records: &'a Records,
    ) -> Result<Self, NodeError> {
        let session = plugged.open(cx)?;
        let conditions = plugged.conditions(cx.seed);
        Ok(Self {
            cx,
            plugged,
            records,
            session,
            shards: OnceLock::new(),
            conditions,
            counters: BTreeMap::new(),
            logged: 0,
            failed: 0,
            kept: 0,
            ran: 0,
        })
    }

    /// Name of the plugin, by which reports count.
    pub fn name(&self) -> &str {
        &self.session.plugin().description().name
    }

    /// The plugin at work.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Calls the plugin on every chunk and gives the answers in order; memory holds a few chunks.
    pub fn run<T: Kept>(
        &mut self,
        call: impl Fn(&Session, &Prepared) -> Result<Answer<T>, Failure> + Sync,
        mut each: impl FnMut(Answered<T>) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let ordered = self.session.plugin().description().state == State::Ordered;
        let window = if ordered { 1 } else { 2 * rayon::current_num_threads() };
        let mut chunks = Chunks::new(&self.records.manifest, self.session.plugin().description().max_batch);
        let (mut index, mut done) = (0_u64, 0);
        loop {
            self.cx.check_cancelled()?;
            let some: Vec<RecordBatch> = chunks.by_ref().take(window).collect::<Result<_, _>>()?;
            if some.is_empty() {
                break;
            }
            self.cx.progress.set(done, self.records.manifest.len() as u64, "records");
            done += some.iter().map(|chunk| chunk.num_rows() as u64).sum::<u64>();
            let first = index;
            index += some.len() as u64;
            let one =
                |(place, chunk): (usize, &RecordBatch)| self.one(chunk, first + place as u64, ordered, &call);
            let answers: Vec<Result<One<T>, NodeError>> = some.par_iter().enumerate().map(one).collect();
            let mut fresh = Vec::new();
            for (chunk, answer) in some.into_iter().zip(answers) {
                let answer = match answer? {
                    One::Kept(answer) => {
                        self.kept += 1;
                        self.count(&answer.said.counters);
                        Some(answer.value)
                    }
                    One::Made(answer, key) => {
                        self.ran += 1;
                        if let Some(key) = key {
                            fresh.push((key, stored(&answer)?));
                        }
                        self.say(&answer);
                        Some(answer.value)
                    }
                    One::Failed(failure) => self.fail(failure, ordered)?,
                };
                each((chunk, answer))?;
            }
            if let Err(error) = self.cx.store.keep_parts(&fresh) {
                tracing::warn!(%error, "what the plugin gave could not be kept");
            }
        }
        self.finish();
        Ok(())
    }

    fn one<T: Kept>(
        &self,
        chunk: &RecordBatch,
        index: u64,
        ordered: bool,
        call: &(impl Fn(&Session, &Prepared) -> Result<Answer<T>, Failure> + Sync),
    ) -> Result<One<T>, NodeError> {
        let batch = match self.session.prepare(&self.project(chunk, index)?) {
            Ok(batch) => batch,
            Err(failure) => return Ok(One::Failed(failure)),
        };
        let key = if ordered { None } else { Some(self.key(&batch.digest())) };
        if let Some(key) = &key
            && let Some(bytes) = self.cx.store.part(key).ok().flatten()
            && let Some(answer) = read_stored(&bytes, batch.rows())
        {
            return Ok(One::Kept(answer));
        }
        Ok(match call(&self.session, &batch) {
            Ok(answer) => One::Made(answer, key),
            Err(failure) => One::Failed(failure),
        })
    }

    fn key(&self, content: &[u8; 32]) -> Digest {
        let mut writer = DigestWriter::new("heddle plugin chunk 1");
        writer.bytes(self.session.plugin().digest()).str(&self.conditions).bytes(content);
        writer.finish()
    }

    /// The columns that the plugin reads.
    fn project(&self, chunk: &RecordBatch, index: u64) -> Result<Batch, NodeError> {
        let mut columns = Vec::new();
        for spec in &self.session.plugin().description().reads {
            let array = match spec.name.as_str() {
                "captions" => column_values(chunk, "captions.text"),
                "image" => Some(self.images(chunk)?),
                name => column_values(chunk, name),
            };
            let array = array.ok_or_else(|| {
                let schema = chunk.schema();
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                NodeError::Other(format!(
                    "plugin `{}` reads the column `{}`; the records have {}, image",
                    self.name(),
                    spec.name,
                    known.join(", ")
                ))
            })?;
            columns.push((spec.name.clone(), array));
        }
        Ok(Batch { index, rows: chunk.num_rows(), columns })
    }

    /// The encoded images of a chunk; null where a record has none.
    fn images(&self, chunk: &RecordBatch) -> Result<ArrayRef, NodeError> {
        let shards = match self.shards.get() {
            Some(shards) => shards,
            None => {
                let shards = self.cx.library.shards(&self.records.manifest)?;
                self.shards.get_or_init(|| shards)
            }
        };
        let mut images = BinaryBuilder::new();
        for record in self.records.manifest.records_of(chunk)? {
            match record.image() {
                Some(part) => images.append_value(shards.bytes(part).map_err(NodeError::data)?),
                None => images.append_null(),
            }
        }
        Ok(Arc::new(images.finish()))
    }

    /// What becomes of a failure: the node's, or nothing.
    fn fail<T>(&mut self, failure: Failure, ordered: bool) -> Result<Option<T>, NodeError> {
        if self.plugged.on_error == OnError::Fail || ordered {
            return Err(NodeError::data(failure));
        }
        self.failed += 1;
        if failure.kind.is_transient() {
            self.cx.do_not_remember();
        }
        if self.failed <= LOG_LINES as u64 {
            self.cx.progress.note(failure.to_string());
        }
        Ok(None)
    }

    fn count(&mut self, counters: &BTreeMap<String, u64>) {
        for (name, count) in counters {
            let sum = self.counters.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    fn say<T>(&mut self, answer: &Answer<T>) {
        self.count(&answer.said.counters);
        for (level, line) in &answer.said.log {
            if self.logged < LOG_LINES {
                self.cx.progress.note(format!("{}: {level:?}: {line}", self.name()).to_lowercase());
            }
            self.logged += 1;
        }
    }

    /// Notes what was kept and counted.
    fn finish(&self) {
        let note = |text: String| self.cx.progress.note(text);
        if self.kept > 0 {
            note(format!("{} of {} chunks were known", self.kept, self.kept + self.ran + self.failed));
        }
        if !self.counters.is_empty() {
            let counters: Vec<String> =
                self.counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
            note(format!("counted {}", counters.join(", ")));
        }
        if self.logged > LOG_LINES {
            note(format!("{} more log lines", self.logged - LOG_LINES));
        }
        if self.failed > 0 {
            note(format!("the plugin failed on {} chunks", self.failed));
        }
    }
}

enum One<T> {
    Kept(Answer<T>),
    Made(Answer<T>, Option<Digest>),
    Failed(Failure),
}

/// Counters as JSON, its length before it, then the answer.
fn stored<T: Kept>(answer: &Answer<T>) -> Result<Vec<u8>, NodeError> {
    let counters = serde_json::to_vec(&answer.said.counters).map_err(NodeError::data)?;
    let mut bytes = (counters.len() as u32).to_le_bytes().to_vec();
    bytes.extend(counters);
    bytes.extend(answer.value.to_bytes()?);
    Ok(bytes)
}

fn read_stored<T: Kept>(bytes: &[u8], rows: usize) -> Option<Answer<T>> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (counters, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let said = heddle_plugin::Said { counters: serde_json::from_slice(counters).ok()?, ..Default::default() };
    Some(Answer { value: T::from_bytes(value, rows)?, said, fuel: None })
}

impl Kept for Vec<u8> {
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        Ok(self.clone())
    }

    fn from_bytes(bytes: &[u8], rows: usize) -> Option<Self> {
        (bytes.len() == rows).then(|| bytes.to_vec())
    }
}

impl Kept for Vec<f32> {
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        Ok(self.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn from_bytes(bytes: &[u8], rows: usize) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<4>();
        (values.len() == rows && rest.is_empty())
            .then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

/// Partial statistics of a chunk.
pub struct Partial(pub Vec<u8>);

impl Kept for Partial {
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        Ok(self.0.clone())
    }

    fn from_bytes(bytes: &[u8], _: usize) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }
}

/// JSON for reports.
pub fn pretty(value: &Json) -> Result<Vec<u8>, NodeError> {
    serde_json::to_vec_pretty(value).map_err(NodeError::data)
}
