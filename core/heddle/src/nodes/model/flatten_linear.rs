//! `model.flatten-linear`: one linear map over all tokens at once.

use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::FlattenLinear as Config};

use super::{batch, known, one_input, width};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct FlattenLinear;

struct Flatten {
    out: usize,
    bias: bool,
    skip_class: bool,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for FlattenLinear {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.flatten-linear",
            version: 1,
            summary: "one linear map over the concatenation of all tokens",
            details: "`[B,N,C]` is read as `[B,N*C]`, so the head knows where a token stands. It works for one image \
                      size only and is no part of InternVL, but from scratch on a small budget it learns several \
                      times faster than pooling. `skip-class` leaves the class token out.",
            example: "[nodes.pool]\nkind = \"model.flatten-linear\"\nin = \"vit.tokens\"\nout = 128\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        Box::new(Flatten {
            out: r.field("out", "size of the embedding").min(1).max(65_536).or(768),
            bias: r.field("bias", "add a bias").or(true),
            skip_class: r.field("skip-class", "leave the first (class) token out").or(false),
            published: Published::read(r),
        })
    }
}

impl NodeSpec for Flatten {
    fn inputs(&self) -> Vec<InPort> {
        one_input("tokens", &[Class::Sequence], "tokens to map")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        known(inputs, "tokens", 0, "width")?;
        known(inputs, "tokens", 1, "number of tokens")?;
        let out = PortType::new(Class::Vector, [batch(inputs, "tokens"), self.out.into()]);
        Ok(vec![OutPort::new("output", out)])
    }
}

impl ModelNode for Flatten {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config {
            tokens: known(inputs, "tokens", 1, "number of tokens").unwrap_or(0),
            width: width(inputs, "tokens"),
            outputs: self.out,
            bias: self.bias,
            skip_class: self.skip_class,
        })
    }
}
