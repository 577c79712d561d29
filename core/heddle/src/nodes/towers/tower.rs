//! One output of a model graph with its weights, run on batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_data::{
    Record, Shards, Skipped,
    image::{DecodeLimits, ImageSpec},
    loader::{BadRecords, load_image},
};
use heddle_graph::graph::{Class, NodeId, Source};
use heddle_tensor::{Backend, HostTensor, Tape, Value, value::ValueKind};
use rayon::prelude::*;

use super::{Loaded, input_of, no_graph};
use crate::{
    exec::{Artifact, NodeError, RunContext},
    model::ModelGraph,
    nodes::data::Records,
};

/// A tower ready to run.
pub struct Tower<B: Backend> {
    loaded: Loaded<B>,
    source: Source,
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
        Ok(Self { loaded: Loaded::load(model, &nodes, weights, backend)?, source })
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
    /// them than the records allow are an error.
    pub fn images(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        shards: &Shards,
        batch: usize,
    ) -> Result<(HostTensor, BTreeSet<usize>), NodeError> {
        let input = self.input(Class::Image)?;
        let bad = BadRecords::new(records.settings.max_bad);
        let all = records.manifest.len();
        let mut coming = records.manifest.records();
        let mut rows = HostTensor { shape: vec![0, 0], data: Vec::new() };
        let mut skipped = BTreeSet::new();
        for first in (0..all).step_by(batch) {
            cx.check_cancelled()?;
            cx.progress.set(first as u64, all as u64, "");
            let chunk: Vec<Record> = coming.by_ref().take(batch).collect::<Result<_, _>>()?;
            let (images, broken) = decode_images(&chunk, shards, &records.settings.image);
            let value = Value::from_host(self.loaded.backend(), ValueKind::Image, images, &Tape::off())?;
            let mut part = self.run(&input, value)?;
            let width = part.shape.last().copied().unwrap_or(0);
            for (index, reason) in broken {
                cx.progress.note(format!("skipped, its row is zero: {reason}"));
                bad.report(reason).map_err(NodeError::data)?;
                part.data[index * width..(index + 1) * width].fill(0.0);
                skipped.insert(first + index);
            }
            rows.shape = vec![first + chunk.len(), width];
            rows.data.extend(part.data);
        }
        match all {
            0 => Err(NodeError::Other("there are no records to embed".into())),
            _ => Ok((rows, skipped)),
        }
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
