//! A model that writes a text about an image: which graph, which decoder, how.

use std::{collections::BTreeMap, sync::Arc};

use heddle_data::text::{Tokenizer, Until};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, NodeId, Place, Source},
};
use heddle_tensor::{
    Backend, Precision, Tokens, Value,
    generate::{Watch, generate},
};

use super::{
    Dialogues, Loaded, SeenBatch, Tokenizers, Writing, no_graph, prompt_tokens, read_writing, see_frozen,
    seen_cut,
};
use crate::{
    device::{Need, on_backend},
    exec::{Artifact, NodeError, RunContext},
    model::{Cut, ModelGraph, Models, start},
    nodes::{SeeFrozen, precision},
};

/// What writes captions, as a node sets it.
#[derive(Clone)]
pub struct Captioner {
    /// The model graph; absent only while documenting, or when the graph has mistakes of its own.
    pub graph: Option<Arc<ModelGraph>>,
    output: String,
    /// Search and length.
    pub writing: Writing,
    /// Of the operands of matrix products.
    pub precision: Precision,
}

/// Reads `graph`, `output`, `precision` and how it writes.
/// `output` is what the graph's output is called unless the file says otherwise.
pub fn read_captioner(r: &mut Reader<'_>, models: &Models, output: &str) -> Captioner {
    let graph = models.get(r.required_graph("graph", "the model graph that writes"));
    let output: String =
        r.field("output", "the graph's output with the scores of a decoder").or(output.to_owned());
    if let Some(graph) = &graph {
        check_writer(r, graph, &output);
    }
    Captioner { graph, output, writing: read_writing(r), precision: precision::read(r) }
}

/// The output is a decoder's, which reads a text of the graph.
fn check_writer(r: &mut Reader<'_>, graph: &ModelGraph, output: &str) {
    let Some(node) = graph.writer(output) else {
        let help = "name the `logits` of a `model.qllama` or `model.llama`, or an output that is one";
        return r.error("output", format!("`{output}` is no decoder's scores of tokens"), Some(help));
    };
    if graph.text_input(node).is_none() {
        let message = format!("the decoder behind `{output}` reads no text input of the graph");
        r.error("output", message, None);
    }
}

/// The ports of a node that runs a model on images and texts.
pub fn model_ports(records_help: &'static str) -> Vec<InPort> {
    let port =
        |name, class, place, help| InPort { name, classes: vec![class], arity: Arity::One, place, help };
    vec![
        port("records", Class::Records, Place::In, records_help),
        port("tokenizer", Class::Tokenizer, Place::In, "tokenizer of all texts"),
        port("weights", Class::Weights, Place::Key, "weights of the graph, from a training stage"),
    ]
}

impl Captioner {
    /// What it asks of the device for batches of so many images.
    pub fn need(&self, batch: usize) -> Need {
        Need { precision: self.precision, learns: false, batch }
    }

    /// Bytes of its weights, without the second form that a processor keeps of what a decoder's steps read.
    pub fn memory_bytes(&self) -> u64 {
        let Ok((graph, node)) = self.writer() else { return 0 };
        precision::bytes(self.precision) * graph.count_parameters(&graph.graph().upstream(&[node]))
    }

    /// The graph and the decoder in it.
    fn writer(&self) -> Result<(Arc<ModelGraph>, NodeId), NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let node = graph.writer(&self.output).ok_or_else(no_graph)?;
        Ok((graph, node))
    }

    /// What the decoder reads: everything before it is computed once a text.
    pub fn reads(&self) -> Result<Vec<Source>, NodeError> {
        let (graph, node) = self.writer()?;
        Ok(graph.reads(node).into_iter().map(|(_, source)| source).collect())
    }

    /// Where its graph is cut.
    pub fn cut(&self) -> Option<Cut> {
        Some(seen_cut(self.graph.as_ref()?, &self.reads().ok()?))
    }

    /// Shows what it computes once for each record.
    pub fn see_frozen(
        &self,
        cx: &RunContext<'_>,
        batch: usize,
        see: &mut SeeFrozen<'_>,
    ) -> Result<(), NodeError> {
        let need = self.need(batch);
        on_backend!(cx.compute.open(need)?, |backend| {
            let loaded = self.load(cx.input("weights")?, backend)?;
            see_frozen(cx, &loaded, &self.reads()?, need, see)
        })
    }

    /// Loads the weights.
    pub fn load<B: Backend>(&self, weights: &Artifact, backend: B) -> Result<Loaded<B>, NodeError> {
        let (graph, node) = self.writer()?;
        Loaded::load(graph, &[node], weights, backend)
    }

    /// A caption for each of a batch of images. `seed` counts if tokens are drawn.
    pub fn write<B: Backend>(
        &self,
        loaded: &Loaded<B>,
        tokenizer: &Tokenizer,
        images: SeenBatch<B>,
        seed: u64,
    ) -> Result<Vec<String>, NodeError> {
        let (graph, node) = self.writer()?;
        let text = graph.text_input(node).ok_or_else(no_graph)?;
        let prompts = vec![String::new(); images.count];
        let prompt = prompt_tokens(&graph, text, tokenizer, &prompts)?;
        self.go_on(loaded, tokenizer, images, vec![(text.to_owned(), prompt)], seed, &mut |_, _| ())
    }

    /// An answer for each of a batch of images and questions, each in a dialogue of its own.
    pub fn answer<B: Backend>(
        &self,
        loaded: &Loaded<B>,
        tokenizers: &Tokenizers,
        images: SeenBatch<B>,
        questions: &[&str],
        seed: u64,
    ) -> Result<Vec<String>, NodeError> {
        let dialogues = self.dialogues(&tokenizers.dialogue)?;
        let asked: Vec<_> =
            questions.iter().map(|question| dialogues.ask(&[], question)).collect::<Result<_, _>>()?;
        let texts = dialogues.texts(&loaded.model, tokenizers.questions(), &asked)?;
        self.go_on(loaded, &tokenizers.dialogue, images, texts, seed, &mut |_, _| ())
    }

    /// How the graph reads dialogues.
    pub fn dialogues(&self, tokenizer: &Tokenizer) -> Result<Dialogues, NodeError> {
        let (graph, _) = self.writer()?;
        let none = || NodeError::Other("the model graph has no text input with a `template`".to_owned());
        Dialogues::of(&graph, tokenizer)?.ok_or_else(none)
    }

    /// What follows prompts about images, with everything that the graph reads as text. `tell` hears the record and each part
    /// of its text as soon as it is certain.
    pub fn go_on<B: Backend>(
        &self,
        loaded: &Loaded<B>,
        tokenizer: &Tokenizer,
        images: SeenBatch<B>,
        texts: Vec<(String, Tokens)>,
        seed: u64,
        tell: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<String>, NodeError> {
        let (_, node) = self.writer()?;
        let mut inputs: BTreeMap<String, Value<B>> =
            texts.into_iter().map(|(name, tokens)| (name, Value::Text(tokens))).collect();
        inputs.extend(images.inputs);
        let (mut decoding, first) = start(&loaded.model, &loaded.parameters, node, &inputs, &images.given)
            .map_err(|error| NodeError::Other(error.to_string()))?;
        let (search, limits) = (self.writing.search(seed), self.writing.limits(tokenizer));
        let until = || (Until::new(tokenizer, self.writing.stop()), String::new());
        let mut telling = Telling { texts: first.iter().map(|_| until()).collect(), tell };
        generate(first, &mut decoding, &search, &limits, &mut telling)?;
        Ok(telling.finish())
    }
}

/// Texts while they are written.
struct Telling<'a, 't> {
    texts: Vec<(Until<'t>, String)>,
    tell: &'a mut dyn FnMut(usize, &str),
}

impl Watch for Telling<'_, '_> {
    fn token(&mut self, record: usize, token: u32) -> bool {
        let Some((until, text)) = self.texts.get_mut(record) else { return false };
        let part = until.push(token);
        (self.tell)(record, &part);
        text.push_str(&part);
        until.has_ended()
    }
}

impl Telling<'_, '_> {
    fn finish(self) -> Vec<String> {
        let Self { texts, tell } = self;
        let finish = |(record, (until, text)): (usize, (Until<'_>, String))| {
            let rest = until.finish();
            tell(record, &rest);
            (text + &rest).trim().to_owned()
        };
        texts.into_iter().enumerate().map(finish).collect()
    }
}
