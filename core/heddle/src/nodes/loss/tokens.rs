//! `loss.itg` and `loss.lm`: the cross entropy of the next token.

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use heddle_tensor::{DynModule, modules::CrossEntropy};

use crate::{model::Published, nodes::ModelNode};

/// `loss.itg`.
pub struct Itg;

/// `loss.lm`.
pub struct Lm;

struct Loss(CrossEntropy);

impl Kind<dyn ModelNode, ()> for Itg {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.itg",
            version: 1,
            summary: "image-grounded text generation: the cross entropy of the caption's tokens",
            details: "Mean over the tokens that count. Of a text with a prefix (`English caption:`) those are the prefix's last \
                      token and everything behind it, `</s>` too: labels -100 on padding and on the first prefix_len - 1 \
                      tokens, as in InternVL's released stage 2. The rows come from a `model.qllama` whose `mask` is `itg`.",
            example: "[nodes.itg]\nkind = \"loss.itg\"\nin = { logits = \"write.predictions\", targets = \"write.targets\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        read(r)
    }
}

impl Kind<dyn ModelNode, ()> for Lm {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.lm",
            version: 1,
            summary: "language model: the cross entropy of the next token",
            details: "Mean over the tokens that count: all but the first of a plain text, the assistant's answers with their \
                      end of a dialogue. The rows come from a `model.llama` with `head = true`.",
            example: "[nodes.lm]\nkind = \"loss.lm\"\nin = { logits = \"decoder.predictions\", targets = \"decoder.targets\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        read(r)
    }
}

fn read(r: &mut Reader<'_>) -> Box<dyn ModelNode> {
    let label_smoothing =
        r.field("label-smoothing", "share of the target spread over all tokens").range(0.0..=0.99).or(0.0);
    Box::new(Loss(CrossEntropy { label_smoothing }))
}

impl NodeSpec for Loss {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, class, help| InPort {
            name,
            classes: vec![class],
            arity: Arity::One,
            place: Place::In,
            help,
        };
        vec![
            port("logits", Class::Logits, "scores, `predictions` of a decoder"),
            port("targets", Class::Targets, "the tokens that come, `targets` of the same"),
        ]
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("loss", PortType::plain(Class::Loss))])
    }
}

impl ModelNode for Loss {
    fn published(&self) -> Option<&Published> {
        None
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.0.clone())
    }
}
