//! `eval.matching`: does a model tell pairs that belong together from others?

use std::sync::Arc;

use heddle_data::{Record, rng, text::Tokenizer};
use heddle_graph::{
    config::{Reader, TextOf},
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeId, NodeSpec, OutPort, PortType, Source},
};
use heddle_tensor::{Backend, Precision, Value};
use rand::Rng;

use super::{
    labels::{by_split, name_in},
    measure::{Measurement, Metrics},
};
use crate::{
    device::{Need, on_backend},
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::{Cut, ModelGraph, Models},
    nodes::{
        Node, SeeFrozen,
        data::{Records, column_text},
        precision,
        towers::{
            Loaded, Seen, SeenBatch, check_images, check_vocabulary, encode_options, model_ports, no_graph,
            read_tokenizer, see_frozen, seen_cut, tokens,
        },
    },
};

/// The kind.
pub struct Matching;

struct Eval {
    graph: Option<Arc<ModelGraph>>,
    logits: String,
    targets: String,
    language: String,
    distinct: Option<String>,
    batch: usize,
    precision: Precision,
}

/// Streams of random numbers.
const OTHER_STREAM: u64 = 6;

impl Kind<dyn Node, Models> for Matching {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.matching",
            version: 1,
            summary: "accuracy of image-text matching on true and false pairs",
            details: "Every record's image is asked twice: with its own text, and with that of another record of its split, drawn \
                      at random among those that differ in `distinct`. The pairs and their targets are the graph's own \
                      (`model.pairs` with the scheme `half`): a batch goes through it in both orders, so that each image is in \
                      the true and in the false half once. `accuracy`, `true` (true pairs called true) and `false` (false \
                      pairs called false) in per cent, by split.",
            example: "[nodes.matching]\nkind = \"eval.matching\"\ngraph = \"../graphs/internvl-g.toml\"\nweights = \"stage2\"\n\
                      in = { records = \"heldout\", tokenizer = \"bpe\" }\ndistinct = \"cp\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let graph = models.get(r.required_graph("graph", "the model graph that is asked"));
        let logits: String =
            r.field("output", "the graph's output with two scores a pair").or("itm_logits".to_owned());
        let targets: String =
            r.field("targets", "the graph's output with the pairs' targets").or("itm_targets".to_owned());
        if let Some(graph) = &graph {
            for (field, name, class) in
                [("output", &logits, Class::Logits), ("targets", &targets, Class::Targets)]
            {
                match graph.output(name) {
                    Some((Source::Node { .. }, ty)) if ty.class == class => {}
                    Some((_, ty)) => {
                        r.error(field, format!("`{name}` gives {ty}, not {}", class.name()), None)
                    }
                    None => r.error(field, format!("the model graph has no output `{name}`"), None),
                }
            }
        }
        Box::new(Eval {
            graph,
            logits,
            targets,
            language: r.field("language", "column with the text").or("en".to_owned()),
            distinct: r.field("distinct", "column in which a false text's record differs").optional(),
            batch: r
                .field("batch", "records a pass, an even number")
                .min(2)
                .max(1 << 16)
                .not_in_key("a pair's scores do not depend on its batch")
                .or(64),
            precision: precision::read(r),
        })
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        model_ports("images with texts; their column `split` groups the results")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let Some(graph) = &self.graph {
            check_images(graph, inputs)?;
            check_vocabulary(graph, inputs)?;
        }
        Ok(vec![OutPort::new("metrics", PortType::plain(Class::Metrics))])
    }
}

impl Node for Eval {
    fn uses_seed(&self) -> bool {
        true
    }

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
        let nodes = self.nodes(graph);
        precision::bytes(self.precision) * graph.count_parameters(&graph.graph().upstream(&nodes))
    }

    fn cut(&self) -> Option<Cut> {
        let graph = self.graph.as_ref()?;
        Some(seen_cut(graph, &self.wanted(graph)))
    }

    fn frozen(&self, cx: &RunContext<'_>, see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let (wanted, need) = (self.wanted(&graph), self.need_of());
        on_backend!(cx.compute.open(need)?, |backend| {
            let loaded = Loaded::load(graph.clone(), &self.nodes(&graph), cx.input("weights")?, backend)?;
            see_frozen(cx, &loaded, &wanted, need, see)
        })
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let graph = self.graph.clone().ok_or_else(no_graph)?;
        let records = Records::read(cx.input("records")?)?;
        let all = records.collect()?;
        let tokenizer = read_tokenizer(cx.input("tokenizer")?)?;
        let need = Need { precision: self.precision, learns: false, batch: self.batch };
        let measurements = on_backend!(cx.compute.open(need)?, |backend| {
            let nodes = self.nodes(&graph);
            let loaded = Loaded::load(graph, &nodes, cx.input("weights")?, backend)?;
            self.measure(cx, &loaded, &records, &all, &tokenizer)?
        });
        let metrics = Metrics { measurements, ..Metrics::default() };
        Ok(output("metrics", metrics.to_bytes()?))
    }
}

/// True and false pairs: how many, and how many were told.
#[derive(Default)]
struct Tally {
    asked: [usize; 2],
    right: [usize; 2],
}

impl Eval {
    /// The nodes of both outputs.
    fn nodes(&self, graph: &ModelGraph) -> Vec<NodeId> {
        let node = |name: &String| match graph.output(name) {
            Some((Source::Node { id, .. }, _)) => Some(id),
            _ => None,
        };
        [&self.logits, &self.targets].into_iter().filter_map(node).collect()
    }

    /// Both outputs.
    fn wanted(&self, graph: &ModelGraph) -> Vec<Source> {
        let outputs = [&self.logits, &self.targets].into_iter();
        outputs.filter_map(|name| Some(graph.output(name)?.0)).collect()
    }

    fn need_of(&self) -> Need {
        Need { precision: self.precision, learns: false, batch: self.batch }
    }

    fn measure<B: Backend>(
        &self,
        cx: &RunContext<'_>,
        loaded: &Loaded<B>,
        records: &Records,
        all: &[Record],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Measurement>, NodeError> {
        let seen = Seen::open(cx, loaded, records, &self.wanted(&loaded.model), self.need_of())?;
        let mut measurements = Vec::new();
        for (split, members) in by_split(all, |_, _| true) {
            let members: Vec<&Record> = members.into_iter().map(|(_, record)| record).collect();
            let texts: Vec<String> =
                members.iter().map(|record| name_in(record, &self.language)).collect::<Result<_, _>>()?;
            let others = self.others(cx, &members)?;
            let mut tally = Tally::default();
            for order in [Vec::from_iter(0..members.len()), (0..members.len()).rev().collect()] {
                for chunk in order.chunks(self.batch) {
                    cx.check_cancelled()?;
                    let own = chunk.iter().map(|place| texts[*place].clone()).collect();
                    let other = chunk.iter().map(|place| texts[others[*place]].clone()).collect();
                    let chunk: Vec<Record> = chunk.iter().map(|place| members[*place].clone()).collect();
                    self.ask(loaded, &seen, (&chunk, own, other), tokenizer, &mut tally)?;
                }
            }
            let base = Measurement::of("matching", "", &split, &self.language, 2);
            let [no, yes] = [0, 1].map(|class| (tally.right[class], tally.asked[class]));
            for (metric, (right, asked)) in
                [("accuracy", (no.0 + yes.0, no.1 + yes.1)), ("true", yes), ("false", no)]
            {
                let value = 100.0 * right as f64 / asked.max(1) as f64;
                measurements.push(Measurement { metric: metric.to_owned(), value, n: asked, ..base.clone() });
            }
        }
        Ok(measurements)
    }

    /// For each record the place of another one of its split that differs in the column.
    fn others(&self, cx: &RunContext<'_>, members: &[&Record]) -> Result<Vec<usize>, NodeError> {
        let values: Vec<Option<String>> = members
            .iter()
            .map(|record| self.distinct.as_ref().and_then(|column| column_text(record, column)))
            .collect();
        let differ = |a: usize, b: usize| a != b && (values[a].is_none() || values[a] != values[b]);
        let other = |place: usize| {
            let mut rng = rng(cx.seed, &[OTHER_STREAM, place as u64]);
            let first = rng.gen_range(0..members.len() as u32) as usize;
            let found = (0..members.len())
                .map(|step| (first + step) % members.len())
                .find(|other| differ(place, *other));
            found.ok_or_else(|| {
                NodeError::Other(format!(
                    "no other record of its split differs from `{}`",
                    members[place].key
                ))
            })
        };
        (0..members.len()).map(other).collect()
    }

    /// Asks for one batch.
    fn ask<B: Backend>(
        &self,
        loaded: &Loaded<B>,
        seen: &Seen<'_>,
        (chunk, own, other): (&[Record], Vec<String>, Vec<String>),
        tokenizer: &Tokenizer,
        tally: &mut Tally,
    ) -> Result<(), NodeError> {
        let SeenBatch { mut inputs, given, broken, .. } = seen.batch(loaded.backend(), chunk)?;
        if let Some((_, reason)) = broken.first() {
            return Err(NodeError::Other(format!(
                "an image does not decode: {reason}; drop it with `data.decode`"
            )));
        }
        for name in loaded.inputs(Class::Text) {
            let of_other = loaded.model.graph().inputs[&name].of == TextOf::Other;
            let options = encode_options(&loaded.model, &name, tokenizer);
            let text = tokens(tokenizer, if of_other { &other } else { &own }, &options)?;
            inputs.insert(name, Value::Text(text));
        }
        let values = loaded.run_from(&inputs, &given, &self.wanted(&loaded.model))?;
        let [logits, targets] = values.as_slice() else { return Err(no_graph()) };
        let Value::Targets(targets) = targets else { return Err(no_graph()) };
        for (scores, target) in logits.to_host()?.data.chunks(2).zip(targets) {
            let Some(class) = target.map(|class| class as usize % 2) else { continue };
            tally.asked[class] += 1;
            tally.right[class] += usize::from((scores[1] > scores[0]) == (class == 1));
        }
        Ok(())
    }
}
