//! `text.bpe`: a byte-level BPE tokenizer trained on the records' texts.

use heddle_data::text::{BpeOptions, Tokenizer};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};

use crate::{
    exec::{NodeError, Outputs, RunContext, output},
    model::Models,
    nodes::{
        Node,
        data::{Records, column_texts},
    },
};

/// The kind.
pub struct Bpe;

struct Train {
    vocab: usize,
    lowercase: bool,
    columns: Vec<String>,
}

impl Kind<dyn Node, Models> for Bpe {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "text.bpe",
            version: 1,
            summary: "trains a byte-level BPE tokenizer on text columns",
            details: "Every distinct text of the columns counts once (a list column gives each of its texts). `<pad>`, \
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
        Ok(vec![OutPort::new("tokenizer", PortType::new(Class::Tokenizer, [self.vocab.into()]))])
    }
}

impl Node for Train {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut texts: Vec<String> = Vec::new();
        let mut found = vec![false; self.columns.len()];
        let mut settled = 0;
        for record in records.manifest.records() {
            let record = record?;
            for (column, found) in self.columns.iter().zip(&mut found) {
                let before = texts.len();
                texts.extend(column_texts(&record, column));
                *found |= texts.len() > before;
            }
            // Texts repeat, across records and styles; memory holds each one a few times at the most.
            if texts.len() > 2 * settled + 100_000 {
                texts.sort_unstable();
                texts.dedup();
                settled = texts.len();
            }
        }
        if let Some((column, _)) = self.columns.iter().zip(found).find(|(_, found)| !found) {
            return Err(NodeError::Other(format!("no record has text in the column `{column}`")));
        }
        texts.sort_unstable();
        texts.dedup();
        let options =
            BpeOptions { vocab_size: self.vocab, lowercase: self.lowercase, ..BpeOptions::default() };
        let tokenizer = Tokenizer::train_bpe(&texts, &options).map_err(NodeError::data)?;
        Ok(output("tokenizer", tokenizer.to_json()))
    }
}
