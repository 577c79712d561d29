//! `features`: one vector a record, exported.

use std::sync::Arc;

use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType,
    },
};
use heddle_tensor::Precision;

use super::{
    Node, SeeFrozen,
    data::Records,
    precision,
    towers::{Tower, check_images, check_output, features_bytes, needed, no_graph},
};
use crate::{
    device::{Need, on_backend},
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::{Cut, Feed, ModelGraph, Models},
};

/// The kind.
pub struct Features;

struct Export {
    graph: Option<Arc<ModelGraph>>,
    output: String,
    batch: usize,
    precision: Precision,
}

impl Kind<dyn Node, Models> for Features {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "features",
            version: 3,
            summary: "embeds every record's image with a trained model graph",
            details: "Runs the part of the graph that the output needs, without a tape, on every record in the order of \
                      the records. The artifact is a safetensors file with one tensor `features` `[n, width]`, not \
                      normalised; the row of an image that does not decode is zero, and named in the metadata. A row does not depend on the batch it was computed in, and is kept under \
                      what computes it and the bytes of its picture: only pictures that were never seen before are computed.",
            example: "[nodes.embed]\nkind = \"features\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\n\
                      in = \"heldout\"\noutput = \"image_embeds\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let graph = models.get(r.required_graph("graph", "the model graph that is run"));
        let output: String =
            r.field("output", "the graph's output that is exported").or("image_embeds".to_owned());
        let batch = r
            .field("batch", "records a pass")
            .min(1)
            .max(1 << 20)
            .not_in_key("a record's features do not depend on its batch")
            .or(128);
        let precision = precision::read(r);
        if let Some(graph) = &graph {
            check_output(r, graph, &output, Class::Image);
        }
        Box::new(Export { graph, output, batch, precision })
    }
}

impl Export {
    fn need_of(&self) -> Need {
        Need { precision: self.precision, learns: false, batch: self.batch }
    }
}

impl NodeSpec for Export {
    fn inputs(&self) -> Vec<InPort> {
        let port =
            |name, class, place, help| InPort { name, classes: vec![class], arity: Arity::One, place, help };
        vec![
            port("records", Class::Records, Place::In, "records whose images are embedded"),
            port("weights", Class::Weights, Place::Key, "weights of the graph, from a training stage"),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let mut shape = vec![Dim::sym("n")];
        if let Some(graph) = &self.graph {
            check_images(graph, inputs)?;
            if let Some((_, ty)) = graph.output(&self.output) {
                shape.extend(ty.shape.last().cloned());
            }
        }
        Ok(vec![OutPort::new("features", PortType::new(Class::Features, shape))])
    }
}

impl Node for Export {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.graph.as_ref()
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn need(&self) -> Option<Need> {
        Some(self.need_of())
    }

    fn cut(&self) -> Option<Cut> {
        let graph = self.graph.as_ref()?;
        let (source, _) = graph.output(&self.output)?;
        Some(graph.cut(&[source], &|_| false, &|_| Feed::Same))
    }

    fn memory_bytes(&self) -> u64 {
        let Some(graph) = &self.graph else { return 0 };
        let nodes = graph.output(&self.output).map(|(source, _)| needed(graph, &source)).unwrap_or_default();
        precision::bytes(self.precision) * graph.count_parameters(&nodes)
    }

    fn frozen(&self, cx: &RunContext<'_>, see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let need = self.need_of();
        on_backend!(cx.compute.open(need)?, |backend| {
            Tower::load(graph, &self.output, cx.input("weights")?, backend)?.see_frozen(cx, need, see)
        })
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let records = Records::read(cx.input("records")?)?;
        let need = self.need_of();
        let (rows, skipped) = on_backend!(cx.compute.open(need)?, |backend| {
            let tower = Tower::load(graph, &self.output, cx.input("weights")?, backend)?;
            tower.images(cx, &records, need)?
        });
        let belongs = cx.input("records")?.digest.to_string();
        Ok(output("features", features_bytes(rows, &skipped, belongs)))
    }
}
