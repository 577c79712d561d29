//! `loss.itc`: image-text contrastive loss.

use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType,
    },
};
use heddle_tensor::{DynModule, modules::Itc as Config};

use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Itc;

struct Loss {
    config: Config,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for Itc {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "loss.itc",
            version: 1,
            summary: "symmetric image-text contrastive loss with a learned logit scale",
            details: "`image` is one vector an image, or QLLaMA's queries `[B,Q,C]`, of which the most similar one counts (BLIP-2). \
                      Both sides are L2-normalised; logits = exp(logit_scale) * image @ text^T; the loss is the mean of \
                      the cross entropies of rows and columns against the diagonal (CLIP; InternVL stage 1). The \
                      gradients of all features are kept. `logits` is `[images, texts]` and allows different counts. \
                      Pairs without a target in `counts`, or whose text there is blank, are in no mean but still act as \
                      negatives. Pairs of equal `identity` are positives of each other, with equal shares (InternVL's \
                      retrieval fine-tuning).",
            example: "[nodes.itc]\nkind = \"loss.itc\"\nin = { image = \"pool\", text = \"text.eos\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let temperature: f64 = r
            .field("temperature", "initial temperature; logit_scale starts at ln(1/temperature)")
            .positive()
            .or(0.07);
        let config = Config {
            init_scale: (1.0 / temperature).ln(),
            label_smoothing: r
                .field("label-smoothing", "share of the target spread over all pairs")
                .range(0.0..=0.99)
                .or(0.0),
            max_scale: r
                .field("max-scale", "largest exp(logit_scale); CLIP uses 100, the released InternVL no limit")
                .positive()
                .optional(),
        };
        Box::new(Loss { config, published: Published::read(r) })
    }
}

impl NodeSpec for Loss {
    fn inputs(&self) -> Vec<InPort> {
        let port = |name, classes: &[Class], arity, help| InPort {
            name,
            classes: classes.to_vec(),
            arity,
            place: Place::In,
            help,
        };
        vec![
            port(
                "image",
                &[Class::Vector, Class::Sequence],
                Arity::One,
                "image features or queries, not normalised",
            ),
            port("text", &[Class::Vector], Arity::One, "text features, not normalised"),
            port("counts", &[Class::Text, Class::Targets], Arity::Optional, "which pairs count in the mean"),
            port(
                "identity",
                &[Class::Targets],
                Arity::Optional,
                "what each image shows; equals are positives",
            ),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let (image, text) = (inputs.get("image"), inputs.get("text"));
        if let (Some(image), Some(text)) = (image, text)
            && let (Some(a), Some(b)) = (image.shape.last(), text.shape.last())
            && !a.agrees(b)
        {
            return Err(Mismatch {
                port: Some("text"),
                param: None,
                message: format!("image and text features differ in size: {image} against {text}"),
                help: Some("give both towers the same output size".into()),
            });
        }
        Ok(vec![
            OutPort::new("loss", PortType::plain(Class::Loss)),
            OutPort::new("logits", PortType::new(Class::Logits, [Dim::sym("B"), Dim::sym("B")])),
        ])
    }
}

impl ModelNode for Loss {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.config.clone())
    }
}
