//! `text.bpe`: a byte-level BPE tokenizer trained on the records' texts.

use std::collections::BTreeSet;

use heddle_data::{
    Record,
    text::{BpeOptions, Tokenizer},
};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use serde_json::Value as Json;

use super::tokens::Tokens;
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::{Node, data::Records},
};

/// The kind.
pub struct Bpe;

struct Train {
    vocab: usize,
    lowercase: bool,
    columns: Vec<String>,
    tokens: Tokens,
}

impl Kind<dyn Node, Models> for Bpe {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "text.bpe",
            version: 1,
            summary: "trains a byte-level BPE tokenizer on text columns",
            details: "Every distinct text of the columns counts once; a list gives each of its texts, `captions` those of all \
                      languages, `conversations` what each turn says. `<pad>`, \
                      `<s>` and `</s>` are ids 0, 1 and 2; all 256 bytes are tokens, so nothing is unknown. The artifact \
                      is a Hugging Face `tokenizer.json`.",
            example: "[nodes.bpe]\nkind = \"text.bpe\"\nin = \"pairs\"\nvocab = 4096\ncolumns = [\"en\", \"zh\"]\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Train {
            vocab: r
                .field("vocab", "vocabulary size, specials and bytes included")
                .min(259)
                .max(1 << 24)
                .or(4096),
            lowercase: r.field("lowercase", "lower-case all texts, in training and in use").or(true),
            columns: r.field("columns", "text columns that are read").or(vec!["en".to_owned()]),
            tokens: Tokens::read(r),
        })
    }
}

impl NodeSpec for Train {
    fn inputs(&self) -> Vec<InPort> {
        vec![InPort {
            name: "records",
            classes: vec![Class::Records],
            arity: Arity::One,
            place: Place::In,
            help: "records whose texts are read",
        }]
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let size = self.vocab + self.tokens.count_but(&BpeOptions::default().specials);
        Ok(vec![OutPort::new("tokenizer", PortType::new(Class::Tokenizer, [size.into()]))])
    }
}

impl Node for Train {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let texts = self.texts(cx)?;
        let options =
            BpeOptions { vocab_size: self.vocab, lowercase: self.lowercase, ..BpeOptions::default() };
        let tokenizer = Tokenizer::train_bpe(&texts, &options).map_err(NodeError::data)?;
        self.tokens.give(cx, tokenizer)
    }
}

impl Train {
    /// The distinct texts of all records; a column without any is an error.
    fn texts(&self, cx: &RunContext<'_>) -> Result<BTreeSet<String>, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut texts = BTreeSet::new();
        let mut found = vec![false; self.columns.len()];
        for record in records.manifest.records() {
            let record = record?;
            for (column, found) in self.columns.iter().zip(&mut found) {
                *found |= add_texts(&record, column, &mut texts);
            }
        }
        match self.columns.iter().zip(found).find(|(_, found)| !found) {
            Some((column, _)) => {
                Err(NodeError::Other(format!("no record has text in the column `{column}`")))
            }
            None => Ok(texts),
        }
    }
}

/// Adds the texts of a column; whether there were any.
fn add_texts(record: &Record, column: &str, texts: &mut BTreeSet<String>) -> bool {
    let mut any = false;
    let mut add = |text: String| {
        any = true;
        // Texts repeat, across records and styles.
        texts.insert(text);
    };
    if let Some(value) = record.column(column) {
        each_text(value, &mut add);
    }
    any
}

/// The texts in a value: itself, those of a list or of an object by language; of a turn what it says, not who says it.
fn each_text(value: &Json, add: &mut impl FnMut(String)) {
    match value {
        Json::String(text) => add(text.clone()),
        Json::Number(number) => add(number.to_string()),
        Json::Bool(truth) => add(truth.to_string()),
        Json::Array(items) => items.iter().for_each(|item| each_text(item, add)),
        Json::Object(turn) if turn.contains_key("from") => {
            turn.get("value").into_iter().for_each(|value| each_text(value, add));
        }
        Json::Object(by_language) => by_language.values().for_each(|value| each_text(value, add)),
        Json::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_found_in_lists_languages_and_turns() {
        let told = |value: Json| {
            let mut texts = Vec::new();
            each_text(&value, &mut |text| texts.push(text));
            texts.join("|")
        };
        assert_eq!(told(json!("a")), "a");
        assert_eq!(told(json!(["a", 2, null, ["b"]])), "a|2|b");
        assert_eq!(told(json!({ "en": ["a", "b"], "it": "c" })), "a|b|c");
        let turns =
            json!([{ "from": "human", "value": "<image>\nWhat?" }, { "from": "gpt", "value": "cat" }]);
        assert_eq!(told(turns), "<image>\nWhat?|cat");
    }
}
