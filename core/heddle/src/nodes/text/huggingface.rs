//! `text.huggingface`: an existing `tokenizer.json`.

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
pub struct HuggingFace;

struct File {
    tokens: Tokens,
}

impl Kind<dyn Node, Models> for HuggingFace {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "text.huggingface",
            version: 1,
            summary: "reads a Hugging Face tokenizer.json",
            details: "BPE with byte fallback (LLaMA 1 and 2) and byte-level BPE (LLaMA 3, SmolLM2) as the crate \
                      `tokenizers` reads them. The specials `<s>`, `</s>`, `<unk>` and `<pad>` are found by name.",
            example: "[nodes.tokenizer]\nkind = \"text.huggingface\"\nfile = \"tokenizer.json\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.file("file", "the tokenizer.json").required();
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
        let tokenizer = Tokenizer::from_json(&cx.file("file")?).map_err(NodeError::data)?;
        cx.progress.note(format!("{} tokens", tokenizer.vocab_size()));
        self.tokens.give(cx, tokenizer)
    }
}
