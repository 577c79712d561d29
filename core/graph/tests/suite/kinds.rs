//! A small registry: two towers and a loss, a data source, a filter, a training stage, a report.

use heddle_graph::{
    MapLoader,
    config::{Experiment, GraphId, ModelFile, Reader, load, load_model},
    diagnostic::Diagnostics,
    graph::{
        Arity, Class, Dim, Graph, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place,
        PortType, build,
    },
    source::Sources,
};
use indexmap::IndexMap;

pub type AnyNode = dyn NodeSpec;

type Infer = Box<dyn Fn(&Inputs) -> Result<Vec<OutPort>, Mismatch>>;

/// A node of the toy registry: its ports and a function for its types.
pub struct Toy {
    ports: Vec<InPort>,
    infer: Infer,
}

impl NodeSpec for Toy {
    fn inputs(&self) -> Vec<InPort> {
        self.ports.clone()
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        (self.infer)(inputs)
    }
}

pub struct ToyKind {
    name: &'static str,
    read: fn(&mut Reader<'_>) -> Toy,
}

impl Kind<AnyNode, ()> for ToyKind {
    fn spec(&self) -> KindSpec {
        KindSpec { name: self.name, version: 1, summary: "a toy", details: "For tests.", example: "" }
    }

    fn read(&self, reader: &mut Reader<'_>, _: &()) -> Box<AnyNode> {
        Box::new((self.read)(reader))
    }
}

pub const MODEL_KINDS: &[&dyn Kind<AnyNode, ()>] = &[
    &ToyKind { name: "model.encoder", read: encoder },
    &ToyKind { name: "model.text", read: text },
    &ToyKind { name: "loss.pair", read: pair },
];

pub const PIPELINE_KINDS: &[&dyn Kind<AnyNode, ()>] = &[
    &ToyKind { name: "data.source", read: source },
    &ToyKind { name: "data.filter", read: filter },
    &ToyKind { name: "train", read: train },
    &ToyKind { name: "report", read: report },
];

fn port(name: &'static str, class: Class, arity: Arity, place: Place) -> InPort {
    InPort { name, classes: vec![class], arity, place, help: "what it looks at" }
}

fn encoder(r: &mut Reader<'_>) -> Toy {
    let width: usize = r.field("width", "hidden size D").min(1).or(64);
    let heads: usize = r.field("heads", "attention heads").min(1).or(4);
    let _depth: usize = r.field("depth", "layers").range(1..=100).or(2);
    if !width.is_multiple_of(heads) {
        r.error("heads", format!("{heads} heads do not divide a width of {width}"), Some("try 4"));
    }
    let infer = move |inputs: &Inputs| {
        let image = inputs.get("image").unwrap();
        if let Some(Dim::Const(size)) = image.shape.get(2)
            && size % 14 != 0
        {
            let message = format!("an edge of {size} pixels is not a multiple of the patch size 14");
            let help = Some("use 28".to_owned());
            return Err(Mismatch { port: Some("image"), param: None, message, help });
        }
        let tokens = PortType::new(Class::Sequence, [Dim::sym("B"), Dim::sym("N"), width.into()]);
        let pooled = PortType::new(Class::Vector, [Dim::sym("B"), width.into()]);
        Ok(vec![
            OutPort::new("tokens", tokens.clone()),
            OutPort::new("pooled", pooled),
            OutPort::new("hidden.-4", tokens),
        ])
    };
    Toy { ports: vec![port("image", Class::Image, Arity::One, Place::In)], infer: Box::new(infer) }
}

fn text(r: &mut Reader<'_>) -> Toy {
    let width: usize = r.field("width", "hidden size D").min(1).or(64);
    let infer = move |_: &Inputs| {
        let eos = PortType::new(Class::Vector, [Dim::sym("B"), width.into()]);
        let tokens = PortType::new(Class::Sequence, [Dim::sym("B"), Dim::sym("T"), width.into()]);
        Ok(vec![OutPort::new("tokens", tokens), OutPort::new("eos", eos)])
    };
    Toy { ports: vec![port("ids", Class::Text, Arity::One, Place::In)], infer: Box::new(infer) }
}

fn pair(r: &mut Reader<'_>) -> Toy {
    r.field("temperature", "initial temperature").positive().or(0.07);
    let infer = |inputs: &Inputs| {
        let (image, text) = (inputs.get("image").unwrap(), inputs.get("text").unwrap());
        if !image.shape[1].agrees(&text.shape[1]) {
            let message = format!("widths differ: image is {image}, text is {text}");
            let help = Some("project one of them".to_owned());
            return Err(Mismatch { port: Some("text"), param: None, message, help });
        }
        Ok(vec![OutPort::new("loss", PortType::plain(Class::Loss))])
    };
    let ports = vec![
        port("image", Class::Vector, Arity::One, Place::In),
        port("text", Class::Vector, Arity::One, Place::In),
    ];
    Toy { ports, infer: Box::new(infer) }
}

fn gives(name: &'static str, class: Class) -> Infer {
    Box::new(move |_| Ok(vec![OutPort::new(name, PortType::plain(class))]))
}

fn source(r: &mut Reader<'_>) -> Toy {
    r.files("shards", "webdataset shards").or(&["embedded:emoji/train-*.tar"]);
    r.field::<usize>("limit", "records to read").min(1).optional();
    r.choice("split", "which records", &[("train", (), "to learn from"), ("test", (), "to measure with")])
        .or("train");
    Toy { ports: Vec::new(), infer: gives("records", Class::Records) }
}

fn filter(r: &mut Reader<'_>) -> Toy {
    r.file("plugin", "a component").required();
    r.map::<serde_json::Value>("config", "what the plugin reads");
    Toy {
        ports: vec![port("records", Class::Records, Arity::One, Place::In)],
        infer: gives("records", Class::Records),
    }
}

fn train(r: &mut Reader<'_>) -> Toy {
    let _graph: Option<GraphId> = r.required_graph("graph", "the model graph to train");
    r.field::<usize>("steps", "optimiser steps").min(1).required();
    r.field::<usize>("batch", "records a step").min(1).or(8);
    r.field::<usize>("log-every", "steps between lines").not_in_key("logging changes nothing").or(10);
    r.map::<f64>("loss", "weight of each loss");
    r.table("optimizer", "how parameters move", |r| {
        r.variant(
            "kind",
            "which rule",
            Some("adamw"),
            &[("adamw", "decoupled decay", adamw), ("sgd", "plain", sgd)],
        );
    });
    r.optional_table("augment", "random views", |r| {
        r.field::<usize>("views", "views a record").min(1).required();
    });
    r.tables("groups", "parameter groups", |r| {
        r.field::<f64>("lr-scale", "factor on lr").positive().or(1.0);
    });
    Toy {
        ports: vec![
            port("records", Class::Records, Arity::One, Place::In),
            port("weights", Class::Weights, Arity::Many, Place::Key),
        ]
        .into_iter()
        .map(|port| if port.name == "weights" && !r.has("weights") { optional(port) } else { port })
        .collect(),
        infer: Box::new(|_| {
            Ok(vec![
                OutPort::new("weights", PortType::plain(Class::Weights)),
                OutPort::new("metrics", PortType::plain(Class::Metrics)),
            ])
        }),
    }
}

fn optional(port: InPort) -> InPort {
    InPort { arity: Arity::Optional, ..port }
}

fn adamw(r: &mut Reader<'_>) {
    r.field("lr", "step size").positive().or(1e-3);
    r.field::<[f64; 2]>("betas", "decay of the moments").or([0.9, 0.98]);
}

fn sgd(r: &mut Reader<'_>) {
    r.field("lr", "step size").positive().or(1e-1);
    r.field("momentum", "decay of the velocity").range(0.0..=1.0).or(0.0);
}

fn report(_: &mut Reader<'_>) -> Toy {
    Toy {
        ports: vec![port("metrics", Class::Metrics, Arity::Many, Place::In)],
        infer: gives("table", Class::Table),
    }
}

/// A model graph without mistakes.
pub const MODEL: &str = r#"schema = 1
inputs = { image = { type = "image", size = 28 }, caption = "text" }
outputs = { image_embeds = "vit.pooled", text_embeds = "text.eos" }

[params]
width = 32

[nodes.vit]
kind = "model.encoder"
in = "image"
width = "${params.width}"

[nodes.text]
kind = "model.text"
in = "caption"
width = "${params.width}"

[nodes.itc]
kind = "loss.pair"
in = { image = "vit.pooled", text = "text.eos" }
"#;

/// An experiment without mistakes that uses it.
pub const EXPERIMENT: &str = r#"schema = 1
seed = 7

[params]
width = 48
steps = 200

[nodes.pairs]
kind = "data.source"
shards = "../data/train-{0..1}.tar"

[nodes.clean]
kind = "data.filter"
in = "pairs"
plugin = "../plugins/length.wasm"
config = { min = 2 }

[nodes.stage1]
kind = "train"
graph = "../graphs/model.toml"
in = "clean"
steps = "${params.steps}"

[nodes.stage2]
kind = "train"
graph = "../graphs/model.toml"
in = "clean"
weights = { vit = "stage1/vit" }
steps = 10
optimizer = { kind = "sgd", momentum = 0.5 }

[nodes.table]
kind = "report"
in = ["stage1.metrics", "stage2.metrics"]

[ablations.no-filter]
"nodes.stage1.in" = "pairs"

[sweeps.lr]
grid = { "nodes.stage1.optimizer.lr" = [1e-3, 1e-4], "params.width" = [16, 48] }
"#;

/// The files around [`EXPERIMENT`].
pub fn files() -> MapLoader {
    MapLoader::new()
        .with("graphs/model.toml", MODEL)
        .with("plugins/length.wasm", "wasm")
        .with("data/train-0.tar", "tar")
        .with("data/train-1.tar", "tar")
        .with("embedded:emoji/train-0.tar", "tar")
}

/// Reads and builds a model graph.
pub fn model(text: &str) -> Result<(ModelFile, Graph<AnyNode>), (Diagnostics, Sources)> {
    let mut sources = Sources::new();
    let loader = files().with("graphs/x.toml", text);
    let built = load_model("graphs/x.toml", &loader, &[], &mut sources).and_then(|file| {
        let graph = build(&file, MODEL_KINDS, &(), &loader)?;
        Ok((file, graph))
    });
    built.map_err(|diagnostics| (diagnostics, sources))
}

/// Reads an experiment as `experiments/x.toml` among some files.
pub fn experiment(text: &str, loader: &MapLoader, overrides: &[&str]) -> Result<Experiment, Diagnostics> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let loader = loader.clone().with("experiments/x.toml", text);
    load("experiments/x.toml", &loader, &overrides, &mut Sources::new())
}

/// Builds the pipeline of an experiment.
pub fn pipeline(experiment: &Experiment) -> Result<Graph<AnyNode>, Diagnostics> {
    build(experiment, PIPELINE_KINDS, &(), &files())
}

/// The model graphs of an experiment.
pub fn models(experiment: &Experiment) -> Result<Vec<Graph<AnyNode>>, Diagnostics> {
    experiment.graphs.iter().map(|file| build(file, MODEL_KINDS, &(), &files())).collect()
}

/// Widths of the model graphs' towers, to see which parameters hold.
pub fn widths(experiment: &Experiment) -> IndexMap<String, serde_json::Value> {
    let graphs = models(experiment).unwrap();
    let width = |graph: &Graph<AnyNode>| graph.node(graph.find("vit").unwrap()).canonical["width"].clone();
    experiment.graphs.iter().zip(&graphs).map(|(file, graph)| (file.path.clone(), width(graph))).collect()
}
