//! `text.sentencepiece`: an existing SentencePiece model.

use heddle_data::text::Tokenizer;
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};

use super::tokens::Tokens;
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct SentencePiece;

struct File {
    tokens: Tokens,
}

impl Kind<dyn Node, Models> for SentencePiece {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "text.sentencepiece",
            version: 1,
            summary: "reads a SentencePiece model, such as LLaMA's tokenizer.model",
            details: "BPE models that keep letters and spaces as they are: LLaMA 1 and 2, Vicuna, Chinese-Alpaca. The artifact is the \
                      Hugging Face `tokenizer.json` that `transformers` makes of such a file. The specials `<s>`, `</s>`, `<unk>` and \
                      `<pad>` are found by name.",
            example: "[nodes.tokenizer]\nkind = \"text.sentencepiece\"\nfile = \"tokenizer.model\"\n\
                      tokens = [\"<IMG>\", \"</IMG>\", \"<IMG_CONTEXT>\"]\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.file("file", "the .model file").required();
        Box::new(File { tokens: Tokens::read(r) })
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
        let tokenizer = Tokenizer::from_sentencepiece(&cx.file("file")?).map_err(NodeError::data)?;
        cx.progress.note(format!("{} pieces", tokenizer.vocab_size()));
        self.tokens.give(cx, tokenizer)
    }
}
