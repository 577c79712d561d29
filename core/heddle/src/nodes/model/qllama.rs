//! `model.qllama`: LLaMA with learnable queries that look at an image.

use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType,
    },
};
use heddle_tensor::{
    DynModule,
    modules::{Decoder, Mix, Qllama as Config, Vision},
};

use super::{
    batch,
    decoder::{read_decoder, read_projection, state_ports, text_ports},
    width,
};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Qllama;

struct Middleware {
    decoder: Decoder,
    /// Its width is that of the input.
    vision: Vision,
    projection: Option<usize>,
    head: bool,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Qllama {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.qllama",
            version: 1,
            summary: "QLLaMA: LLaMA with learnable queries and cross-attention to an image",
            details: "LLaMA's layers over queries and then text; in every `cross-every`-th layer, between self-attention and \
                      the MLP, the queries also look at `vision` (all tokens of InternViT's last hidden state). No gate \
                      (InternVL, CVPR 2024, section 3.2). What is connected decides what it computes: `vision` alone encodes \
                      an image (`queries`), `text` alone a text as `model.llama` does (causal), both together as `mask` \
                      says. Several calls with one set of parameters are nodes that `share` it: `[nodes.match]`, `share = \
                      \"qllama\"`. A call for text alone needs neither queries nor cross-attention. The text's outputs are \
                      those of `model.llama`, and so is `lora`, on self-attention and MLP. The defaults are InternVL's 8B \
                      middleware.",
            example: "[nodes.qllama]\nkind = \"model.qllama\"\nin = { vision = \"vit.tokens\" }\nvocab = 4096\nwidth = 96\n\
                      depth = 2\nheads = 4\nmlp-width = 256\nqueries = 16\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let decoder = read_decoder(r);
        let base = Vision::default();
        let vision = Vision {
            queries: r.field("queries", "number of learnable queries").min(1).max(65_536).or(base.queries),
            every: r
                .field("cross-every", "layer i has cross-attention if i is a multiple of this")
                .min(1)
                .max(4_096)
                .or(base.every),
            mix: r
                .choice(
                    "mask",
                    "who sees whom, where both an image and a text are connected; padding is seen by nobody",
                    &[
                        ("itm", Mix::Full, "everything sees everything: matching, and questions of a chat"),
                        ("itg", Mix::Causal, "text sees queries and the text before it: generation"),
                        (
                            "itc",
                            Mix::Separate,
                            "text sees the text before it only: both encodings in one sequence",
                        ),
                    ],
                )
                .or("itm"),
            ..base
        };
        let projection = read_projection(r);
        let head = r.field("head", "whether there is `lm_head`, from states to scores of tokens").or(true);
        Box::new(Middleware { decoder, vision, projection, head, published: Published::read(r) })
    }
}

impl NodeSpec for Middleware {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, class, help| InPort {
            name,
            classes: vec![class],
            arity: Arity::Optional,
            place: Place::In,
            help,
        };
        vec![
            port("vision", Class::Sequence, "visual features that the queries look at"),
            port("text", Class::Text, "token ids"),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let (seen, text) = (inputs.get("vision"), inputs.get("text"));
        if seen.is_some() {
            super::known(inputs, "vision", 0, "width")?;
        }
        let from = match (seen, text) {
            (Some(_), _) => "vision",
            (None, Some(_)) => "text",
            (None, None) => {
                return Err(Mismatch {
                    port: None,
                    param: None,
                    message: "neither an image nor a text is connected".into(),
                    help: Some("write `in = { vision = \"vit.tokens\" }`, or `text`, or both".into()),
                });
            }
        };
        let batch = batch(inputs, from);
        let queries = seen.map_or(0, |_| self.vision.queries);
        let length = text.map(|ty| ty.shape.get(1).cloned().unwrap_or_else(|| Dim::sym("T")));
        let mut ports = Vec::new();
        if seen.is_some() {
            let shape = [batch.clone(), queries.into(), self.decoder.width.into()];
            ports.push(OutPort::new("queries", PortType::new(Class::Sequence, shape)));
        }
        if let Some(length) = &length {
            let shape = [batch.clone(), length.clone()];
            ports.extend(text_ports(&self.decoder, self.projection, self.head, shape));
        }
        let whole = match (queries, length) {
            (queries, None) => queries.into(),
            (0, Some(length)) => length,
            (queries, Some(Dim::Const(length))) => (queries + length).into(),
            (queries, Some(Dim::Sym(length))) => Dim::Sym(format!("{queries}+{length}")),
        };
        ports.extend(state_ports(&self.decoder, batch, whole));
        Ok(ports)
    }
}

impl ModelNode for Middleware {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        let vision =
            inputs.get("vision").map(|_| Vision { width: width(inputs, "vision"), ..self.vision.clone() });
        Box::new(Config {
            decoder: self.decoder.clone(),
            vision,
            projection: self.projection,
            head: self.head,
            text: inputs.get("text").is_some(),
        })
    }
}
