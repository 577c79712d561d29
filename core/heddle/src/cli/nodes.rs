//! `heddle nodes`: the registry, for people.

use heddle_graph::{
    graph::{Arity, KindSpec, Place},
    schema::{self, KindDoc},
};

use super::{
    args::NodesOptions,
    exit::{Exit, Failure},
    output,
};
use crate::{
    model::Models,
    nodes::{KINDS, MODEL_KINDS},
};

/// Runs the command.
pub fn run(options: &NodesOptions) -> Result<Exit, Failure> {
    match &options.kind {
        None => output::result(&list()),
        Some(name) => output::result(&page(&find(name)?)),
    }
    Ok(Exit::Done)
}

fn specs() -> (Vec<KindSpec>, Vec<KindSpec>) {
    (KINDS.iter().map(|kind| kind.spec()).collect(), MODEL_KINDS.iter().map(|kind| kind.spec()).collect())
}

fn list() -> String {
    let (pipeline, model) = specs();
    let width = pipeline.iter().chain(&model).map(|spec| spec.name.len()).max().unwrap_or(0);
    let lines = |specs: &[KindSpec]| -> String {
        specs.iter().map(|spec| format!("  {:<width$}  {}\n", spec.name, spec.summary)).collect()
    };
    format!(
        "In experiments:\n{}\nIn model graphs:\n{}\n`heddle nodes KIND` documents one.",
        lines(&pipeline),
        lines(&model)
    )
}

fn find(name: &str) -> Result<KindDoc, Failure> {
    if let Some(kind) = KINDS.iter().find(|kind| kind.spec().name == name) {
        return Ok(schema::describe(*kind, &Models::default()));
    }
    if let Some(kind) = MODEL_KINDS.iter().find(|kind| kind.spec().name == name) {
        return Ok(schema::describe(*kind, &()));
    }
    let (mut known, model) = specs();
    known.extend(model);
    let nearest = known
        .iter()
        .map(|spec| spec.name)
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let hint = nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
    Err(Failure::Other(format!("there is no kind `{name}`{hint}")))
}

/// The documentation of one kind, as `heddle nodes KIND` prints it.
pub fn page(doc: &KindDoc) -> String {
    let spec = &doc.spec;
    let mut text =
        format!("{} (version {})\n{}\n\n{}\n", spec.name, spec.version, spec.summary, wrap(spec.details));
    if !doc.inputs.is_empty() {
        text.push_str("\nInputs\n");
        for port in &doc.inputs {
            let classes: Vec<&str> = port.classes.iter().map(|class| class.name()).collect();
            let arity = match port.arity {
                Arity::One => "one",
                Arity::Optional => "optional",
                Arity::Many => "one or more",
                Arity::Any => "any number",
            };
            let place = match port.place {
                Place::In => format!("in.{}", port.name),
                Place::Key => port.name.to_owned(),
            };
            text.push_str(&format!("  {place} ({}; {arity}): {}\n", classes.join(" or "), port.help));
        }
    }
    if !doc.fields.is_empty() {
        text.push_str("\nParameters\n");
        fields(&mut text, &doc.fields, 1);
    }
    text.push_str("\nExample\n");
    spec.example.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}

fn fields(text: &mut String, docs: &[heddle_graph::config::FieldDoc], depth: usize) {
    let indent = "  ".repeat(depth);
    for doc in docs {
        let mut facts = vec![doc.ty.clone()];
        match (&doc.default, doc.required) {
            (Some(default), _) => facts.push(format!("default {default}")),
            (None, true) => facts.push("required".to_owned()),
            (None, false) => {}
        }
        text.push_str(&format!("{indent}{} ({}): {}\n", doc.name, facts.join(", "), doc.help));
        for choice in &doc.choices {
            text.push_str(&format!("{indent}  \"{}\": {}\n", choice.value, choice.help));
        }
        if let Some(reason) = doc.left_out {
            text.push_str(&format!("{indent}  not part of the cache key: {reason}\n"));
        }
        fields(text, &doc.nested, depth + 1);
    }
}

/// Breaks lines at 100 columns.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("starts with one line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
