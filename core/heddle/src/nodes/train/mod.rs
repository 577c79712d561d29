//! `train`: one training stage.

mod batches;
mod checkpoint;
mod frozen;
mod patterns;
mod settings;
mod stage;

use std::{collections::BTreeSet, sync::Arc};

use heddle_graph::{
    config::Reader,
    graph::{
        Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeId, NodeSpec, OutPort, Place, PortType,
        Source,
        gradient::{self, GradientFault},
    },
};

use crate::{
    device::{Need, on_backend},
    exec::{NodeError, Outputs, RunContext, Weight},
    model::{Cut, ModelGraph, Models, Parameter},
    nodes::{
        Node, SeeFrozen,
        towers::{check_dialogues, check_images, check_vocabulary, no_graph, questions_port},
    },
};
use patterns::Patterns;
use settings::Settings;

/// The kind.
pub struct Train;

struct Stage {
    graph: Option<Arc<ModelGraph>>,
    settings: Settings,
}

/// Multiply-adds a second that a first estimate assumes; after one run the measured time is used.
const ASSUMED_MACS_PER_SECOND: f64 = 6e10;

impl Kind<dyn Node, Models> for Train {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "train",
            version: 2,
            summary: "a training stage: a model graph, records, losses, an optimiser",
            details: "Each step draws `accumulate` batches, adds the gradients of the weighted losses, clips their global \
                      norm and takes one AdamW step (decoupled decay; vectors and biases do not decay). A batch is a pure \
                      function of (seed, step), whatever the number of threads. `train` names the parameters that learn \
                      (`node`, `node.prefix` or globs over them; `node.*.lora_A` and `node.*.lora_B` for LoRA); everything else is \
                      frozen and costs no gradient. \
                      What gives the same for a record at every step (frozen, no random numbers, no other records) is computed once, kept in \
                      the cache, and shared with every other node that computes the same: see `heddle graph --cut`. A stage that was \
                      stopped, in whatever way, goes on from its last checkpoint and ends in the same bits. \
                      Without `weights` the model starts from the seed. A text input with a `template` gets the records' dialogues \
                      (`dialogues`), of which the answers are learnt.",
            example: "[nodes.stage1]\nkind = \"train\"\ngraph = \"../graphs/internvl-c.toml\"\n\
                      in = { records = \"pairs\", tokenizer = \"bpe\" }\nloss = { itc = 1.0 }\n\
                      optimizer = { kind = \"adamw\", lr = 1e-3, betas = [0.9, 0.98], weight-decay = 0.1 }\n\
                      schedule = { kind = \"cosine\", warmup = 100 }\nsteps = 2000\nbatch = 96\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let graph = models.get(r.required_graph("graph", "the model graph that is trained"));
        let settings = Settings::read(r);
        if let Some(graph) = &graph {
            check_dialogues(r, graph);
            check_inputs(r, graph, &settings);
            check_losses(r, graph, &settings);
        }
        Box::new(Stage { graph, settings })
    }
}

/// Records have something for every input of the graph.
fn check_inputs(r: &mut Reader<'_>, graph: &ModelGraph, settings: &Settings) {
    let inputs = &graph.graph().inputs;
    for (name, input) in inputs {
        match input.ty.class {
            Class::Sequence | Class::Vector | Class::Map => {
                let message = format!(
                    "the model graph's input `{name}` is a {}, which no record has",
                    input.ty.class.name()
                );
                r.error(
                    "graph",
                    message,
                    Some("a stage feeds images, texts and targets; others are for `heddle apply`"),
                );
            }
            Class::Targets if settings.labels.is_none() => {
                let message =
                    format!("the model graph reads classes (`{name}`), and nothing says where they are");
                r.error("labels", message, Some("for example `labels = { column = \"cls\" }`"));
            }
            _ => {}
        }
    }
    let reads_classes = inputs.values().any(|input| input.ty.class == Class::Targets);
    if settings.labels.is_some() && !reads_classes {
        r.error("labels", "the model graph has no input of the type `targets`", None);
    }
}

/// The losses exist, the patterns match, every loss reaches something that learns, and the other way round.
fn check_losses(r: &mut Reader<'_>, graph: &ModelGraph, settings: &Settings) {
    let mut losses: Vec<NodeId> = Vec::new();
    for name in settings.losses.keys() {
        match graph.output(name) {
            Some((Source::Node { id, .. }, ty)) if ty.class == Class::Loss => losses.push(id),
            Some((_, ty)) => r.error("loss", format!("`{name}` gives {ty}, not a loss"), None),
            None => {
                let all = graph.graph().ids().map(|id| graph.graph().node(id));
                let known: Vec<&str> = all
                    .filter(|node| node.outputs.first().is_some_and(|out| out.ty.class == Class::Loss))
                    .map(|node| node.name.as_str())
                    .collect();
                let help = format!("the graph's losses are {}", known.join(", "));
                r.error("loss", format!("the model graph has no node `{name}`"), Some(&help));
            }
        }
    }
    let parameters = graph.parameters();
    check_patterns(r, "train", &settings.train, &parameters);
    for (name, (patterns, _)) in &settings.groups {
        check_patterns(r, &format!("groups.{name}.match"), patterns, &parameters);
    }
    if losses.len() == settings.losses.len() && !losses.is_empty() {
        check_gradients(r, graph, &losses, &settings.train);
    }
}

/// Every loss reaches something that learns, and the other way round.
fn check_gradients(r: &mut Reader<'_>, graph: &ModelGraph, losses: &[NodeId], train: &Patterns) {
    let trained = |id: NodeId| -> BTreeSet<(NodeId, String)> {
        let used = graph.used_by(id).into_iter();
        used.filter(|parameter| train.matches(&parameter.name)).map(|p| (p.node, p.name)).collect()
    };
    let trained = graph.graph().ids().map(|id| (id, trained(id))).collect();
    let name = |id: NodeId| &graph.graph().node(id).name;
    let mut unreached: BTreeSet<NodeId> = BTreeSet::new();
    for fault in gradient::unreachable(graph.graph(), losses, &trained) {
        match fault {
            GradientFault::LossReachesNothing(id) => r.error(
                "loss",
                format!("the loss `{}` reaches no parameter that `train` names", name(id)),
                Some("train something that it depends on, or leave the loss out"),
            ),
            GradientFault::TrainedUnreached((id, parameter)) => {
                if unreached.insert(id) {
                    r.error(
                        "train",
                        format!(
                            "no loss reaches trained parameters of `{}`, such as `{parameter}`",
                            name(id)
                        ),
                        Some("leave them out of `train`, or add a loss that depends on them"),
                    );
                }
            }
        }
    }
}

/// Every pattern of a field matches something.
fn check_patterns(r: &mut Reader<'_>, field: &str, patterns: &Patterns, parameters: &[Parameter]) {
    for pattern in patterns.idle(parameters.iter().map(|parameter| parameter.name.as_str())) {
        let mut nodes: Vec<&str> =
            parameters.iter().filter_map(|p| Some(p.name.split_once('/')?.0)).collect();
        nodes.dedup();
        let help = format!("nodes with parameters are {}; `heddle check` lists them", nodes.join(", "));
        r.error(field, format!("`{pattern}` matches no parameter"), Some(&help));
    }
}

impl NodeSpec for Stage {
    fn inputs(&self) -> Vec<InPort> {
        let port =
            |name, class, arity, place, help| InPort { name, classes: vec![class], arity, place, help };
        vec![
            port("records", Class::Records, Arity::One, Place::In, "records that are learnt from"),
            port(
                "tokenizer",
                Class::Tokenizer,
                Arity::Optional,
                Place::In,
                "tokenizer of the texts; needed if the graph reads text",
            ),
            questions_port(),
            port(
                "weights",
                Class::Weights,
                Arity::Any,
                Place::Key,
                "weights to start from: a stage, or a table from nodes of this graph (or `\"node.prefix\"`, some of its \
                 parameters) to `stage/node`; what the other node lacks starts from the seed",
            ),
        ]
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let Some(graph) = &self.graph {
            check_images(graph, inputs)?;
            check_vocabulary(graph, inputs)?;
            let reads_text = graph.graph().inputs.values().any(|input| input.ty.class == Class::Text);
            if reads_text && inputs.get("tokenizer").is_none() {
                return Err(Mismatch {
                    port: None,
                    param: None,
                    message: "the model graph reads text, but no tokenizer is connected".into(),
                    help: Some("add `tokenizer = \"...\"` to `in`".into()),
                });
            }
        }
        Ok(vec![
            OutPort::new("weights", PortType::plain(Class::Weights)),
            OutPort::new("metrics", PortType::plain(Class::Metrics)),
        ])
    }
}

impl Node for Stage {
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
        Some(self.settings.need())
    }

    fn estimate_seconds(&self) -> Option<f64> {
        let graph = self.graph.as_ref()?;
        let ids: Vec<NodeId> = graph.graph().ids().collect();
        let passes = (self.settings.steps * self.settings.accumulate * self.settings.batch as u64) as f64;
        // Forward is one part, backward two.
        Some(3.0 * passes * graph.macs(&ids)? as f64 / ASSUMED_MACS_PER_SECOND)
    }

    fn memory_bytes(&self) -> u64 {
        // Every parameter as f32; those that learn also a gradient and two moments.
        let parameters = self.graph.as_ref().map(|graph| graph.parameters()).unwrap_or_default();
        let bytes = |name: &str| if self.settings.train.matches(name) { 16 } else { 4 };
        parameters.iter().map(|parameter| bytes(&parameter.name) * parameter.spec.len() as u64).sum()
    }

    fn cut(&self) -> Option<Cut> {
        self.graph.as_ref().map(|graph| frozen::cut(graph, &self.settings))
    }

    fn trains(&self, parameter: &str) -> Option<bool> {
        Some(self.settings.train.matches(parameter))
    }

    fn frozen(&self, cx: &RunContext<'_>, see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        let graph = self.graph.as_ref().ok_or_else(no_graph)?;
        let opened = cx.compute.open(self.settings.need())?;
        on_backend!(opened, |backend| stage::see_frozen(cx, graph, &self.settings, backend, see))
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let graph = self.graph.as_ref().ok_or_else(no_graph)?;
        let opened = cx.compute.open(self.settings.need())?;
        on_backend!(opened, |backend| stage::train(cx, graph, &self.settings, backend))
    }
}
