//! `model.unit-sum`: InternVL-G's image feature, the sum of two unit vectors.

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use heddle_tensor::{DynModule, modules::UnitSum as Config};

use super::{batch, known};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct UnitSum;

struct Sum;

impl Kind<dyn ModelNode, ()> for UnitSum {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.unit-sum",
            version: 1,
            summary: "a / |a| + b / |b|: the ensemble of two poolings",
            details: "InternVL-G embeds an image as the sum of the unit vectors of `clip_projector` on InternViT and of \
                      `clip_projector2` on QLLaMA's queries (released code, `encode_image` in mode G). No parameters.",
            example: "[nodes.both]\nkind = \"model.unit-sum\"\nin = { a = \"pool\", b = \"pool2\" }\n",
        }
    }

    fn read(&self, _: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        Box::new(Sum)
    }
}

impl NodeSpec for Sum {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, help| InPort {
            name,
            classes: vec![Class::Vector],
            arity: Arity::One,
            place: Place::In,
            help,
        };
        vec![port("a", "vectors"), port("b", "vectors of the same width")]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let [a, b] = [known(inputs, "a", 0, "width")?, known(inputs, "b", 0, "width")?];
        if a != b {
            return Err(Mismatch {
                port: Some("b"),
                param: None,
                message: format!("the vectors differ in size: {a} against {b}"),
                help: Some("give both poolings the same output size".into()),
            });
        }
        let out = PortType::new(Class::Vector, [batch(inputs, "a"), a.into()]);
        Ok(vec![OutPort::new("output", out)])
    }
}

impl ModelNode for Sum {
    fn published(&self) -> Option<&Published> {
        None
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config)
    }
}
