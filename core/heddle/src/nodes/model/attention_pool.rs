//! `model.attention-pool`: InternVL's pooling over all tokens (`clip_projector`).

use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{DynModule, modules::AttentionPool as Config};

use super::{batch, known, one_input, width};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct AttentionPool;

struct Pool {
    config: Config,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for AttentionPool {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.attention-pool",
            version: 1,
            summary: "attention pooling of a sequence to one vector (`clip_projector`)",
            details: "The mean token attends to all tokens: q = norm1_q(mean(x)), k = norm1_k(x), v = norm1_v(x), one \
                      attention over `heads` heads, then a projection to `out`. Three LayerNorms of their own, no \
                      residual, no MLP. InternVL-C pools InternViT's tokens with it, InternVL-G also QLLaMA's queries.",
            example: "[nodes.pool]\nkind = \"model.attention-pool\"\nin = \"vit.tokens\"\nheads = 16\nout = 768\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let base = Config::default();
        let config = Config {
            heads: r
                .field("heads", "attention heads; divide the input's width")
                .min(1)
                .max(65_536)
                .or(base.heads),
            out_dim: r.field("out", "size of the embedding").min(1).max(65_536).or(base.out_dim),
            eps: r.field("eps", "epsilon of the LayerNorms").positive().or(base.eps),
            ..base
        };
        Box::new(Pool { config, published: Published::read(r) })
    }
}

impl NodeSpec for Pool {
    fn inputs(&self) -> Vec<InPort> {
        one_input("tokens", &[Class::Sequence], "tokens to pool")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let width = known(inputs, "tokens", 0, "width")?;
        let heads = self.config.heads;
        if width % heads != 0 {
            return Err(Mismatch {
                port: Some("tokens"),
                param: Some("heads"),
                message: format!("{heads} heads do not divide the input's width {width}"),
                help: None,
            });
        }
        let out = PortType::new(Class::Vector, [batch(inputs, "tokens"), self.config.out_dim.into()]);
        Ok(vec![OutPort::new("output", out)])
    }
}

impl ModelNode for Pool {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, inputs: &Inputs) -> Box<dyn DynModule> {
        Box::new(Config { dim: width(inputs, "tokens"), ..self.config.clone() })
    }
}
