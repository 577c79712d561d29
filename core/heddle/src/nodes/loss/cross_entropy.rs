//! `loss.cross-entropy`: the loss of classifiers.

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use heddle_tensor::{DynModule, modules::CrossEntropy as Config};

use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct CrossEntropy;

struct Loss(Config);

impl Kind<dyn ModelNode, ()> for CrossEntropy {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.cross-entropy",
            version: 1,
            summary: "cross entropy of a classifier",
            details: "The mean over the records that have a class (torch.nn.CrossEntropyLoss with `ignore_index = -100`). `targets` is \
                      an input of the graph of the type `targets`, which a training stage fills from `labels`.",
            example: "[nodes.ce]\nkind = \"loss.cross-entropy\"\nin = { logits = \"head\", targets = \"label\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let label_smoothing = r
            .field("label-smoothing", "share of each target that is spread over all classes")
            .range(0.0..=1.0)
            .or(0.0);
        Box::new(Loss(Config { label_smoothing }))
    }
}

impl NodeSpec for Loss {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, classes, help| InPort { name, classes, arity: Arity::One, place: Place::In, help };
        vec![
            port("logits", vec![Class::Vector, Class::Logits], "a score for each class [B,classes]"),
            port("targets", vec![Class::Targets], "the classes"),
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
