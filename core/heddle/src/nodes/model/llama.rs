//! `model.llama`: a LLaMA decoder as text tower or language model.

use std::collections::BTreeMap;

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place},
};
use heddle_tensor::{DynModule, modules::Llama as Config};

use super::{
    batch,
    decoder::{read_decoder, read_projection, state_ports, text_ports},
    one_input,
};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Llama;

struct Text {
    config: Config,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Llama {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.llama",
            version: 1,
            summary: "LLaMA: a causal text tower, a language model, the decoder of a chat",
            details: "Pre-norm decoder with RMSNorm, rotary positions (half-split form) and SwiGLU, no biases. Padding \
                      is id 0 and masked. `hidden` is the output of the final norm, `last` its row at the last real \
                      token (`</s>`), `eos` that row times `text_projection` `[width, projection]`. With `head = true` \
                      there is `lm_head`: `logits` `[B,T,vocab]`, and for losses `predictions` and `targets`, the rows \
                      that predict a token which counts (`loss.lm`). `context` names sequences whose rows stand for \
                      tokens, such as the image's in a chat: `context-tokens` has the id of each, and every such token \
                      takes the next row. `states.i` is the sequence before layer i. `lora` puts a pair of thin matrices, `lora_A` \
                      `[rank,in]` and `lora_B` `[out,rank]`, beside the projections that it names, in every layer: y = W x + \
                      alpha/rank B A dropout(x) (Hu et al. 2021; names and start are those of PEFT). A new pair changes \
                      nothing. `train = [\"llm.*.lora_A\", \"llm.*.lora_B\"]` trains the pairs of the node `llm` alone; \
                      weights of a run without them load (`weights = { llm = \"talk\" }`), and `heddle export` merges \
                      them. The defaults are \
                      the 7B text encoder of InternVL-C. The prompt prefix (`summarize:`) and the text length belong \
                      to the graph's input: `inputs = { caption = { type = \"text\", prefix = \"summarize:\", length = 80 } }`.",
            example: "[nodes.text]\nkind = \"model.llama\"\nin = \"caption\"\nvocab = 4096\nwidth = 96\ndepth = 1\nheads = 4\n\
                      mlp-width = 256\nprojection = 128\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let decoder = read_decoder(r);
        let projection = read_projection(r);
        let head = r.field("head", "whether there is `lm_head`, from states to scores of tokens").or(false);
        let context: BTreeMap<String, u32> = r
            .map("context-tokens", "ids of the tokens for which rows of `context` stand")
            .into_iter()
            .collect();
        let context = context.into_iter().map(|(name, id)| (format!("context.{name}"), id)).collect();
        let config = Config { decoder, projection, head, context };
        Box::new(Text { config, published: Published::read(r) })
    }
}

impl NodeSpec for Text {
    fn inputs(&self) -> Vec<InPort> {
        let mut ports = one_input("text", &[Class::Text], "token ids");
        ports.push(InPort {
            name: "context",
            classes: vec![Class::Sequence],
            arity: Arity::Any,
            place: Place::In,
            help: "sequences whose rows stand for tokens, by name: `{ image = \"projector\" }`",
        });
        ports
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let Config { decoder, projection, head, context } = &self.config;
        let given = inputs.all("context");
        if given.len() != context.len() {
            return Err(Mismatch {
                port: Some("context"),
                param: Some("context-tokens"),
                message: format!("{} sequences of context, but ids for {}", given.len(), context.len()),
                help: Some("give each an id: `context-tokens = { image = 5 }`".into()),
            });
        }
        if let Some(ty) =
            given.iter().find(|ty| !ty.shape.last().is_some_and(|dim| dim.agrees(&decoder.width.into())))
        {
            return Err(Mismatch {
                port: Some("context"),
                param: None,
                message: format!(
                    "{ty} cannot stand for tokens, whose embeddings have width {}",
                    decoder.width
                ),
                help: Some("put a projector between".into()),
            });
        }
        let batch = batch(inputs, "text");
        let length =
            inputs.get("text").and_then(|ty| ty.shape.get(1).cloned()).unwrap_or_else(|| Dim::sym("T"));
        let mut ports = text_ports(decoder, *projection, *head, [batch.clone(), length.clone()]);
        ports.extend(state_ports(decoder, batch, length));
        Ok(ports)
    }
}

impl ModelNode for Text {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn context_tokens(&self) -> BTreeMap<String, u32> {
        let context = self.config.context.iter();
        context.map(|(port, id)| (port.trim_start_matches("context.").to_owned(), *id)).collect()
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.config.clone())
    }
}
