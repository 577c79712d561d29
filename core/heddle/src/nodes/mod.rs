//! The registry: one file per kind, one line here.
//!
//! To add a kind: write its file (parameters, ports, shapes, `run` or module, tests), add it to [`KINDS`] or
//! [`MODEL_KINDS`]. The parser, `heddle nodes`, the JSON Schema and the cache key all read these two lists.

mod cleaning;
mod data;
mod eval;
mod features;
mod gguf;
mod loss;
mod model;
mod plugin;
mod precision;
mod report;
mod similarity;
mod text;
mod towers;
mod train;
mod weights;

use std::{collections::BTreeMap, sync::Arc};

use heddle_graph::graph::{Class, Inputs, Kind, NodeSpec};
use heddle_tensor::DynModule;

pub use data::{Near, Records};
pub use eval::Measurement;
pub use towers::{Captioner, Frozen, Loaded, Look, SeenBatch, Tokenizers, read_tokenizer, row_key};

use crate::{
    device::Need,
    exec::{NodeError, Outputs, RunContext, Weight},
    model::{Cut, ModelGraph, Models, Published},
};

/// A node of an experiment, ready to run.
pub trait Node: NodeSpec + Send + Sync {
    /// Whether it draws random numbers, so that the seed enters its key.
    fn uses_seed(&self) -> bool {
        false
    }

    /// The model graph that it runs; its canonical form enters the key.
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        None
    }

    /// How much of the machine it takes.
    fn weight(&self) -> Weight {
        Weight::Light
    }

    /// Predicted seconds of a first run, where the parameters tell.
    fn estimate_seconds(&self) -> Option<f64> {
        None
    }

    /// Bytes that its model takes at the least while it runs: weights, and in training gradients and moments.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// What it asks of the device, if it computes on tensors.
    fn need(&self) -> Option<Need> {
        None
    }

    /// Whether the names of its files (without folders) decide what it gives, and so enter its key.
    fn reads_file_names(&self) -> bool {
        false
    }

    /// What writes texts about images in it, for `heddle caption`.
    fn captioner(&self) -> Option<&Captioner> {
        None
    }

    /// What answers questions about images in it, for `heddle chat`.
    fn chatter(&self) -> Option<&Captioner> {
        None
    }

    /// Whether it trains a parameter of its model, by the name within heddle; none if it is no training stage.
    fn trains(&self, _parameter: &str) -> Option<bool> {
        None
    }

    /// Where its model graph is cut: what of it gives the same for a record every time.
    fn cut(&self) -> Option<Cut> {
        None
    }

    /// Shows what it computes once for each record, if there is such a part: the rows that it needs, and how they are computed.
    /// Its inputs are there, and nothing runs or is written.
    ///
    /// # Errors
    /// What `see` returns; whatever keeps the part from being opened.
    fn frozen(&self, _cx: &RunContext<'_>, _see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        Ok(())
    }

    /// Runs it: bytes per output port.
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError>;
}

/// Whoever looks at the frozen part of a node.
pub type SeeFrozen<'a> = dyn FnMut(&dyn Frozen) -> Result<(), NodeError> + 'a;

/// A node of a model graph.
pub trait ModelNode: NodeSpec + Send + Sync {
    /// How its parameters are named in weight files.
    fn published(&self) -> Option<&Published>;

    /// Ids of the tokens for which rows of other sequences stand, by the name of the sequence.
    fn context_tokens(&self) -> BTreeMap<String, u32> {
        BTreeMap::new()
    }

    /// The module for the types that arrive; called once types have been checked.
    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule>;
}

/// Every kind of an experiment.
pub const KINDS: &[&dyn Kind<dyn Node, Models>] = &[
    &data::Source::<data::WebDataset>::KIND,
    &data::Source::<data::ClassFolders>::KIND,
    &data::Source::<data::Masks>::KIND,
    &data::Source::<data::Coco>::KIND,
    &data::Source::<data::Llava>::KIND,
    &data::Source::<data::ClipBenchmark>::KIND,
    &data::Source::<data::Table>::KIND,
    &data::Source::<data::Parquet>::KIND,
    &data::Dirt,
    &data::Scenes,
    &data::Dialogues,
    &data::Where,
    &data::Decode,
    &data::Deduplicate,
    &data::Language,
    &data::JoinRecords,
    &data::Concat,
    &data::Mix,
    &data::Sample,
    &data::Split,
    &plugin::Filter,
    &plugin::Transform,
    &plugin::Score,
    &plugin::Dedup,
    &plugin::Fold,
    &text::Bpe,
    &text::HuggingFace,
    &text::GgufTokenizer,
    &weights::HuggingFace,
    &weights::LlamaFile,
    &text::SentencePiece,
    &train::Train,
    &features::Features,
    &similarity::Similarity,
    &eval::ZeroShot,
    &eval::Retrieval,
    &eval::Classification,
    &eval::Matching,
    &eval::Caption,
    &eval::Questions,
    &eval::PixelFloor,
    &report::Report,
    &cleaning::Cleaning,
];

/// Every kind of a model graph.
pub const MODEL_KINDS: &[&dyn Kind<dyn ModelNode, ()>] = &[
    &model::InternVit,
    &model::AttentionPool,
    &model::FlattenLinear,
    &model::MeanPool,
    &model::Llama,
    &model::Qllama,
    &model::Pairs,
    &model::Projector,
    &model::UnitSum,
    &model::Linear,
    &loss::CrossEntropy,
    &loss::Itc,
    &loss::Itm,
    &loss::Itg,
    &loss::Lm,
    &loss::Probe,
];

/// The name of an artifact as a file: `stage1.weights.safetensors`.
pub fn file_name(node: &str, port: &str, class: Class) -> String {
    let extension = match class {
        Class::Weights | Class::Features => "safetensors",
        Class::Records => "arrow",
        Class::Shard => "tar",
        Class::Table => return format!("{node}.{port}"),
        _ => "json",
    };
    format!("{node}.{port}.{extension}")
}
