//! `inputs` and `outputs` of a model graph: what it is fed with, and which of its ports have names outside.

use indexmap::IndexMap;

use super::{
    from_value::{FromValue, Wrong},
    node::is_name,
    reader::{ReadEnv, Reader},
    value::{Table, Value, ValueKind},
};
use crate::{
    diagnostic::{Diagnostic, Problems},
    graph::port::{Class, Dim, PortType},
    source::Span,
    suggest,
};

/// A symbolic input of a model graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputDecl {
    /// Class and shape.
    pub ty: PortType,
    /// Text: what is put in front of every caption.
    pub prefix: Option<String>,
    /// Text: longer captions are cut to this many tokens.
    pub max_length: Option<usize>,
    /// Text: how many tokens an empty one has, where no tokenizer says it.
    pub blank: Option<usize>,
    /// Text: whose it is.
    pub of: TextOf,
    /// Text: the template of dialogues, if it holds them.
    pub dialogue: Option<Dialogue>,
    /// Where its name is written.
    pub span: Span,
}

/// Whose a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextOf {
    /// The record's own caption.
    Record,
    /// The caption of another record.
    Other,
    /// What is asked in the record's dialogue: a text for each round.
    Question,
}

/// How dialogues become one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialogue {
    /// The template's name.
    pub template: String,
    /// What is said before the first question, in place of the template's text.
    pub system: Option<String>,
    /// Tokens before and after the context of each name.
    pub around: IndexMap<String, [u32; 2]>,
}

/// A name for a port of a model graph: `node` or `node.port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDecl {
    /// The port.
    pub from: String,
    /// Where it is written.
    pub span: Span,
}

/// The words for an input's type, in the order in which messages list them.
pub(crate) const INPUT_TYPES: [(&str, Class, &str); 6] = [
    ("image", Class::Image, "images [B,3,H,W], normalised; `size` fixes H and W"),
    (
        "text",
        Class::Text,
        "token ids [B,T]; `length` is the most tokens, `prefix` goes in front, `of` says whose text, `template` makes it a dialogue",
    ),
    ("sequence", Class::Sequence, "vectors [B,N,C]; `length` fixes N, `width` fixes C"),
    ("vector", Class::Vector, "vectors [B,C]; `width` fixes C"),
    ("targets", Class::Targets, "a class for each record [B], -100 where it does not count"),
    ("map", Class::Map, "feature maps [B,C,H,W]; `width` fixes C, `size` fixes H and W"),
];

/// Reads `inputs`. Those that cannot be understood are named in `broken`.
pub(crate) fn read_inputs(
    env: &ReadEnv<'_>,
    inputs: &Value,
    broken: &mut Vec<String>,
) -> IndexMap<String, InputDecl> {
    let mut declared = IndexMap::new();
    let Some(table) = inputs.as_table() else {
        let diagnostic =
            Diagnostic::new(format!("`inputs` is a table, found {}", inputs.found())).at(inputs.span);
        env.problems.borrow_mut().push(diagnostic.help("inputs = { image = \"image\" }".to_owned()));
        return declared;
    };
    for (name, entry) in table {
        if !is_name(name) {
            let message = format!("`{}` is no name for an input", name.escape_debug());
            env.problems.borrow_mut().push(Diagnostic::new(message).at(entry.key_span));
        }
        match read_input(env, &entry.value, entry.key_span) {
            Some(input) => {
                declared.insert(name.clone(), input);
            }
            None => broken.push(name.clone()),
        }
    }
    declared
}

fn read_input(env: &ReadEnv<'_>, value: &Value, span: Span) -> Option<InputDecl> {
    match &value.kind {
        ValueKind::String(word) => match INPUT_TYPES.iter().find(|(name, ..)| name == word) {
            Some((_, class, _)) => {
                let mut reader = Reader::new(env, None, span);
                Some(input_of_class(*class, &mut reader, span))
            }
            None => {
                let help = suggest::help(word, INPUT_TYPES.iter().map(|(name, ..)| *name));
                let diagnostic = Diagnostic::new(format!("unknown type `{word}` of an input"));
                env.problems.borrow_mut().push(diagnostic.at(value.span).help(help));
                None
            }
        },
        ValueKind::Table(table) => {
            let mut reader = Reader::new(env, Some(table), span);
            let class = reader.choice("type", "what it is", &INPUT_TYPES).required();
            let input = input_of_class(class, &mut reader, span);
            reader.finish(&[]);
            Some(input)
        }
        _ => {
            let message = format!("an input is a word or a table, found {}", value.found());
            env.problems.borrow_mut().push(Diagnostic::new(message).at(value.span));
            None
        }
    }
}

/// The keys that go with a class. Dimensions that are not given stay symbols.
fn input_of_class(class: Class, reader: &mut Reader<'_>, span: Span) -> InputDecl {
    let batch = Dim::sym("B");
    let (mut prefix, mut max_length, mut blank) = (None, None, None);
    let (mut of, mut dialogue) = (TextOf::Record, None);
    let ty = match class {
        Class::Image => {
            let [height, width] = size(reader);
            PortType::new(class, [batch, Dim::Const(3), height, width])
        }
        Class::Text => {
            max_length = reader.field("length", "most tokens of a text").min(1).optional();
            prefix = reader.field("prefix", "goes in front of every text").optional();
            blank = reader.field("blank", "tokens of an empty text, for `heddle apply`").optional();
            of = reader
                .choice(
                    "of",
                    "whose text it is",
                    &[
                        ("record", TextOf::Record, "the record's own"),
                        ("other", TextOf::Other, "that of another record, drawn at random"),
                        (
                            "question",
                            TextOf::Question,
                            "what is asked in the record's dialogue, a text a round",
                        ),
                    ],
                )
                .or("record");
            dialogue = read_dialogue(reader);
            PortType::new(class, [batch, Dim::sym("T")])
        }
        Class::Sequence => {
            let length = dim(reader, "length", "N");
            PortType::new(class, [batch, length, dim(reader, "width", "C")])
        }
        Class::Map => {
            let channels = dim(reader, "width", "C");
            let [height, width] = size(reader);
            PortType::new(class, [batch, channels, height, width])
        }
        Class::Targets => PortType::new(class, [batch]),
        _ => PortType::new(class, [batch, dim(reader, "width", "C")]),
    };
    InputDecl { ty, prefix, max_length, blank, of, dialogue, span }
}

/// `template` with what belongs to it.
fn read_dialogue(reader: &mut Reader<'_>) -> Option<Dialogue> {
    let template: Option<String> = reader
        .field("template", "the text is a dialogue, written like this: `vicuna_v1`, `chatml`, `plain`")
        .optional();
    let system = reader
        .field("system", "what is said before the first question, in place of the template's text")
        .optional();
    let around: IndexMap<String, Vec<u32>> =
        reader.map("around", "tokens before and after the rows of each context: `{ image = [5, 6] }`");
    let count = around.len();
    let pair = |(name, ids): (String, Vec<u32>)| <[u32; 2]>::try_from(ids).ok().map(|ids| (name, ids));
    let around: IndexMap<String, [u32; 2]> = around.into_iter().filter_map(pair).collect();
    if around.len() < count {
        reader.error(
            "around",
            "one token goes before and one after",
            Some("for example `{ image = [5, 6] }`"),
        );
    }
    Some(Dialogue { template: template?, system, around })
}

fn dim(reader: &mut Reader<'_>, name: &'static str, symbol: &str) -> Dim {
    let size = reader.field::<usize>(name, "size of the dimension").min(1).optional();
    size.map_or_else(|| Dim::sym(symbol), Dim::Const)
}

fn size(reader: &mut Reader<'_>) -> [Dim; 2] {
    match reader.field::<Size>("size", "edge of a square, or [height, width]").optional() {
        Some(Size([height, width])) => [Dim::Const(height), Dim::Const(width)],
        None => [Dim::sym("H"), Dim::sym("W")],
    }
}

/// `32` or `[32, 48]`: height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size([usize; 2]);

impl FromValue for Size {
    fn ty() -> String {
        "edge or [height, width]".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let edges = match value.kind {
            ValueKind::Array(_) => <[usize; 2]>::from_value(value)?,
            _ => [usize::from_value(value)?; 2],
        };
        if edges.contains(&0) {
            Err(Wrong::new(value, "an image has at least one pixel"))
        } else {
            Ok(Self(edges))
        }
    }

    fn to_json(&self) -> serde_json::Value {
        self.0.to_json()
    }

    fn placeholder() -> Self {
        Self([1, 1])
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "oneOf": [usize::schema(), <[usize; 2]>::schema()] })
    }
}

/// Reads `outputs`.
pub(crate) fn read_outputs(root: &Table, problems: &mut Problems) -> IndexMap<String, OutputDecl> {
    let mut outputs = IndexMap::new();
    let Some(entry) = root.get("outputs") else { return outputs };
    let Some(table) = entry.value.as_table() else {
        let message = format!("`outputs` is a table, found {}", entry.value.found());
        problems.push(Diagnostic::new(message).at(entry.value.span));
        return outputs;
    };
    for (name, entry) in table {
        match entry.value.as_str() {
            Some(from) => {
                outputs.insert(name.clone(), OutputDecl { from: from.to_owned(), span: entry.value.span });
            }
            None => {
                let message = format!("output `{name}` names a port, found {}", entry.value.found());
                problems.push(Diagnostic::new(message).at(entry.value.span));
            }
        }
    }
    outputs
}
