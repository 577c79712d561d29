//! What is checked of towers before anything runs.

use std::collections::BTreeSet;

use heddle_graph::{
    config::{Reader, TextOf},
    graph::{Class, Dim, Inputs, Mismatch, NodeId, Source},
};

use crate::model::ModelGraph;

/// Reports an `output` that the graph does not have, that is no vector, or that depends on anything but one input of
/// this class.
pub fn check_output(r: &mut Reader<'_>, graph: &ModelGraph, output: &str, class: Class) {
    let Some((source, ty)) = graph.output(output) else {
        let known: Vec<&str> = graph.graph().outputs.keys().map(String::as_str).collect();
        let help = format!("the graph's outputs are {}", known.join(", "));
        r.error("output", format!("the model graph has no output `{output}`"), Some(&help));
        return;
    };
    if input_of(graph, &source, class).is_none() {
        let message = format!("`{output}` does not come from exactly one {} input", class.name());
        r.error("output", message, None);
    } else if ty.class != Class::Vector {
        let help = "name a pooled output: one vector a record";
        r.error("output", format!("`{output}` gives {ty}, not a vector"), Some(help));
    }
}

/// The one input that a source depends on, if it is of this class.
pub fn input_of(graph: &ModelGraph, source: &Source, class: Class) -> Option<String> {
    let mut names: BTreeSet<&String> = BTreeSet::new();
    if let Source::Input(name) = source {
        names.insert(name);
    }
    for id in needed(graph, source) {
        for edge in graph.graph().node(id).edges.values().flatten() {
            if let Source::Input(name) = &edge.from {
                names.insert(name);
            }
        }
    }
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) if graph.graph().inputs[name].ty.class == class => Some(name.clone()),
        _ => None,
    }
}

/// The nodes that a source depends on.
pub fn needed(graph: &ModelGraph, source: &Source) -> BTreeSet<NodeId> {
    match source {
        Source::Input(_) => BTreeSet::new(),
        Source::Node { id, .. } => graph.graph().upstream(&[*id]),
    }
}

/// Whether every embedding table is large enough for the tokenizer of what it reads.
pub fn check_vocabulary(graph: &ModelGraph, inputs: &Inputs) -> Result<(), Mismatch> {
    let size = |port: &str| inputs.get(port).and_then(|ty| ty.shape.first().and_then(Dim::known));
    for table in graph.parameters().iter().filter(|table| table.name.ends_with("embed_tokens.weight")) {
        let port = match reads_questions(graph, table.node) && inputs.get("questions").is_some() {
            true => "questions",
            false => "tokenizer",
        };
        if let Some(size) = size(port).filter(|size| table.spec.shape[0] < *size) {
            return Err(Mismatch {
                port: Some(port),
                param: None,
                message: format!(
                    "the tokenizer has {size} tokens but `{}` embeds {}",
                    table.name, table.spec.shape[0]
                ),
                help: Some(format!("set the text node's `vocab` to {size}")),
            });
        }
    }
    Ok(())
}

/// Whether a call of a node's module reads the questions of dialogues.
fn reads_questions(model: &ModelGraph, owner: NodeId) -> bool {
    let graph = model.graph();
    let calls = graph.ids().filter(|id| graph.owner(*id) == owner);
    let mut edges = calls.flat_map(|id| graph.node(id).edges.values().flatten());
    edges.any(|edge| match &edge.from {
        Source::Input(name) => graph.inputs[name].of == TextOf::Question,
        Source::Node { .. } => false,
    })
}

/// Whether the records' images have the size that the graph's image inputs want.
pub fn check_images(graph: &ModelGraph, inputs: &Inputs) -> Result<(), Mismatch> {
    let Some(records) = inputs.get("records") else { return Ok(()) };
    for (name, input) in graph.graph().inputs.iter().filter(|(_, input)| input.ty.class == Class::Image) {
        let wanted = &input.ty.shape[1..];
        if records.shape.len() == 3 && !records.shape.iter().zip(wanted).all(|(a, b)| a.agrees(b)) {
            let shape = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
            return Err(Mismatch {
                port: Some("records"),
                param: None,
                message: format!(
                    "the records' images are [{}] but the model graph's input `{name}` wants [{}]",
                    shape(&records.shape),
                    shape(wanted)
                ),
                help: Some("give the source's `image.size` and the graph's input the same size".into()),
            });
        }
    }
    Ok(())
}
