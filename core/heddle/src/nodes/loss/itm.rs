//! `loss.itm`: image-text matching.

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use heddle_tensor::{DynModule, modules::Itm as Config};

use crate::{
    model::Published,
    nodes::{
        ModelNode,
        model::{batch, known, width},
    },
};

/// The kind.
pub struct Itm;

struct Loss {
    head: bool,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Itm {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.itm",
            version: 1,
            summary: "image-text matching: do these two belong together?",
            details: "A linear layer gives every query two scores, whose mean over the queries is `logits` `[B,2]`; class 1 is a \
                      match. `loss` is the cross entropy against `targets`, usually those of `model.pairs` (BLIP-2; \
                      InternVL's stage 2). The queries come from a `model.qllama` whose `mask` is `itm`.",
            example: "[nodes.itm]\nkind = \"loss.itm\"\nin = { queries = \"match.queries\", targets = \"pairs.targets\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let head = r
            .field("head", "whether the linear layer is here; without it queries are scores `[B,Q,2]`")
            .or(true);
        Box::new(Loss { head, published: Published::read(r) })
    }
}

impl NodeSpec for Loss {
    fn inputs(&self) -> Vec<InPort> {
        let port =
            |name, class, arity, help| InPort { name, classes: vec![class], arity, place: Place::In, help };
        vec![
            port("queries", Class::Sequence, Arity::One, "queries that saw image and text"),
            port(
                "targets",
                Class::Targets,
                Arity::Optional,
                "1 where they belong together; the loss needs them",
            ),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let found = known(inputs, "queries", 0, "width")?;
        if !self.head && found != 2 {
            return Err(Mismatch {
                port: Some("queries"),
                param: Some("head"),
                message: format!("scores have two columns, not {found}"),
                help: Some("set `head = true`".into()),
            });
        }
        let logits = PortType::new(Class::Logits, [batch(inputs, "queries"), 2.into()]);
        let mut ports = vec![OutPort::new("logits", logits)];
        if inputs.get("targets").is_some() {
            ports.insert(0, OutPort::new("loss", PortType::plain(Class::Loss)));
        }
        Ok(ports)
    }
}

impl ModelNode for Loss {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config { width: self.head.then(|| width(inputs, "queries")) })
    }
}
