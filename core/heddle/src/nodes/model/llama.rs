//! `model.llama`: a LLaMA decoder as causal text encoder.

use heddle_graph::{
    config::Reader,
    graph::{Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::Llama as Config};

use super::{batch, checkpoint, one_input};
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
            summary: "LLaMA as causal text encoder; the feature of the last token, projected",
            details: "Pre-norm decoder with RMSNorm, rotary positions (half-split form) and SwiGLU, no biases. Padding \
                      is id 0 and masked. `hidden` is the output of the final norm, `last` its row at the last real \
                      token (`</s>`), `eos` that row times `text_projection` `[width, projection]`. The defaults are \
                      the 7B text encoder of InternVL-C. The prompt prefix (`summarize:`) and the text length belong \
                      to the graph's input: `inputs = { caption = { type = \"text\", prefix = \"summarize:\", length = 80 } }`.",
            example: "[nodes.text]\nkind = \"model.llama\"\nin = \"caption\"\nvocab = 4096\nwidth = 96\ndepth = 1\nheads = 4\n\
                      mlp-width = 256\nprojection = 128\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let base = Config::default();
        let config = Config {
            vocab: r.field("vocab", "vocabulary size").min(3).max(1 << 24).or(base.vocab),
            width: r.field("width", "hidden size").min(1).max(65_536).or(base.width),
            depth: r.field("depth", "number of layers").min(1).max(4_096).or(base.depth),
            heads: r
                .field("heads", "attention heads; divide the width into even parts")
                .min(1)
                .max(65_536)
                .or(base.heads),
            mlp_width: r
                .field("mlp-width", "hidden size of the gated MLP")
                .min(1)
                .max(1 << 20)
                .or(base.mlp_width),
            eps: r.field("eps", "epsilon of the RMSNorms").positive().or(base.eps),
            rope_base: r.field("rope-base", "base of the rotary frequencies").positive().or(base.rope_base),
            max_positions: r
                .field("max-positions", "longest text, tokens")
                .min(1)
                .max(1 << 20)
                .or(base.max_positions),
            projection: r
                .field("projection", "size of `text_projection`; without it `eos` equals `last`")
                .min(1)
                .max(65_536)
                .optional(),
            checkpoint: checkpoint(r),
        };
        if !config.width.is_multiple_of(config.heads) || !(config.width / config.heads).is_multiple_of(2) {
            let message =
                format!("{} heads do not divide the width {} into even parts", config.heads, config.width);
            r.error(
                "heads",
                &message,
                Some("rotary positions turn pairs of values, so a head needs an even size"),
            );
        }
        Box::new(Text { config, published: Published::read(r) })
    }
}

impl NodeSpec for Text {
    fn inputs(&self) -> Vec<InPort> {
        one_input("text", &[Class::Text], "token ids")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let batch = batch(inputs, "text");
        let length =
            inputs.get("text").and_then(|ty| ty.shape.get(1).cloned()).unwrap_or_else(|| Dim::sym("T"));
        let Config { width, projection, .. } = self.config;
        let vector = |size: usize| PortType::new(Class::Vector, [batch.clone(), size.into()]);
        Ok(vec![
            OutPort::new("eos", vector(projection.unwrap_or(width))),
            OutPort::new("last", vector(width)),
            OutPort::new("hidden", PortType::new(Class::Sequence, [batch.clone(), length, width.into()])),
        ])
    }
}

impl ModelNode for Text {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.config.clone())
    }
}
