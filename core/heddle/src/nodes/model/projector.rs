//! `model.projector`: the perceptron between an encoder and a language model.

use heddle_graph::{
    config::Reader,
    graph::{Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::Projector as Config};

use super::{batch, known, one_input, width};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Projector;

struct Mlp {
    out: usize,
    norm: bool,
    skip_class: bool,
    eps: f64,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Projector {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.projector",
            version: 1,
            summary: "linear, GELU, linear: from an encoder's tokens to a language model's embeddings",
            details: "LLaVA-1.5's `mlp2x_gelu`, parameters `0.*` and `2.*`; with `norm = true` a layer norm comes first and they \
                      are `0.*`, `1.*`, `3.*`, as in InternVL-Chat with QLLaMA. `skip-class` leaves the class token out, as the \
                      chat models do with InternViT's tokens.",
            example: "[nodes.mlp1]\nkind = \"model.projector\"\nin = \"vit.hidden.-4\"\nout = 4096\nskip-class = true\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        Box::new(Mlp {
            out: r.field("out", "width of the language model").min(1).max(65_536).required(),
            norm: r.field("norm", "whether a layer norm comes first").or(false),
            skip_class: r.field("skip-class", "leave the first (class) token out").or(false),
            eps: r.field("eps", "epsilon of the layer norm").positive().or(1e-5),
            published: Published::read(r),
        })
    }
}

impl NodeSpec for Mlp {
    fn inputs(&self) -> Vec<InPort> {
        one_input("tokens", &[Class::Sequence], "tokens of an encoder")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        known(inputs, "tokens", 0, "width")?;
        let length = inputs.get("tokens").and_then(|ty| ty.shape.get(1).cloned());
        let length = match length.unwrap_or_else(|| Dim::sym("N")) {
            Dim::Const(len) if self.skip_class => Dim::Const(len.saturating_sub(1)),
            Dim::Sym(len) if self.skip_class => Dim::Sym(format!("{len}-1")),
            len => len,
        };
        let out = PortType::new(Class::Sequence, [batch(inputs, "tokens"), length, self.out.into()]);
        Ok(vec![OutPort::new("output", out)])
    }
}

impl ModelNode for Mlp {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        let Self { out, norm, skip_class, eps, .. } = *self;
        Box::new(Config { width: width(inputs, "tokens"), out, norm, skip_class, eps })
    }
}
