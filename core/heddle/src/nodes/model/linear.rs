//! `model.linear`: a linear layer on vectors or sequences.

use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::Linear as Config};

use super::{known, one_input, width};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Linear;

struct Layer {
    out: usize,
    bias: bool,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Linear {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.linear",
            version: 1,
            summary: "a linear layer on a vector or on every row of a sequence",
            details: "y = x W^T + b with `weight` `[out, in]` and `bias` `[out]`, as torch.nn.Linear.",
            example: "[nodes.head]\nkind = \"model.linear\"\nin = \"vit.pooler\"\nout = 128\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        Box::new(Layer {
            out: r.field("out", "output size").min(1).max(1 << 20).required(),
            bias: r.field("bias", "add a bias").or(true),
            published: Published::read(r),
        })
    }
}

impl NodeSpec for Layer {
    fn inputs(&self) -> Vec<InPort> {
        one_input("input", &[Class::Vector, Class::Sequence], "vectors or sequences")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        known(inputs, "input", 0, "width")?;
        let mut ty = inputs.get("input").cloned().unwrap_or_else(|| PortType::plain(Class::Vector));
        if let Some(last) = ty.shape.last_mut() {
            *last = self.out.into();
        }
        Ok(vec![OutPort::new("output", ty)])
    }
}

impl ModelNode for Layer {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config { inputs: width(inputs, "input"), outputs: self.out, bias: self.bias })
    }
}
