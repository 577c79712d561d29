//! One output of a model graph with its weights, run on batches.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use heddle_data::{
    Record, Shards, Skipped,
    image::{DecodeLimits, ImageSpec},
    loader::{BadRecords, load_image},
};
use heddle_graph::{
    digest::Digest,
    graph::{Class, NodeId, Source},
};
use heddle_tensor::{Backend, HostTensor, Tape, Value, value::ValueKind};
use rayon::prelude::*;

use super::{Kept, Loaded, Looks, input_of, no_graph, row_key};
use crate::{
    device::Need,
    exec::{Artifact, NodeError, RowCount, RunContext},
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
        shards: &Shards,
        need: Need,
    ) -> Result<(HostTensor, BTreeSet<usize>), NodeError> {
        let (model, all) = (&*self.loaded.model, records.manifest.len());
        if all == 0 {
            return Err(NodeError::Other("there are no records to embed".into()));
        }
        let source = model.canonical_source(&self.source);
        let looks = Looks::plain(&records.settings.image);
        let mut kept = Kept::open(cx, model, &self.loaded.parameters, &[source], &looks, need)?;
        let mut keys: Vec<Option<Digest>> = Vec::with_capacity(all);
        for record in records.manifest.records() {
            keys.push(record?.image().map(|part| row_key(&part.digest, 0)));
        }
        let skipped = self.compute(cx, records, shards, need, &mut kept, &keys)?;
        let right = |(place, key): (usize, &Option<Digest>)| key.filter(|_| !skipped.contains(&place));
        let found: Vec<Digest> = keys.iter().enumerate().filter_map(right).collect();
        let HostTensor { shape, data } = kept.batch(&found)?.remove(0).values;
        let width = shape.last().copied().unwrap_or(0);
        let mut rows = data.chunks_exact(width.max(1));
        let zeros = vec![0.0; width];
        let row = |place| if skipped.contains(&place) { None } else { rows.next() };
        let data = (0..all).map(row).flat_map(|row| row.unwrap_or(&zeros)).copied().collect();
        Ok((HostTensor { shape: vec![all, width], data }, skipped))
    }

    /// Computes and keeps the rows that are missing; gives the places of records whose image does not decode.
    fn compute(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        shards: &Shards,
        need: Need,
        kept: &mut Kept,
        keys: &[Option<Digest>],
    ) -> Result<BTreeSet<usize>, NodeError> {
        let input = self.input(Class::Image)?;
        let bad = BadRecords::new(records.settings.max_bad);
        let known: Vec<Digest> = keys.iter().flatten().copied().collect();
        let mut missing: HashSet<Digest> = kept.missing(&known)?.into_iter().collect();
        let hit = known.iter().filter(|key| !missing.contains(*key)).count() as u64;
        let (total, mut count, mut skipped) =
            (missing.len() as u64, RowCount { hit, new: 0 }, BTreeSet::new());
        let mut places = 0..keys.len();
        kept.start();
        loop {
            cx.check_cancelled()?;
            cx.progress.set(count.new, total, "");
            // A record without a picture is reported where pictures are decoded.
            let works = |place: &usize| keys[*place].is_none_or(|key| missing.contains(&key));
            let chunk: Vec<usize> = places.by_ref().filter(works).take(need.batch.max(1)).collect();
            if chunk.is_empty() {
                break;
            }
            let works: Vec<Record> =
                chunk.iter().map(|place| records.manifest.record(*place)).collect::<Result<_, _>>()?;
            let (images, broken) = decode_images(&works, shards, &records.settings.image);
            let mut new: Vec<Option<Digest>> = chunk.iter().map(|place| keys[*place]).collect();
            for (index, reason) in broken {
                cx.progress.note(format!("skipped, its row is zero: {reason}"));
                bad.report(reason).map_err(NodeError::data)?;
                new[index] = None;
                skipped.insert(chunk[index]);
            }
            let images = Value::from_host(
                self.loaded.backend(),
                ValueKind::Image,
                cx.compute.whole_batch(images, need.batch),
                &Tape::off(),
            )?;
            kept.add(&new, &[self.run(&input, images)?])?;
            count.new += new.iter().flatten().filter(|key| missing.remove(*key)).count() as u64;
        }
        kept.flush()?;
        kept.note_used(cx, &known)?;
        cx.count_rows(&self.output, count);
        Ok(skipped)
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
