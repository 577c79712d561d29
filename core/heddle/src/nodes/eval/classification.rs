//! `eval.classification`: accuracy of a classifier.

use std::sync::Arc;

use heddle_data::Record;
use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeId, NodeSpec, OutPort, Place, PortType,
        Source,
    },
};
use heddle_tensor::{Backend, Precision};

use super::{
    labels::by_split,
    measure::{Measurement, Metrics},
};
use crate::{
    device::{Need, on_backend},
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::{Cut, ModelGraph, Models},
    nodes::{
        Node, SeeFrozen,
        data::{Labels, Records, read_labels},
        precision,
        towers::{Loaded, Seen, check_images, input_of, no_graph, see_frozen, seen_cut},
    },
};

/// The kind.
pub struct Classification;

struct Eval {
    graph: Option<Arc<ModelGraph>>,
    output: String,
    /// Absent only where the file lacks it, which is reported.
    labels: Option<Labels>,
    batch: usize,
    precision: Precision,
}

impl Kind<dyn Node, Models> for Classification {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.classification",
            version: 1,
            summary: "top-1 and top-5 accuracy of a classifier",
            details: "The class with the highest score is the answer; of equal scores the first. Records without a class are left out. \
                      Accuracies in per cent, by split; top-5 where there are more than five classes.",
            example: "[nodes.accuracy]\nkind = \"eval.classification\"\ngraph = \"../graphs/linear-probe.toml\"\nweights = \"probe\"\n\
                      in = \"heldout\"\nlabels = { column = \"cls\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let graph = models.get(r.required_graph("graph", "the model graph that classifies"));
        let output: String =
            r.field("output", "the graph's output with a score for each class").or("logits".to_owned());
        let labels = read_labels(r);
        if labels.is_none() && !r.is_documenting() {
            let help = "for example `labels = { column = \"cls\" }`";
            r.error("labels", "a classifier is held against the classes of the records", Some(help));
        }
        if let Some(graph) = &graph {
            check_scores(r, graph, &output, labels.as_ref());
        }
        Box::new(Eval {
            graph,
            output,
            labels,
            batch: r
                .field("batch", "records a pass")
                .min(1)
                .max(1 << 20)
                .not_in_key("a record's scores do not depend on its batch")
                .or(128),
            precision: precision::read(r),
        })
    }
}

/// The output gives scores of images, one for each class.
fn check_scores(r: &mut Reader<'_>, graph: &ModelGraph, output: &str, labels: Option<&Labels>) {
    let Some((source, ty)) = graph.output(output) else {
        let known: Vec<&str> = graph.graph().outputs.keys().map(String::as_str).collect();
        let help = format!("the graph's outputs are {}", known.join(", "));
        return r.error("output", format!("the model graph has no output `{output}`"), Some(&help));
    };
    if !matches!(ty.class, Class::Vector | Class::Logits) {
        return r.error("output", format!("`{output}` gives {ty}, not scores"), None);
    }
    if input_of(graph, &source, Class::Image).is_none() {
        let message = format!("`{output}` does not come from exactly one image input");
        return r.error("output", message, None);
    }
    let scores = ty.shape.last().and_then(heddle_graph::graph::Dim::known);
    if let (Some(scores), Some(classes)) = (scores, labels.and_then(Labels::count))
        && scores != classes
    {
        let message = format!("there are {classes} classes, and `{output}` has {scores} scores");
        r.error("labels", message, Some("a score belongs to each class"));
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        let port =
            |name, class, place, help| InPort { name, classes: vec![class], arity: Arity::One, place, help };
        vec![
            port(
                "records",
                Class::Records,
                Place::In,
                "records with classes; their column `split` groups the results",
            ),
            port("weights", Class::Weights, Place::Key, "weights of the graph, from a training stage"),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let Some(graph) = &self.graph {
            check_images(graph, inputs)?;
        }
        Ok(vec![OutPort::new("metrics", PortType::plain(Class::Metrics))])
    }
}

impl Node for Eval {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.graph.as_ref()
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn need(&self) -> Option<Need> {
        Some(self.need_of())
    }

    fn memory_bytes(&self) -> u64 {
        let Some(graph) = &self.graph else { return 0 };
        let nodes = graph.graph().upstream(&self.nodes(graph));
        precision::bytes(self.precision) * graph.count_parameters(&nodes)
    }

    fn cut(&self) -> Option<Cut> {
        let graph = self.graph.as_ref()?;
        Some(seen_cut(graph, &self.before(graph)))
    }

    fn frozen(&self, cx: &RunContext<'_>, see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let (before, need) = (self.before(&graph), self.need_of());
        on_backend!(cx.compute.open(need)?, |backend| {
            let loaded = Loaded::load(graph.clone(), &self.nodes(&graph), cx.input("weights")?, backend)?;
            see_frozen(cx, &loaded, &before, need, see)
        })
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let labels = self.labels.as_ref().ok_or_else(no_graph)?;
        let records = Records::read(cx.input("records")?)?;
        let all = records.collect()?;
        labels.require(records.manifest.records())?;
        let classes: Vec<Option<u32>> =
            all.iter().map(|record| labels.class(record)).collect::<Result<_, _>>()?;
        let ranks = on_backend!(cx.compute.open(self.need_of())?, |backend| {
            let loaded = Loaded::load(graph.clone(), &self.nodes(&graph), cx.input("weights")?, backend)?;
            self.ranks(cx, &loaded, &records, (&all, &classes))?
        });
        let metrics = Metrics { measurements: measure(&all, &ranks), ..Metrics::default() };
        Ok(output("metrics", metrics.to_bytes()?))
    }
}

/// At which place the right class of a record comes, of how many; none if it has none or its image does not decode.
type Rank = Option<(usize, usize)>;

impl Eval {
    fn need_of(&self) -> Need {
        Need { precision: self.precision, learns: false, batch: self.batch }
    }

    fn wanted(&self, graph: &ModelGraph) -> Vec<Source> {
        graph.output(&self.output).map(|(source, _)| source).into_iter().collect()
    }

    /// What the last layer reads: it differs from probe to probe, and what comes before it is kept for all of them.
    fn before(&self, graph: &ModelGraph) -> Vec<Source> {
        let nodes = self.nodes(graph).into_iter();
        nodes.flat_map(|node| graph.reads(node)).map(|(_, source)| source).collect()
    }

    fn nodes(&self, graph: &ModelGraph) -> Vec<NodeId> {
        let node = |source: Source| match source {
            Source::Node { id, .. } => Some(id),
            Source::Input(_) => None,
        };
        self.wanted(graph).into_iter().filter_map(node).collect()
    }

    fn ranks<B: Backend>(
        &self,
        cx: &RunContext<'_>,
        loaded: &Loaded<B>,
        records: &Records,
        (all, classes): (&[Record], &[Option<u32>]),
    ) -> Result<Vec<Rank>, NodeError> {
        let wanted = self.wanted(&loaded.model);
        let seen = Seen::open(cx, loaded, records, &self.before(&loaded.model), self.need_of())?;
        let mut ranks: Vec<Rank> = Vec::with_capacity(all.len());
        for (chunk, classes) in all.chunks(self.batch).zip(classes.chunks(self.batch)) {
            cx.check_cancelled()?;
            let done = ranks.len();
            cx.progress.set(done as u64, all.len() as u64, "");
            let batch = seen.batch(loaded.backend(), chunk)?;
            let scores = loaded.run_from(&batch.inputs, &batch.given, &wanted)?.remove(0).to_host()?;
            let width = scores.shape.last().copied().unwrap_or(0);
            for ((scores, class), record) in scores.data.chunks(width.max(1)).zip(classes).zip(chunk) {
                if scores.iter().any(|score| !score.is_finite()) {
                    let message = format!(
                        "the scores of record `{}` are not finite; the weights have diverged",
                        record.key
                    );
                    return Err(NodeError::Other(message));
                }
                let Some(class) = class.map(|class| class as usize) else {
                    ranks.push(None);
                    continue;
                };
                let own = *scores.get(class).ok_or_else(|| {
                    NodeError::Other(format!(
                        "record `{}` is of class {class}, and there are {width} scores",
                        record.key
                    ))
                })?;
                let before = |(place, score): (usize, &f32)| *score > own || *score == own && place < class;
                ranks.push(Some((scores.iter().enumerate().filter(|found| before(*found)).count(), width)));
            }
            for (place, reason) in batch.broken {
                cx.progress.note(format!("skipped: {reason}"));
                ranks[done + place] = None;
            }
        }
        Ok(ranks)
    }
}

/// Accuracies by split.
fn measure(all: &[Record], ranks: &[Rank]) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    for (split, members) in by_split(all, |place, _| ranks[place].is_some()) {
        let ranks: Vec<(usize, usize)> = members.iter().filter_map(|(place, _)| ranks[*place]).collect();
        let classes = ranks.iter().map(|(_, classes)| *classes).max().unwrap_or(0);
        let base =
            Measurement { n: ranks.len(), ..Measurement::of("classification", "", &split, "", classes) };
        for (metric, first) in
            [("top-1", 1), ("top-5", 5)].into_iter().filter(|(_, first)| *first < classes.max(2))
        {
            let right = ranks.iter().filter(|(rank, _)| *rank < first).count();
            let value = 100.0 * right as f64 / ranks.len().max(1) as f64;
            measurements.push(Measurement { metric: metric.to_owned(), value, ..base.clone() });
        }
    }
    measurements
}
