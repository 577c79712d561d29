//! Dialogues of records as the texts that a graph reads: the conversation, and for QLLaMA every question of it.

use heddle_data::{
    Record,
    text::{
        Tokenizer,
        dialogue::{
            Dialogue, DialogueEncoder, DialogueOptions, IMAGE, ImageBlock, ImageBlocks, Round, Template,
        },
    },
};
use heddle_graph::{
    config::{Reader, TextOf},
    graph::{Class, Dim, Edge, NodeId, Source},
};
use heddle_tensor::Tokens;

use super::text::{encode_options, tokens};
use crate::{exec::NodeError, model::ModelGraph};

/// Writes the dialogues of one graph.
pub struct Dialogues {
    /// The graph's input that holds the conversation.
    input: String,
    /// The inputs that hold its questions.
    questions: Vec<String>,
    encoder: DialogueEncoder,
    /// Whether rows of an image stand in it.
    has_image: bool,
}

/// Reports inputs of a graph that no dialogue can be written for.
pub fn check_dialogues(r: &mut Reader<'_>, graph: &ModelGraph) {
    let inputs = &graph.graph().inputs;
    let holders: Vec<_> = inputs.values().filter_map(|input| input.dialogue.as_ref()).collect();
    for dialogue in holders.iter().filter(|dialogue| Template::named(&dialogue.template).is_none()) {
        let known: Vec<&str> = Template::NAMES.iter().map(|(name, _)| *name).collect();
        let help = format!("there are {}", known.join(", "));
        r.error("graph", format!("there is no template `{}` of dialogues", dialogue.template), Some(&help));
    }
    let asks = inputs.values().any(|input| input.of == TextOf::Question);
    if holders.len() > 1 || asks && holders.is_empty() {
        let message = "questions come from the one input with a `template`";
        r.error("graph", format!("{message}; the model graph has {} such inputs", holders.len()), None);
    }
}

impl Dialogues {
    /// What the graph reads of dialogues; none if it reads none.
    pub fn of(model: &ModelGraph, tokenizer: &Tokenizer) -> Result<Option<Self>, NodeError> {
        let inputs = &model.graph().inputs;
        let holder = inputs.iter().find_map(|(name, input)| Some((name, input, input.dialogue.as_ref()?)));
        let Some((name, input, dialogue)) = holder else { return Ok(None) };
        let template = Template::named(&dialogue.template)
            .ok_or_else(|| NodeError::Other(format!("there is no template `{}`", dialogue.template)))?;
        let blocks = blocks(model, name)?;
        let has_image = !blocks.first.is_empty();
        let options = DialogueOptions {
            template,
            system: dialogue.system.clone(),
            blocks,
            max_length: input.max_length.unwrap_or(2048),
        };
        let asks = inputs.iter().filter(|(_, input)| input.of == TextOf::Question);
        Ok(Some(Self {
            input: name.clone(),
            questions: asks.map(|(name, _)| name.clone()).collect(),
            encoder: DialogueEncoder::new(tokenizer, options).map_err(NodeError::data)?,
            has_image,
        }))
    }

    /// The dialogue in a column of a record.
    pub fn read(&self, record: &Record, column: &str) -> Result<Dialogue, NodeError> {
        let of = |reason: String| NodeError::Other(format!("record `{}`: {reason}", record.key));
        let turns =
            record.column(column).ok_or_else(|| of(format!("no column `{column}` with a dialogue")))?;
        let rounds = Round::list(turns).map_err(|error| of(error.to_string()))?;
        self.encoder.encode(&self.seen(rounds)).map_err(|error| of(error.to_string()))
    }

    /// A question that is not answered yet, after earlier rounds.
    pub fn ask(&self, before: &[Round], question: &str) -> Result<Dialogue, NodeError> {
        let mut rounds = self.seen([before, &[Round::new(question, "")]].concat());
        let last = rounds.pop().map(|round| round.question).unwrap_or_default();
        self.encoder.prompt(&rounds, &last).map_err(NodeError::data)
    }

    /// The first question shows the image if the model sees one, and only then.
    fn seen(&self, rounds: Vec<Round>) -> Vec<Round> {
        let seen = |(place, round): (usize, Round)| {
            let text = round.question.replace(IMAGE, "");
            let question = match self.has_image && place == 0 {
                true => format!("{IMAGE}\n{}", text.trim()),
                false => text.trim().to_owned(),
            };
            Round { question, ..round }
        };
        rounds.into_iter().enumerate().map(seen).collect()
    }

    /// The texts of all inputs, for a batch of dialogues; `questions` is the tokenizer of their questions.
    pub fn texts(
        &self,
        model: &ModelGraph,
        questions: &Tokenizer,
        dialogues: &[Dialogue],
    ) -> Result<Vec<(String, Tokens)>, NodeError> {
        let mut texts = vec![(self.input.clone(), conversation(dialogues)?)];
        for input in &self.questions {
            let options = encode_options(model, input, questions);
            let rounds: Vec<String> = dialogues.iter().flat_map(|dialogue| dialogue.rounds.clone()).collect();
            let of = |(record, dialogue): (u32, &Dialogue)| vec![record; dialogue.rounds.len()];
            let of = (0..).zip(dialogues).flat_map(of).collect();
            texts.push((input.clone(), Tokens { of: Some(of), ..tokens(questions, &rounds, &options)? }));
        }
        Ok(texts)
    }
}

/// Dialogues side by side, padded to the longest.
fn conversation(dialogues: &[Dialogue]) -> Result<Tokens, NodeError> {
    let len = dialogues.iter().map(|dialogue| dialogue.ids.len()).max().unwrap_or(0).max(1);
    let (mut ids, mut real, mut learn) = (Vec::new(), Vec::new(), Vec::new());
    for dialogue in dialogues {
        let padding = len - dialogue.ids.len();
        ids.extend(dialogue.ids.iter().copied().chain(std::iter::repeat_n(0, padding)));
        real.extend((0..len).map(|place| place < dialogue.ids.len()));
        learn.extend(dialogue.learn.iter().copied().chain(std::iter::repeat_n(false, padding)));
    }
    Ok(Tokens { mask: Some(real), learn: Some(learn), ..Tokens::new(ids, dialogues.len(), len)? })
}

/// The rows that stand in a dialogue: those of every context of its decoder, in the order of the graph; in later rounds
/// those that depend on the question.
fn blocks(model: &ModelGraph, input: &str) -> Result<ImageBlocks, NodeError> {
    let graph = model.graph();
    let reads = |id: &NodeId| {
        let edges = graph.node(*id).edges.get("text").into_iter().flatten();
        edges.into_iter().any(|edge| matches!(&edge.from, Source::Input(name) if name == input))
    };
    let Some(decoder) = graph.ids().find(reads) else { return Ok(ImageBlocks::default()) };
    let node = graph.node(decoder);
    let ids = node.spec.context_tokens();
    let around = graph.inputs[input].dialogue.as_ref().map(|dialogue| &dialogue.around);
    let mut blocks = ImageBlocks::default();
    for edge in node.edges.get("context").into_iter().flatten() {
        let name = edge.label.clone().unwrap_or_default();
        let no_token = || NodeError::Other(format!("`{}` has no token for `{name}`", node.name));
        let context = ids.get(&name).copied().ok_or_else(no_token)?;
        let count = edge.ty.shape.get(1).and_then(Dim::known).ok_or_else(|| {
            NodeError::Other(format!("how many rows `{name}` has is not known: give the image a size"))
        })?;
        let marks = around.and_then(|around| around.get(&name));
        let block = ImageBlock { before: marks.map(|m| m[0]), context, count, after: marks.map(|m| m[1]) };
        if depends_on_question(model, edge) {
            blocks.later.push(block.clone());
        }
        blocks.first.push(block);
    }
    Ok(blocks)
}

/// Whether anything upstream reads the questions.
fn depends_on_question(model: &ModelGraph, edge: &Edge) -> bool {
    let graph = model.graph();
    let sources: Vec<NodeId> = edge.node().into_iter().collect();
    let upstream = graph.upstream(&sources);
    let mut edges = upstream.iter().flat_map(|id| graph.node(*id).edges.values().flatten());
    edges.any(|edge| match &edge.from {
        Source::Input(name) => graph.inputs[name].of == TextOf::Question,
        Source::Node { .. } => false,
    })
}

/// Whether a graph's input is written from dialogues.
pub fn is_of_dialogues(model: &ModelGraph, name: &str) -> bool {
    let input = model.graph().inputs.get(name);
    input.is_some_and(|input| {
        input.ty.class == Class::Text && (input.dialogue.is_some() || input.of == TextOf::Question)
    })
}
