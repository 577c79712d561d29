//! `model.mean-pool`: the mean of all tokens.

use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::MeanPool as Config};

use super::{batch, known, one_input};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct MeanPool;

struct Pool(Config);

impl Kind<dyn ModelNode, ()> for MeanPool {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.mean-pool",
            version: 1,
            summary: "the mean of all tokens",
            details: "No parameters; `skip-class` leaves the class token out. Put `model.linear` behind it to project.",
            example: "[nodes.pool]\nkind = \"model.mean-pool\"\nin = \"vit.tokens\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let skip_class = r.field("skip-class", "leave the first (class) token out").or(false);
        Box::new(Pool(Config { skip_class }))
    }
}

impl NodeSpec for Pool {
    fn inputs(&self) -> Vec<InPort> {
        one_input("tokens", &[Class::Sequence], "tokens to average")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let width = known(inputs, "tokens", 0, "width")?;
        let out = PortType::new(Class::Vector, [batch(inputs, "tokens"), width.into()]);
        Ok(vec![OutPort::new("output", out)])
    }
}

impl ModelNode for Pool {
    fn published(&self) -> Option<&Published> {
        None
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.0)
    }
}
