//! Any text as an experiment and as a model graph. After a NUL, the rest is an override (`-S`).

use heddle_graph::{
    config::{load_model_partial, load_partial},
    diagnostic::Diagnostics,
    graph::build,
    render,
    source::{Sources, Span},
};

use crate::kinds::{MODEL_KINDS, PIPELINE_KINDS, files};

/// Whether the text is an experiment or a model graph without mistakes.
pub fn check(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let text = parts.next().unwrap_or_default();
    let overrides = parts.next().filter(|rest| !rest.is_empty());
    let overrides: Vec<String> =
        overrides.map(|rest| String::from_utf8_lossy(rest).into_owned()).into_iter().collect();
    let (experiment, model) = (as_experiment(text, &overrides), as_model(text, &overrides));
    experiment || model
}

/// Every stage on an experiment and its model graphs.
fn as_experiment(text: &[u8], overrides: &[String]) -> bool {
    let loader = files().with("experiments/x.toml", text);
    let mut sources = Sources::new();
    let (experiment, problems) = load_partial("experiments/x.toml", &loader, overrides, &mut sources);
    let mut all: Vec<Diagnostics> = problems.into_iter().collect();
    let found = experiment.is_some();
    if let Some(experiment) = experiment {
        match build(&experiment, PIPELINE_KINDS, &(), &loader) {
            Ok(graph) => assert!(graph.canonical().is_object() || graph.canonical().is_array()),
            Err(problems) => all.push(problems),
        }
        all.extend(experiment.graphs.iter().filter_map(|file| build(file, MODEL_KINDS, &(), &loader).err()));
    }
    can_be_shown(&all, &sources);
    found && all.is_empty()
}

/// Every stage on a model graph.
fn as_model(text: &[u8], overrides: &[String]) -> bool {
    let loader = files().with("graphs/x.toml", text);
    let mut sources = Sources::new();
    let (model, problems) = load_model_partial("graphs/x.toml", &loader, overrides, &mut sources);
    let mut all: Vec<Diagnostics> = problems.into_iter().collect();
    let found = model.is_some();
    all.extend(model.and_then(|model| build(&model, MODEL_KINDS, &(), &loader).err()));
    can_be_shown(&all, &sources);
    found && all.is_empty()
}

/// Every mistake has a message and a place inside of a text, and nothing of it acts on a terminal.
fn can_be_shown(all: &[Diagnostics], sources: &Sources) {
    for diagnostics in all {
        for diagnostic in diagnostics {
            assert!(!diagnostic.message.is_empty());
            let related = diagnostic.related.iter().map(|(span, _)| *span);
            diagnostic.span.into_iter().chain(related).for_each(|span| lies_inside(span, sources));
        }
        let shown = render(diagnostics, sources, false);
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(acts), "{shown:?}");
    }
}

fn lies_inside(span: Span, sources: &Sources) {
    assert!(!sources.name(span.source).is_empty(), "{span:?} is of no text");
    let text = sources.text(span.source);
    assert!(text.get(span.start..span.end).is_some(), "{span:?} is no range of {text:?}");
    let (line, column) = sources.line_col(span);
    assert!(line >= 1 && column >= 1);
}
