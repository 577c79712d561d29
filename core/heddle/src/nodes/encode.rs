//! Towers at work: records and texts become rows of features. Shared by `features` and the evaluations.

use std::{collections::BTreeMap, sync::Arc};

use heddle_data::{
    Shards,
    image::DecodeLimits,
    loader::load_image,
    text::{EncodeOptions, Tokenizer},
};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, Dim, InPort, Inputs, Mismatch, NodeId, Place, Source},
};
use heddle_tensor::{Backend, Cpu, HostTensor, Mode, Parameters, Tape, Tokens, Value, value::ValueKind};
use rayon::prelude::*;
use safetensors::SafeTensors;

use super::data::Records;
use crate::{
    exec::{Artifact, NodeError, RunContext},
    model::{ModelGraph, Models, Pass, WeightsError, load_published},
};

/// Rows of features `[n, width]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values a row.
    pub width: usize,
    /// All rows, one after the other.
    pub data: Vec<f32>,
}

impl Rows {
    /// Row by row.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width.max(1))
    }

    /// One row.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.data.get(index * self.width..(index + 1) * self.width)
    }

    /// Scales every row to length one.
    pub fn normalise(&mut self) {
        self.data.chunks_exact_mut(self.width.max(1)).for_each(normalise);
    }

    /// The dot product of every row with a vector.
    pub fn scores(&self, vector: &[f32]) -> Vec<f32> {
        self.rows().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
    }

    /// Some of the rows, in the order of the indices; indices beyond the end are left out.
    pub fn select(&self, indices: impl Iterator<Item = usize>) -> Self {
        let data = indices.filter_map(|index| self.row(index)).flatten().copied().collect();
        Self { width: self.width, data }
    }
}

/// Scales a vector to length one; a zero vector stays.
pub fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value /= norm);
    }
}

/// Name of the one tensor in a features artifact.
pub const FEATURES: &str = "features";

/// The features artifact of a node that also has records: one normalised row a record.
pub fn features_of(cx: &RunContext<'_>, records: &Records) -> Result<Rows, NodeError> {
    let artifact = cx.input("features")?;
    let failed =
        |reason: String| NodeError::Artifact { from: artifact.from.clone(), expected: "features", reason };
    let file = SafeTensors::deserialize(&artifact.bytes).map_err(|error| failed(error.to_string()))?;
    let tensor = file.tensor(FEATURES).map_err(|error| failed(error.to_string()))?;
    let [rows, width] = *tensor.shape() else { return Err(failed(format!("shape {:?}", tensor.shape()))) };
    if rows != records.manifest.records.len() {
        let count = records.manifest.records.len();
        return Err(NodeError::Other(format!(
            "`{}` has {rows} rows but there are {count} records: features and records must come from the same node",
            artifact.from
        )));
    }
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut rows = Rows { width, data };
    rows.normalise();
    Ok(rows)
}

/// The ports of a node that compares image features with texts.
pub fn text_ports(records_help: &'static str) -> Vec<InPort> {
    let port =
        |name, class, place, help| InPort { name, classes: vec![class], arity: Arity::One, place, help };
    vec![
        port("records", Class::Records, Place::In, records_help),
        port("features", Class::Features, Place::In, "image features of the same records, from `features`"),
        port("tokenizer", Class::Tokenizer, Place::In, "tokenizer of the texts"),
        port("weights", Class::Weights, Place::Key, "weights of the text tower"),
    ]
}

/// The text side of an evaluation, as the file sets it up.
pub struct TextSide {
    /// The model graph; absent only while documenting, or when the graph has mistakes of its own.
    pub graph: Option<Arc<ModelGraph>>,
    /// The output that is read.
    output: String,
    /// Text columns, one a language.
    pub languages: Vec<String>,
    batch: usize,
}

impl TextSide {
    /// Reads `graph`, `output`, `languages` and `batch`.
    pub fn read(r: &mut Reader<'_>, models: &Models) -> Self {
        let graph = models.get(r.required_graph("graph", "the model graph whose text tower is used"));
        let output: String =
            r.field("output", "the graph's output that embeds a text").or("text_embeds".to_owned());
        let languages: Vec<String> =
            r.field("languages", "text columns of the records, one a language").or(vec!["en".to_owned()]);
        let batch = r
            .field("batch", "texts a pass")
            .min(1)
            .max(1 << 20)
            .not_in_key("a text's features do not depend on its batch")
            .or(256);
        let side = Self { graph, output, languages, batch };
        if let Some(graph) = &side.graph {
            check_output(r, graph, &side.output, Class::Text);
        }
        side
    }

    /// Whether the tokenizer fits the text tower.
    pub fn check(&self, inputs: &Inputs) -> Result<(), Mismatch> {
        match &self.graph {
            Some(graph) => check_vocabulary(graph, inputs),
            None => Ok(()),
        }
    }

    /// Loads the weights and the tokenizer.
    pub fn encoder(&self, cx: &RunContext<'_>) -> Result<TextEncoder, NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let tower = Tower::load(graph, &self.output, cx.input("weights")?, Cpu::default())?;
        let tokenizer = read_tokenizer(cx.input("tokenizer")?)?;
        Ok(TextEncoder { tower, tokenizer, batch: self.batch })
    }
}

/// A model graph with mistakes never gets as far as running.
pub fn no_graph() -> NodeError {
    NodeError::Other("the node has no model graph".into())
}

/// Reports an `output` that the graph does not have, or that does not come from an input of this class.
pub fn check_output(r: &mut Reader<'_>, graph: &ModelGraph, output: &str, class: Class) {
    let known: Vec<&str> = graph.graph().outputs.keys().map(String::as_str).collect();
    match graph.output(output) {
        None => {
            let help = format!("the graph's outputs are {}", known.join(", "));
            r.error("output", format!("the model graph has no output `{output}`"), Some(&help));
        }
        Some((source, _)) if input_of(graph, &source, class).is_none() => {
            r.error(
                "output",
                format!("`{output}` does not come from exactly one {} input", class.name()),
                None,
            );
        }
        Some(_) => {}
    }
}

/// The one input of a class that a source depends on.
pub fn input_of(graph: &ModelGraph, source: &Source, class: Class) -> Option<String> {
    let ids: Vec<NodeId> = match source {
        Source::Input(name) => return Some(name.clone()),
        Source::Node { id, .. } => graph.graph().upstream(&[*id]).into_iter().collect(),
    };
    let mut names: Vec<String> = Vec::new();
    for id in ids {
        for edge in graph.graph().node(id).edges.values().flatten() {
            if let Source::Input(name) = &edge.from
                && graph.graph().inputs[name].ty.class == class
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        }
    }
    if names.len() == 1 { names.pop() } else { None }
}

/// Whether every embedding table is large enough for the tokenizer.
pub fn check_vocabulary(graph: &ModelGraph, inputs: &Inputs) -> Result<(), Mismatch> {
    let size = inputs.get("tokenizer").and_then(|ty| ty.shape.first().and_then(Dim::known));
    let Some(size) = size else { return Ok(()) };
    for parameter in
        graph.parameters().iter().filter(|parameter| parameter.name.ends_with("embed_tokens.weight"))
    {
        if parameter.spec.shape[0] < size {
            return Err(Mismatch {
                port: Some("tokenizer"),
                param: None,
                message: format!(
                    "the tokenizer has {size} tokens but `{}` embeds {}",
                    parameter.name, parameter.spec.shape[0]
                ),
                help: Some(format!("set the text node's `vocab` to {size}")),
            });
        }
    }
    Ok(())
}

/// Reads the artifact of a tokenizer port.
pub fn read_tokenizer(artifact: &Artifact) -> Result<Tokenizer, NodeError> {
    Tokenizer::from_json(&artifact.bytes).map_err(|error| NodeError::Artifact {
        from: artifact.from.clone(),
        expected: "a tokenizer",
        reason: error.to_string(),
    })
}

/// One output of a model graph with its weights, ready to be run on batches.
pub struct Tower<B: Backend> {
    model: Arc<ModelGraph>,
    parameters: Parameters<B>,
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
        let (source, _) = model
            .output(output)
            .ok_or_else(|| NodeError::Other(format!("the model graph has no output `{output}`")))?;
        let needed = match &source {
            Source::Node { id, .. } => model.graph().upstream(&[*id]),
            Source::Input(_) => Default::default(),
        };
        let specs = model.parameters().into_iter().filter(|parameter| needed.contains(&parameter.node));
        let mut parameters =
            Parameters::init(specs.map(|parameter| (parameter.name, parameter.spec)), 0, &backend)?;
        let from = format!("the artifact of `{}`", weights.from);
        load_published(&model, &mut parameters, &weights.bytes, &from, |parameter| {
            needed.contains(&parameter.node)
        })
        .map_err(weights_error)?;
        Ok(Self { model, parameters, source })
    }

    /// The value of the output for one value on one input.
    fn run(&self, input: &str, value: Value<B>) -> Result<HostTensor, NodeError> {
        let pass = Pass {
            model: &self.model,
            parameters: &self.parameters,
            mode: Mode::Eval,
            seed: 0,
            tape: Tape::off(),
        };
        let inputs = BTreeMap::from([(input.to_owned(), value)]);
        let mut values = pass
            .run(&inputs, std::slice::from_ref(&self.source))
            .map_err(|error| NodeError::Other(error.to_string()))?;
        Ok(values.remove(0).to_host()?)
    }

    /// The features of all records' images; broken images are an error beyond the records' limit, and a row of
    /// zeros below it, named in the second part.
    pub fn images(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        shards: &Shards,
        batch: usize,
    ) -> Result<(HostTensor, Vec<String>), NodeError> {
        let input = input_of(&self.model, &self.source, Class::Image).ok_or_else(no_graph)?;
        let spec = &records.settings.image;
        let [height, width] = spec.size.map(|side| side as usize);
        let limits = DecodeLimits::default();
        let mut all: Option<HostTensor> = None;
        let mut skipped = Vec::new();
        let total = records.manifest.records.len();
        for (place, chunk) in records.manifest.records.chunks(batch).enumerate() {
            cx.check_cancelled()?;
            cx.progress.set((place * batch) as u64, total as u64, "");
            let images: Vec<Result<Vec<f32>, String>> = chunk
                .par_iter()
                .map(|record| {
                    let image =
                        load_image(record, shards, spec, &limits).map_err(|skipped| skipped.to_string())?;
                    Ok(image.tensor(spec))
                })
                .collect();
            let mut data = Vec::with_capacity(chunk.len() * 3 * height * width);
            for image in images {
                match image {
                    Ok(image) => data.extend(image),
                    Err(reason) => {
                        skipped.push(reason);
                        data.extend(std::iter::repeat_n(0.0, 3 * height * width));
                    }
                }
            }
            if skipped.len() > records.settings.max_bad {
                return Err(NodeError::Other(format!(
                    "{} records do not decode, more than `max-bad` allows: {}",
                    skipped.len(),
                    skipped.join("; ")
                )));
            }
            let host = HostTensor { shape: vec![chunk.len(), 3, height, width], data };
            let value = Value::from_host(self.parameters.backend(), ValueKind::Image, host, &Tape::off())?;
            let rows = self.run(&input, value)?;
            match &mut all {
                None => all = Some(rows),
                Some(all) => {
                    all.shape[0] += rows.shape[0];
                    all.data.extend(rows.data);
                }
            }
        }
        let all = all.ok_or_else(|| NodeError::Other("there are no records to embed".into()))?;
        Ok((all, skipped))
    }
}

/// Weights errors within a node.
pub fn weights_error(error: WeightsError) -> NodeError {
    NodeError::Other(error.to_string())
}

/// The text tower with its tokenizer.
pub struct TextEncoder {
    tower: Tower<Cpu>,
    tokenizer: Tokenizer,
    batch: usize,
}

impl TextEncoder {
    /// One row a text, not normalised.
    pub fn texts(&self, cx: &RunContext<'_>, texts: &[String]) -> Result<Rows, NodeError> {
        let model = &self.tower.model;
        let input = input_of(model, &self.tower.source, Class::Text).ok_or_else(no_graph)?;
        let options = encode_options(model, &input, &self.tokenizer);
        let mut all = Rows::default();
        for chunk in texts.chunks(self.batch) {
            cx.check_cancelled()?;
            let tokens = tokens(&self.tokenizer, chunk, &options)?;
            let rows = self.tower.run(&input, Value::Text(tokens))?;
            all.width = rows.shape.last().copied().unwrap_or(0);
            all.data.extend(rows.data);
        }
        Ok(all)
    }
}

/// How the graph's text input wants its texts: prefix and length.
pub fn encode_options(model: &ModelGraph, input: &str, tokenizer: &Tokenizer) -> EncodeOptions {
    let declared = model.graph().inputs.get(input);
    EncodeOptions {
        prefix: declared.and_then(|input| input.prefix.clone()),
        max_length: declared.and_then(|input| input.max_length).unwrap_or(80),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
    }
}

/// Texts as a batch of token ids.
pub fn tokens(tokenizer: &Tokenizer, texts: &[String], options: &EncodeOptions) -> Result<Tokens, NodeError> {
    let batch = tokenizer.encode(texts, options).map_err(NodeError::data)?;
    Ok(Tokens { ids: batch.ids, batch: batch.batch, len: batch.len, mask: None })
}
