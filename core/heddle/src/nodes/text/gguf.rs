//! `text.gguf`: the tokenizer of a GGUF file.
//!
//! The file's fields become a `tokenizer.json`, which everything that takes a tokenizer reads:
//!
//! | field | becomes |
//! |---|---|
//! | `tokenizer.ggml.tokens`, `merges` | vocabulary and merges of a byte-level BPE |
//! | `tokenizer.ggml.token_type` | added tokens: control (3) and unknown (2) are special, user-defined (4) are not |
//! | `tokenizer.ggml.pre` | how text is cut before BPE, see [`PRE`] |

use heddle_data::text::Tokenizer;
use heddle_gguf::{Gguf, GgufError, Value};
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use serde_json::{Map, Value as Json, json};

use crate::{
    exec::{NodeError, Outputs, RunContext, output},
    model::Models,
    nodes::{Node, gguf},
};

/// How text is cut, by what `tokenizer.ggml.pre` says: as in `llm_tokenizer_bpe` of llama.cpp's `src/llama-vocab.cpp`
/// and in the models' own `tokenizer.json`.
const PRE: [(&str, Cut); 4] = [
    ("gpt-2", Cut::Words),
    ("smollm", Cut::DigitsAndWords),
    ("starcoder", Cut::DigitsAndWords),
    ("llama-bpe", Cut::Llama3),
];

/// LLaMA 3's pieces.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Types of tokens in `tokenizer.ggml.token_type` that are more than pieces of text.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// How text is cut before pairs are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// GPT-2's pieces: words, numbers, signs, each with a space before it.
    Words,
    /// Single digits, then GPT-2's pieces.
    DigitsAndWords,
    /// LLaMA 3's pieces; what is in the vocabulary whole is not merged.
    Llama3,
}

impl Cut {
    /// The pre-tokenizer of a `tokenizer.json`.
    fn json(self) -> Json {
        let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let first = match self {
            Self::Words => return bytes(true),
            Self::DigitsAndWords => json!({ "type": "Digits", "individual_digits": true }),
            Self::Llama3 => {
                json!({ "type": "Split", "pattern": { "Regex": LLAMA3 }, "behavior": "Isolated", "invert": false })
            }
        };
        json!({ "type": "Sequence", "pretokenizers": [first, bytes(self == Self::DigitsAndWords)] })
    }
}

/// A tokenizer that is not read.
#[derive(Debug, thiserror::Error)]
enum NoTokenizer {
    #[error(transparent)]
    Field(#[from] GgufError),
    #[error("the tokenizer is `{0}` (`tokenizer.ggml.model`); `gpt2`, a byte-level BPE, is read")]
    Model(String),
    #[error("how text is cut (`tokenizer.ggml.pre`) is `{0}`; known are {known}", known = PRE.map(|(name, _)| name).join(", "))]
    Pre(String),
    #[error("`{0}` has elements that are {1}")]
    Elements(&'static str, &'static str),
    #[error("there are {tokens} tokens and {types} types of tokens")]
    Types { tokens: usize, types: usize },
    #[error("the token `{0}` is there twice")]
    Twice(String),
    #[error("the merge `{0}` is no pair")]
    Merge(String),
    #[error("the fields make no tokenizer: {0}")]
    Built(String),
}

/// The kind.
pub struct GgufTokenizer;

struct File;

impl Kind<dyn Node, Models> for GgufTokenizer {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "text.gguf",
            version: 1,
            summary: "reads the tokenizer of a GGUF file",
            details: "The byte-level BPE (`tokenizer.ggml.model = \"gpt2\"`) of SmolLM2, GPT-2, StarCoder and LLaMA 3, told apart by \
                      `tokenizer.ggml.pre`, as a `tokenizer.json`: vocabulary, merges, and control tokens as special tokens. A \
                      note has the ids that the file names for begin, end and padding, and its chat template.",
            example: "[nodes.tokenizer]\nkind = \"text.gguf\"\nfile = \"smollm2.gguf\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.file("file", "the GGUF file").required();
        Box::new(File)
    }
}

impl NodeSpec for File {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("tokenizer", PortType::plain(Class::Tokenizer))])
    }
}

impl Node for File {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let shard = gguf::open(cx)?;
        let file = gguf::parse(&shard)?;
        let tokenizer = tokenizer(&file).map_err(NodeError::data)?;
        cx.progress.note(format!("{} tokens{}", tokenizer.vocab_size(), named_ids(&file)));
        if let Some(template) = file.field("tokenizer.chat_template").and_then(|value| value.as_text()) {
            cx.progress.note(format!("chat template: {template:?}"));
        }
        Ok(output("tokenizer", tokenizer.to_json()))
    }
}

/// What the file says of begin, end and padding: `; bos 1, eos 2`.
fn named_ids(file: &Gguf<'_>) -> String {
    let id = |name: &str| file.field(&format!("tokenizer.ggml.{name}_token_id"))?.as_u64();
    let names = [("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")];
    let said = names.iter().filter_map(|(field, short)| Some(format!("{short} {}", id(field)?)));
    let said = said.collect::<Vec<_>>().join(", ");
    if said.is_empty() { said } else { format!("; {said}") }
}

fn tokenizer(file: &Gguf<'_>) -> Result<Tokenizer, NoTokenizer> {
    let json = tokenizer_json(file)?;
    Tokenizer::from_json(json.to_string().as_bytes()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        NoTokenizer::Built(cause.unwrap_or_else(|| error.to_string()))
    })
}

/// The fields as a `tokenizer.json`.
fn tokenizer_json(file: &Gguf<'_>) -> Result<Json, NoTokenizer> {
    let model = file.needed("tokenizer.ggml.model", "text", Value::as_text)?;
    if model != "gpt2" {
        return Err(NoTokenizer::Model(model.to_owned()));
    }
    let pre = file.needed("tokenizer.ggml.pre", "text", Value::as_text)?;
    let cut = PRE.iter().find(|(name, _)| *name == pre).map(|(_, cut)| *cut);
    let cut = cut.ok_or_else(|| NoTokenizer::Pre(pre.to_owned()))?;
    let tokens = texts(file, "tokenizer.ggml.tokens")?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(file, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": cut.json(),
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": cut == Cut::Llama3,
            "vocab": vocabulary(&tokens)?,
            "merges": merges(file)?,
        },
    }))
}

fn texts<'a>(file: &Gguf<'a>, name: &'static str) -> Result<Vec<&'a str>, NoTokenizer> {
    let array = file.needed(name, "an array", Value::as_array)?;
    let text = |value: Value<'a>| value.as_text().ok_or(NoTokenizer::Elements(name, "no text"));
    array.iter().map(text).collect()
}

fn vocabulary(tokens: &[&str]) -> Result<Map<String, Json>, NoTokenizer> {
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert((*token).to_owned(), id.into()).is_some() {
            return Err(NoTokenizer::Twice((*token).to_owned()));
        }
    }
    Ok(vocabulary)
}

/// Pairs of tokens; a space parts them, which no token has after its first character.
fn merges(file: &Gguf<'_>) -> Result<Vec<[String; 2]>, NoTokenizer> {
    let pair = |merge: &str| {
        let (place, _) = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
        Some([merge[..place].to_owned(), merge[place + 1..].to_owned()])
    };
    let merges = texts(file, "tokenizer.ggml.merges")?;
    merges.iter().map(|merge| pair(merge).ok_or_else(|| NoTokenizer::Merge((*merge).to_owned()))).collect()
}

/// The tokens that text is searched for before it is cut.
fn added_tokens(file: &Gguf<'_>, tokens: &[&str]) -> Result<Vec<Json>, NoTokenizer> {
    const FIELD: &str = "tokenizer.ggml.token_type";
    let types = file.needed(FIELD, "an array", Value::as_array)?;
    if types.len() != tokens.len() {
        return Err(NoTokenizer::Types { tokens: tokens.len(), types: types.len() });
    }
    let types = types.iter().map(|ty| ty.as_u64().ok_or(NoTokenizer::Elements(FIELD, "no types")));
    let types: Vec<u64> = types.collect::<Result<_, _>>()?;
    let added = tokens.iter().zip(types).enumerate();
    let added =
        added.filter(|(_, (token, ty))| matches!(*ty, UNKNOWN | CONTROL | USER_DEFINED) && !token.is_empty());
    let token = |(id, (token, ty)): (usize, (&&str, u64))| {
        json!({
            "id": id, "content": token, "special": ty != USER_DEFINED,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    Ok(added.map(token).collect())
}
