//! One output of a model graph with its weights, run on batches.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use heddle_data::{
    Record, Shards, Skipped,
    image::{DecodeLimits, ImageSpec},
    loader::{BadRecords, load_image},
};
use heddle_graph::graph::{Class, NodeId, Source};
use heddle_tensor::{Backend, HostTensor, Value};
use rayon::prelude::*;

use super::{Frozen, FrozenPart, Loaded, Look, input_of, no_graph, row_key, with_records};
use crate::{
    device::Need,
    exec::{Artifact, NodeError, RunContext},
    model::ModelGraph,
    nodes::data::Records,
};

/// A tower ready to run.
pub struct Tower<B: Backend> {
    loaded: Loaded<B>,
    source: Source,
    output: String,
}

impl<B: Backend> Tower<B> {
    /// Loads the weights of the nodes that the output depends on, and of no others.
    pub fn load(
        model: Arc<ModelGraph>,
        output: &str,
        weights: &Artifact,
        backend: B,
    ) -> Result<Self, NodeError> {
        let (source, _) = model.output(output).ok_or_else(no_graph)?;
        let nodes: Vec<NodeId> = match &source {
            Source::Node { id, .. } => vec![*id],
            Source::Input(_) => Vec::new(),
        };
        Ok(Self { loaded: Loaded::load(model, &nodes, weights, backend)?, source, output: output.to_owned() })
    }

    /// The graph below.
    pub fn model(&self) -> &ModelGraph {
        &self.loaded.model
    }

    /// The input of a class that the output depends on.
    pub fn input(&self, class: Class) -> Result<String, NodeError> {
        input_of(&self.loaded.model, &self.source, class).ok_or_else(no_graph)
    }

    /// The value of the output for one value on one input.
    pub fn run(&self, input: &str, value: Value<B>) -> Result<HostTensor, NodeError> {
        let inputs = BTreeMap::from([(input.to_owned(), value)]);
        Ok(self.loaded.run(&inputs, std::slice::from_ref(&self.source))?.remove(0).to_host()?)
    }

    /// The features of all records' images, and the places of those that do not decode: their rows are zero. More of
    /// them than the records allow are an error. Rows that the cache keeps are read, the others computed and kept.
    pub fn images(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        need: Need,
    ) -> Result<(HostTensor, BTreeSet<usize>), NodeError> {
        let all = records.manifest.len();
        if all == 0 {
            return Err(NodeError::Other("there are no records to embed".into()));
        }
        let shards = cx.library.shards(&records.manifest)?;
        let bad = BadRecords::new(records.settings.max_bad);
        let skip = |reason: Skipped| {
            cx.progress.note(format!("skipped, its row is zero: {reason}"));
            bad.report(reason).map_err(NodeError::data)
        };
        let mut broken = HashMap::new();
        let mut note = |look: &Look, reason| {
            broken.insert(look.key, look.place);
            skip(reason)
        };
        let kept = self.with_part(cx, records, &shards, need, |part| part.fill(&mut note))?;
        let (mut keys, mut skipped) = (Vec::with_capacity(all), BTreeSet::new());
        let (spec, limits) = (&records.settings.image, DecodeLimits::default());
        for (place, record) in records.manifest.records().enumerate() {
            let record = record?;
            let key = record.image().map(|part| row_key(&part.digest, 0));
            let known = key.and_then(|key| broken.get(&key));
            if key.is_none() || known.is_some() {
                skipped.insert(place);
                // Where a picture comes twice, or a record has none, nobody has said so yet.
                if known != Some(&place)
                    && let Err(reason) = load_image(&record, &shards, spec, &limits)
                {
                    skip(reason)?;
                }
            }
            keys.push(key.filter(|_| known.is_none()));
        }
        Ok((kept.batch(&keys)?.remove(0).values, skipped))
    }

    /// Shows what the tower computes once for each record.
    ///
    /// # Errors
    /// What `see` returns, or the cache.
    pub fn see_frozen(
        &self,
        cx: &RunContext<'_>,
        need: Need,
        see: &mut dyn FnMut(&dyn Frozen) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&records.manifest)?;
        self.with_part(cx, &records, &shards, need, |part| see(&part))
    }

    fn with_part<T>(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        shards: &Shards,
        need: Need,
        take: impl FnOnce(FrozenPart<'_, B>) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let source = self.loaded.model.canonical_source(&self.source);
        let sources = (std::slice::from_ref(&source), vec![self.output.clone()]);
        with_records(cx, &self.loaded, (records, shards), sources, need, take)
    }
}

/// A batch of images `[n,3,H,W]`, and the places and reasons of those that do not decode.
pub fn decode_images(
    records: &[Record],
    shards: &Shards,
    spec: &ImageSpec,
) -> (HostTensor, Vec<(usize, Skipped)>) {
    let limits = DecodeLimits::default();
    let one = |record: &Record| load_image(record, shards, spec, &limits).map(|image| image.tensor(spec));
    let images: Vec<Result<Vec<f32>, Skipped>> = records.par_iter().map(one).collect();
    let [height, width] = spec.size.map(|side| side as usize);
    let mut data = Vec::with_capacity(records.len() * 3 * height * width);
    let mut broken = Vec::new();
    for (index, image) in images.into_iter().enumerate() {
        match image {
            Ok(image) => data.extend(image),
            Err(reason) => {
                broken.push((index, reason));
                data.extend(std::iter::repeat_n(0.0, 3 * height * width));
            }
        }
    }
    (HostTensor { shape: vec![records.len(), 3, height, width], data }, broken)
}
