//! `loss.probe`: a weighted sum, for comparing gradients with another implementation.

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use heddle_tensor::{DynModule, modules::Probe as Config};

use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Probe;

struct Loss;

impl Kind<dyn ModelNode, ()> for Probe {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.probe",
            version: 1,
            summary: "sum(input * probe): a scalar whose gradients can be compared with PyTorch",
            details: "The probe is an input of the graph with the shape of `input`; see `heddle apply --grad`.",
            example: "[nodes.probe]\nkind = \"loss.probe\"\nin = { input = \"vit.tokens\", probe = \"weights\" }\n",
        }
    }

    fn read(&self, _: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        Box::new(Loss)
    }
}

impl NodeSpec for Loss {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, help| InPort {
            name,
            classes: vec![Class::Sequence, Class::Vector],
            arity: Arity::One,
            place: Place::In,
            help,
        };
        vec![port("input", "what is probed"), port("probe", "its weights, of the same shape")]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let (Some(x), Some(probe)) = (inputs.get("input"), inputs.get("probe")) {
            let fits = x.shape.len() == probe.shape.len()
                && x.shape.iter().zip(&probe.shape).all(|(a, b)| a.agrees(b));
            if !fits {
                return Err(Mismatch {
                    port: Some("probe"),
                    param: None,
                    message: format!("the probe {probe} has not the shape of {x}"),
                    help: None,
                });
            }
        }
        Ok(vec![OutPort::new("loss", PortType::plain(Class::Loss))])
    }
}

impl ModelNode for Loss {
    fn published(&self) -> Option<&Published> {
        None
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config)
    }
}
