//! The frozen part of a model graph at work on the pictures of records: which rows a node needs, and how those are computed that the
//! cache lacks.
//!
//! ```text
//! what a node looks at (picture, view) ──▶ rows in the cache ──▶ values in place of the frozen part
//!                                └▶ those that are missing: a pass through the frozen part
//! ```
//!
//! A run fills what is missing. `heddle why` counts it, and `heddle verify` computes again what is there: both through [`Frozen`].

use std::collections::{BTreeMap, HashSet};

use heddle_data::{
    Shards, Skipped,
    image::{DecodeLimits, ImageSpec},
    loader::load_image,
};
use heddle_graph::{
    digest::Digest,
    graph::{Class, Source},
};
use heddle_tensor::{Backend, HostTensor, Mode, Parameters, Tape, Value, value::ValueKind};
use rayon::prelude::*;

use super::{Kept, Loaded, Looks, row_key};
use crate::{
    device::Need,
    exec::{NodeError, RowCount, RunContext},
    model::{ModelGraph, Pass},
    nodes::data::Records,
};

/// Something that a node looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Of its row.
    pub key: Digest,
    /// The record, by its place.
    pub place: usize,
    /// The view of its picture; 0 unless views are drawn.
    pub view: u64,
}

/// Gives the numbers `[3,H,W]` of what is looked at, or says why its image does not decode.
pub type Picture<'a> = dyn Fn(&Look) -> Result<Result<Vec<f32>, Skipped>, NodeError> + Sync + 'a;

/// Gives the key of the record at a place of what the node looks at.
pub type RecordKey<'a> = dyn Fn(usize) -> Result<String, NodeError> + 'a;

/// The frozen part of a node's model graph, as those see it who ask about rows.
pub trait Frozen {
    /// Everything that the node looks at, each key once, in the order of the records.
    fn looks(&self) -> &[Look];

    /// What the cache has.
    fn kept(&self) -> &Kept;

    /// What the user calls the sources of which rows are kept.
    fn names(&self) -> &[String];

    /// What the user calls the record at a place.
    ///
    /// # Errors
    /// If the records do not read.
    fn record(&self, place: usize) -> Result<String, NodeError>;

    /// How many are computed at a time.
    fn batch(&self) -> usize;

    /// Computes rows, whatever the cache has.
    ///
    /// # Errors
    /// What a node of the graph returns.
    fn compute(&self, looks: &[Look]) -> Result<Computed, NodeError>;
}

/// Rows of a batch.
pub struct Computed {
    /// One value for each source: rows in the order of what was looked at.
    pub values: Vec<HostTensor>,
    /// Places in the batch whose image does not decode: their rows mean nothing.
    pub broken: Vec<(usize, Skipped)>,
}

/// The frozen part with everything that computing it needs.
pub struct FrozenPart<'a, B: Backend> {
    /// The graph.
    pub model: &'a ModelGraph,
    /// Its parameters.
    pub parameters: &'a Parameters<B>,
    /// What the cache has of the sources.
    pub kept: Kept,
    /// What the user calls the sources.
    pub names: Vec<String>,
    /// See [`Frozen::looks`].
    pub looks: Vec<Look>,
    /// Gives the pictures.
    pub picture: &'a Picture<'a>,
    /// Gives the keys of records.
    pub record: &'a RecordKey<'a>,
    /// How pictures are seen.
    pub spec: &'a ImageSpec,
    /// Batch and precision.
    pub need: Need,
    /// The run.
    pub cx: &'a RunContext<'a>,
}

impl<B: Backend> Frozen for FrozenPart<'_, B> {
    fn looks(&self) -> &[Look] {
        &self.looks
    }

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn record(&self, place: usize) -> Result<String, NodeError> {
        (self.record)(place)
    }

    fn batch(&self) -> usize {
        self.need.batch.max(1)
    }

    fn compute(&self, looks: &[Look]) -> Result<Computed, NodeError> {
        let pictures: Vec<Result<Vec<f32>, Skipped>> =
            looks.par_iter().map(self.picture).collect::<Result<_, NodeError>>()?;
        let [height, width] = self.spec.size.map(|side| side as usize);
        let (mut data, mut broken) = (Vec::with_capacity(looks.len() * 3 * height * width), Vec::new());
        for (place, picture) in pictures.into_iter().enumerate() {
            match picture {
                Ok(picture) => data.extend(picture),
                Err(reason) => {
                    broken.push((place, reason));
                    data.resize(data.len() + 3 * height * width, 0.0);
                }
            }
        }
        let images = HostTensor { shape: vec![looks.len(), 3, height, width], data };
        let images = self.cx.compute.whole_batch(images, self.need.batch);
        let image = Value::from_host(self.parameters.backend(), ValueKind::Image, images, &Tape::off())?;
        let inputs = self.model.graph().inputs.iter().filter(|(_, input)| input.ty.class == Class::Image);
        let inputs: BTreeMap<String, Value<B>> =
            inputs.map(|(name, _)| (name.clone(), image.clone())).collect();
        let sources: Vec<Source> = self.kept.sources().cloned().collect();
        let (model, parameters) = (self.model, self.parameters);
        let pass = Pass { model, parameters, mode: Mode::Eval, seed: 0, tape: Tape::off() };
        let values = pass.run(&inputs, &sources).map_err(|error| NodeError::Other(error.to_string()))?;
        Ok(Computed { values: values.iter().map(Value::to_host).collect::<Result<_, _>>()?, broken })
    }
}

impl<B: Backend> FrozenPart<'_, B> {
    /// Computes and keeps what is missing. `broken` hears of pictures that do not decode, and may call it an end.
    ///
    /// # Errors
    /// What `broken` or a node of the graph returns, or the cache.
    pub fn fill(
        mut self,
        broken: &mut dyn FnMut(&Look, Skipped) -> Result<(), NodeError>,
    ) -> Result<Kept, NodeError> {
        let keys: Vec<Digest> = self.looks.iter().map(|look| look.key).collect();
        let (cx, set) = (self.cx, self.kept.first_set());
        let (missing, new) = match set {
            Some(set) => cx.store.alone_with(&set, || self.fill_missing(&keys, broken))?,
            None => (0, 0),
        };
        self.kept.note_used(cx, &keys)?;
        let hit = (keys.len() - missing) as u64;
        for name in &self.names {
            cx.count_rows(name, RowCount { hit, new });
        }
        Ok(self.kept)
    }

    /// How many rows were missing, and how many of them are there now.
    fn fill_missing(
        &mut self,
        keys: &[Digest],
        broken: &mut dyn FnMut(&Look, Skipped) -> Result<(), NodeError>,
    ) -> Result<(usize, u64), NodeError> {
        self.kept.refresh()?;
        let missing: HashSet<Digest> = self.kept.missing(keys)?.into_iter().collect();
        let missing: Vec<Look> =
            self.looks.iter().filter(|look| missing.contains(&look.key)).copied().collect();
        let mut new = 0;
        self.kept.start();
        for chunk in missing.chunks(self.batch()) {
            self.cx.check_cancelled()?;
            self.cx.progress.set(new, missing.len() as u64, "frozen part");
            let computed = self.compute(chunk)?;
            let mut keys: Vec<Option<Digest>> = chunk.iter().map(|look| Some(look.key)).collect();
            for (place, reason) in computed.broken {
                keys[place] = None;
                broken(&chunk[place], reason)?;
            }
            new += keys.iter().flatten().count() as u64;
            self.kept.add(&keys, &computed.values)?;
        }
        self.kept.flush()?;
        Ok((missing.len(), new))
    }
}

/// The frozen part in front of some sources, which the user calls by `names`, at work on all records.
///
/// # Errors
/// What `take` returns, or the cache.
pub fn with_records<B: Backend, T>(
    cx: &RunContext<'_>,
    loaded: &Loaded<B>,
    (records, shards): (&Records, &Shards),
    (sources, names): (&[Source], Vec<String>),
    need: Need,
    take: impl FnOnce(FrozenPart<'_, B>) -> Result<T, NodeError>,
) -> Result<T, NodeError> {
    let spec = &records.settings.image;
    let kept = Kept::open(cx, &loaded.model, &loaded.parameters, sources, &Looks::plain(spec), need)?;
    let picture = |look: &Look| {
        let record = records.manifest.record(look.place)?;
        Ok(load_image(&record, shards, spec, &DecodeLimits::default()).map(|image| image.tensor(spec)))
    };
    let key = |place: usize| Ok(records.manifest.record(place)?.key);
    let (mut looks, mut seen) = (Vec::new(), HashSet::new());
    for (place, record) in records.manifest.records().enumerate() {
        let Some(key) = record?.image().map(|part| row_key(&part.digest, 0)) else { continue };
        if seen.insert(key) {
            looks.push(Look { key, place, view: 0 });
        }
    }
    let (model, parameters) = (&*loaded.model, &loaded.parameters);
    take(FrozenPart {
        model,
        parameters,
        kept,
        names,
        looks,
        picture: &picture,
        record: &key,
        spec,
        need,
        cx,
    })
}
