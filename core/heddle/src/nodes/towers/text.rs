//! The text side: tokenizer, prefix, length, and the tower that embeds texts.

use std::sync::Arc;

use heddle_data::text::{EncodeOptions, Tokenizer};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Mismatch, Place},
};
use heddle_tensor::{Backend, HostTensor, Precision, Tokens, Value};

use super::{Rows, Tower, check_output, check_vocabulary, needed, no_graph};
use crate::{
    device::{Need, on_backend},
    exec::{Artifact, NodeError, RunContext},
    model::{ModelGraph, Models},
    nodes::precision,
};

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

/// The text columns of the records that are read, one a language.
pub fn read_languages(r: &mut Reader<'_>) -> Vec<String> {
    let languages: Vec<String> =
        r.field("languages", "text columns of the records, one a language").or(vec!["en".to_owned()]);
    if languages.is_empty() {
        r.error("languages", "at least one language is needed", Some("for example `languages = [\"en\"]`"));
    }
    languages
}

/// The text side of a node, as the file sets it up.
pub struct TextSide {
    /// The model graph; absent only while documenting, or when the graph has mistakes of its own.
    pub graph: Option<Arc<ModelGraph>>,
    /// The output that is read.
    output: String,
    batch: usize,
    precision: Precision,
}

impl TextSide {
    /// Reads `graph`, `output`, `batch` and `precision`.
    pub fn read(r: &mut Reader<'_>, models: &Models) -> Self {
        let graph = models.get(r.required_graph("graph", "the model graph whose text tower is used"));
        let output: String =
            r.field("output", "the graph's output that embeds a text").or("text_embeds".to_owned());
        let batch = r
            .field("batch", "texts a pass")
            .min(1)
            .max(1 << 20)
            .not_in_key("a text's features do not depend on its batch")
            .or(256);
        let side = Self { graph, output, batch, precision: precision::read(r) };
        if let Some(graph) = &side.graph {
            check_output(r, graph, &side.output, Class::Text);
        }
        side
    }

    /// Whether the tokenizer fits the text tower, and the image features its output.
    pub fn check(&self, inputs: &Inputs) -> Result<(), Mismatch> {
        let Some(graph) = &self.graph else { return Ok(()) };
        check_vocabulary(graph, inputs)?;
        let images = inputs.get("features");
        let texts = graph.output(&self.output).map(|(_, ty)| ty);
        if let (Some(images), Some(texts)) = (images, texts)
            && let (Some(a), Some(b)) = (images.shape.last(), texts.shape.last())
            && !a.agrees(b)
        {
            return Err(Mismatch {
                port: Some("features"),
                param: None,
                message: format!("image and text features differ in size: {images} against {texts}"),
                help: Some("use the model graph that made the features".into()),
            });
        }
        Ok(())
    }

    /// Bytes of the text tower's weights.
    pub fn memory_bytes(&self) -> u64 {
        let Some(graph) = &self.graph else { return 0 };
        let nodes = graph.output(&self.output).map(|(source, _)| needed(graph, &source)).unwrap_or_default();
        precision::bytes(self.precision) * graph.count_parameters(&nodes)
    }

    /// What it asks of the device.
    pub fn need(&self) -> Need {
        Need { precision: self.precision, learns: false, batch: self.batch }
    }

    /// Loads the weights and the tokenizer.
    pub fn encoder(&self, cx: &RunContext<'_>) -> Result<TextEncoder, NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let tokenizer = read_tokenizer(cx.input("tokenizer")?)?;
        let weights = cx.input("weights")?;
        let tower: Box<dyn TextTower> = on_backend!(cx.compute.open(self.need())?, |backend| {
            Box::new(Tower::load(graph, &self.output, weights, backend)?)
        });
        let input = tower.input()?;
        let options = encode_options(tower.model(), &input, &tokenizer);
        Ok(TextEncoder { tower, tokenizer, input, options, batch: self.batch })
    }
}

/// A tower that takes text, on whatever backend.
trait TextTower {
    fn model(&self) -> &ModelGraph;
    fn input(&self) -> Result<String, NodeError>;
    fn run(&self, input: &str, tokens: Tokens) -> Result<HostTensor, NodeError>;
}

impl<B: Backend> TextTower for Tower<B> {
    fn model(&self) -> &ModelGraph {
        Tower::model(self)
    }

    fn input(&self) -> Result<String, NodeError> {
        Tower::input(self, Class::Text)
    }

    fn run(&self, input: &str, tokens: Tokens) -> Result<HostTensor, NodeError> {
        Tower::run(self, input, Value::Text(tokens))
    }
}

/// The text tower with its tokenizer.
pub struct TextEncoder {
    tower: Box<dyn TextTower>,
    tokenizer: Tokenizer,
    input: String,
    options: EncodeOptions,
    batch: usize,
}

impl TextEncoder {
    /// One row a text, of length one.
    pub fn texts(&self, cx: &RunContext<'_>, texts: &[String]) -> Result<Rows, NodeError> {
        let mut all = Rows::default();
        for chunk in texts.chunks(self.batch) {
            cx.check_cancelled()?;
            let tokens = tokens(&self.tokenizer, chunk, &self.options)?;
            let rows = self.tower.run(&self.input, tokens)?;
            all.width = rows.shape.last().copied().unwrap_or(0);
            all.data.extend(rows.data);
        }
        let mut all = all.finite("text features")?;
        all.normalise();
        Ok(all)
    }
}

/// Reads the artifact of a tokenizer port.
pub fn read_tokenizer(artifact: &Artifact) -> Result<Tokenizer, NodeError> {
    Tokenizer::from_json(&artifact.bytes).map_err(|error| NodeError::Artifact {
        from: artifact.from.clone(),
        expected: "a tokenizer",
        reason: error.to_string(),
    })
}

/// The tokenizer of a dialogue, and that of the model which reads its questions by itself.
pub struct Tokenizers {
    /// Of the dialogue.
    pub dialogue: Tokenizer,
    questions: Option<Tokenizer>,
}

impl Tokenizers {
    /// Reads the artifacts of the ports `tokenizer` and `questions`.
    pub fn read(dialogue: &Artifact, questions: Option<&Artifact>) -> Result<Self, NodeError> {
        let questions = questions.map(read_tokenizer).transpose()?;
        Ok(Self { dialogue: read_tokenizer(dialogue)?, questions })
    }

    /// Of the questions: the dialogue's, unless they have one of their own.
    pub fn questions(&self) -> &Tokenizer {
        self.questions.as_ref().unwrap_or(&self.dialogue)
    }
}

/// The port of a tokenizer for questions.
pub fn questions_port() -> InPort {
    InPort {
        name: "questions",
        classes: vec![Class::Tokenizer],
        arity: Arity::Optional,
        place: Place::In,
        help: "tokenizer of the graph's inputs `of = \"question\"`, if it is another than the dialogue's",
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

/// Texts as a batch of token ids. Of a text with a prefix, a language model learns what follows the last-but-one token of
/// the prefix, as InternVL's labels have it.
pub fn tokens(tokenizer: &Tokenizer, texts: &[String], options: &EncodeOptions) -> Result<Tokens, NodeError> {
    let batch = tokenizer.encode(texts, options).map_err(NodeError::data)?;
    let empty = tokenizer.encode(&[String::new()], options).map_err(NodeError::data)?.len;
    let before = empty - usize::from(options.eos.is_some());
    let mut tokens = Tokens::new(batch.ids, batch.batch, batch.len)?;
    let learnt = |(place, real): (usize, bool)| real && place % batch.len + 1 >= before;
    tokens.learn = Some(tokens.real().into_iter().enumerate().map(learnt).collect());
    tokens.frame = empty;
    Ok(tokens)
}
