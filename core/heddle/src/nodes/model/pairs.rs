//! `model.pairs`: true and false pairs of images and texts, for matching.

use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType,
    },
};
use heddle_tensor::{
    DynModule,
    modules::{PairScheme, Pairs as Config},
};

use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct Pairs;

struct Node(Config);

impl Kind<dyn ModelNode, ()> for Pairs {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.pairs",
            version: 1,
            summary: "true and false pairs of the images and texts of a batch, for `loss.itm`",
            details: "`half`: the last floor(B/2) images keep their text, the others get a false one: that of `negative`, \
                      else another of the batch at random (InternVL's released stage 2). `both`: a false text for each image, \
                      then all true pairs (its retrieval fine-tuning). `hard`: true pairs, a false image for each text, a false \
                      text for each image, drawn by the softmax of `similarity` (BLIP-2, Li et al., 2023). `targets` is 1 \
                      for true pairs, 0 for false ones; pairs with a blank text do not count. Pairs of equal `identity` are \
                      never false ones. No parameters.",
            example: "[nodes.pairs]\nkind = \"model.pairs\"\nin = { vision = \"vit.tokens\", text = \"caption\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let scheme = r
            .choice(
                "scheme",
                "how false pairs are made",
                &[
                    ("half", PairScheme::Half, "B pairs, half of them true"),
                    ("both", PairScheme::Both, "2 B pairs: false ones, then true ones"),
                    ("hard", PairScheme::Hard, "3 B pairs, the false ones drawn by `similarity`"),
                ],
            )
            .or("half");
        Box::new(Node(Config { scheme }))
    }
}

impl NodeSpec for Node {
    fn inputs(&self) -> Vec<InPort> {
        let port =
            |name, class, arity, help| InPort { name, classes: vec![class], arity, place: Place::In, help };
        vec![
            port("vision", Class::Sequence, Arity::One, "visual features"),
            port("text", Class::Text, Arity::One, "the text of each image"),
            port("negative", Class::Text, Arity::Optional, "a false text for each image"),
            port("similarity", Class::Logits, Arity::Optional, "`logits` of `loss.itc`, for hard negatives"),
            port(
                "identity",
                Class::Targets,
                Arity::Optional,
                "what each image shows; equals are no negatives",
            ),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let hard = self.0.scheme == PairScheme::Hard;
        let wrong = |port: &'static str, message: &str, help: &str| Mismatch {
            port: Some(port),
            param: Some("scheme"),
            message: message.to_owned(),
            help: Some(help.to_owned()),
        };
        match (hard, inputs.get("similarity"), inputs.get("negative")) {
            (true, None, _) => {
                let help = "write `similarity = \"itc.logits\"` under `in`";
                return Err(wrong("similarity", "hard negatives need `similarity`", help));
            }
            (false, Some(_), _) => {
                let help = "leave it out, or take the scheme `hard`";
                return Err(wrong("similarity", "`similarity` is for hard negatives only", help));
            }
            (true, _, Some(_)) => {
                let help = "leave it out, or take another scheme";
                return Err(wrong("negative", "hard negatives are drawn from the batch", help));
            }
            _ => {}
        }
        let of = |port: &str, index: usize, name: &str| {
            inputs.get(port).and_then(|ty| ty.shape.get(index).cloned()).unwrap_or_else(|| Dim::sym(name))
        };
        let pairs = || Dim::sym("P");
        let seen = [pairs(), of("vision", 1, "N"), of("vision", 2, "C")];
        Ok(vec![
            OutPort::new("vision", PortType::new(Class::Sequence, seen)),
            OutPort::new("text", PortType::new(Class::Text, [pairs(), of("text", 1, "T")])),
            OutPort::new("targets", PortType::new(Class::Targets, [pairs()])),
        ])
    }
}

impl ModelNode for Node {
    fn published(&self) -> Option<&Published> {
        None
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.0.clone())
    }
}
