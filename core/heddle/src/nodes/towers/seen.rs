//! The records' pictures as an evaluation's model sees them: the frozen part of its graph is read from the cache, as in training.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use heddle_data::{Record, Shards, Skipped, image::DecodeLimits, loader::load_image};
use heddle_graph::{
    digest::Digest,
    graph::{Class, Source},
};
use heddle_tensor::{Backend, HostTensor, Tape, Value, value::ValueKind};

use super::{Frozen, FrozenPart, Kept, KeptValue, Loaded, Look, decode_images, row_key, with_records};
use crate::{
    device::Need,
    exec::{NodeError, RunContext},
    model::{Cut, Feed, ModelGraph},
    nodes::data::Records,
};

/// Where an evaluation's graph is cut: nothing learns, pictures are the same every time, texts differ.
pub fn seen_cut(model: &ModelGraph, wanted: &[Source]) -> Cut {
    let inputs = &model.graph().inputs;
    let feed = |name: &str| match inputs.get(name).map(|input| input.ty.class) {
        Some(Class::Image) => Feed::Same,
        _ => Feed::Varies("differs from question to question"),
    };
    model.cut(wanted, &|_| false, &feed)
}

/// Pictures of records, or what the cache has of them.
pub struct Seen<'a> {
    records: &'a Records,
    shards: Shards,
    kept: Option<Kept>,
    /// Inputs that get the pictures themselves.
    inputs: Vec<String>,
    /// Pictures that do not decode.
    broken: HashSet<Digest>,
}

/// A batch of records.
pub struct SeenBatch<B: Backend> {
    /// How many they are.
    pub count: usize,
    /// Values of the graph's inputs.
    pub inputs: BTreeMap<String, Value<B>>,
    /// Values of its frozen part.
    pub given: Vec<(Source, Value<B>)>,
    /// Places and reasons of pictures that do not decode; their values mean nothing.
    pub broken: Vec<(usize, Skipped)>,
}

impl<B: Backend> SeenBatch<B> {
    /// Images `[n,3,H,W]` that are no records, for every image input that the model needs.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn images(loaded: &Loaded<B>, images: &HostTensor) -> Result<Self, NodeError> {
        let count = images.shape.first().copied().unwrap_or(0);
        let value = Value::from_host(loaded.backend(), ValueKind::Image, images.clone(), &Tape::off())?;
        let inputs = loaded.inputs(Class::Image).into_iter().map(|name| (name, value.clone())).collect();
        Ok(Self { count, inputs, given: Vec::new(), broken: Vec::new() })
    }
}

impl<'a> Seen<'a> {
    /// Computes and keeps what the cache lacks of the part that `wanted` needs.
    ///
    /// # Errors
    /// What a node of the graph returns, or the cache.
    pub fn open<B: Backend>(
        cx: &RunContext<'_>,
        loaded: &Loaded<B>,
        records: &'a Records,
        wanted: &[Source],
        need: Need,
    ) -> Result<Self, NodeError> {
        let shards = cx.library.shards(&records.manifest)?;
        let mut broken = HashSet::new();
        let mut note = |look: &Look, _| {
            broken.insert(look.key);
            Ok(())
        };
        let kept = with_part(cx, loaded, (records, &shards), wanted, need, |part| part.fill(&mut note))?;
        let given: Vec<Source> = kept.iter().flat_map(Kept::sources).cloned().collect();
        let beside: BTreeSet<String> = loaded.model.inputs_beside(&given, wanted);
        let images = loaded.inputs(Class::Image).into_iter();
        Ok(Self {
            records,
            shards,
            kept,
            inputs: images.filter(|name| beside.contains(name)).collect(),
            broken,
        })
    }

    /// What a pass over some of the records takes.
    ///
    /// # Errors
    /// If the cache or the backend fails.
    pub fn batch<B: Backend>(&self, backend: &B, records: &[Record]) -> Result<SeenBatch<B>, NodeError> {
        let spec = &self.records.settings.image;
        let (mut inputs, mut broken) = (BTreeMap::new(), Vec::new());
        if !self.inputs.is_empty() {
            let (pixels, found) = decode_images(records, &self.shards, spec);
            let pixels = Value::from_host(backend, ValueKind::Image, pixels, &Tape::off())?;
            inputs = self.inputs.iter().map(|name| (name.clone(), pixels.clone())).collect();
            broken = found;
        }
        let count = records.len();
        let Some(kept) = &self.kept else {
            return Ok(SeenBatch { count, inputs, given: Vec::new(), broken });
        };
        let key = |record: &Record| {
            let key = record.image().map(|part| row_key(&part.digest, 0));
            key.filter(|key| !self.broken.contains(key))
        };
        let keys: Vec<Option<Digest>> = records.iter().map(key).collect();
        if self.inputs.is_empty() {
            let without = keys.iter().zip(records).enumerate().filter(|(_, (key, _))| key.is_none());
            let why = |record| load_image(record, &self.shards, spec, &DecodeLimits::default()).err();
            broken = without.filter_map(|(place, (_, record))| Some((place, why(record)?))).collect();
        }
        let value = |kept: KeptValue| {
            Ok((kept.source, Value::from_host(backend, kept.kind, kept.values, &Tape::off())?))
        };
        let given = kept.batch(&keys)?.into_iter().map(value).collect::<Result<_, NodeError>>()?;
        Ok(SeenBatch { count, inputs, given, broken })
    }
}

/// Shows the frozen part of an evaluation, if anything of it is worth keeping.
///
/// # Errors
/// What `see` returns, or the cache.
pub fn see_frozen<B: Backend>(
    cx: &RunContext<'_>,
    loaded: &Loaded<B>,
    wanted: &[Source],
    need: Need,
    see: &mut dyn FnMut(&dyn Frozen) -> Result<(), NodeError>,
) -> Result<(), NodeError> {
    let records = Records::read(cx.input("records")?)?;
    let shards = cx.library.shards(&records.manifest)?;
    with_part(cx, loaded, (&records, &shards), wanted, need, |part| see(&part)).map(drop)
}

fn with_part<B: Backend, T>(
    cx: &RunContext<'_>,
    loaded: &Loaded<B>,
    records: (&Records, &Shards),
    wanted: &[Source],
    need: Need,
    take: impl FnOnce(FrozenPart<'_, B>) -> Result<T, NodeError>,
) -> Result<Option<T>, NodeError> {
    let model = &loaded.model;
    let sources = seen_cut(model, wanted).sources;
    if sources.is_empty() {
        return Ok(None);
    }
    let names = sources.iter().map(|source| model.source_name(source)).collect();
    with_records(cx, loaded, records, (&sources, names), need, take).map(Some)
}
