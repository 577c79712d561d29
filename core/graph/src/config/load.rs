//! The ways into this stage.

use super::{
    docs::FieldDoc,
    experiment::{self, Experiment},
    model::{ModelFile, ModelText, Outer},
    overrides,
    reader::{ReadEnv, Reader, Reading},
    value,
};
use crate::{
    diagnostic::{Diagnostics, Problems},
    source::{Load, Sources, Span},
};

/// Reads an experiment with its includes, overrides (`-S`) and model graphs.
///
/// # Errors
/// All mistakes in all of its files.
pub fn load(
    path: &str,
    loader: &dyn Load,
    overrides: &[String],
    sources: &mut Sources,
) -> Result<Experiment, Diagnostics> {
    complete(load_partial(path, loader, overrides, sources))
}

/// As [`load`], and also gives what could be understood of a file with mistakes, so that the graph stage can add
/// its own in the same pass. Only a file that cannot be read gives nothing.
pub fn load_partial(
    path: &str,
    loader: &dyn Load,
    overrides: &[String],
    sources: &mut Sources,
) -> (Option<Experiment>, Option<Diagnostics>) {
    let mut problems = Problems::default();
    let experiment = experiment::load(path, loader, overrides, sources, &mut problems);
    (experiment, problems.into_diagnostics())
}

/// Reads a model graph file alone.
///
/// # Errors
/// All mistakes in all of its files.
pub fn load_model(
    path: &str,
    loader: &dyn Load,
    overrides: &[String],
    sources: &mut Sources,
) -> Result<ModelFile, Diagnostics> {
    complete(load_model_partial(path, loader, overrides, sources))
}

/// As [`load_model`], and also gives what could be understood of a file with mistakes.
pub fn load_model_partial(
    path: &str,
    loader: &dyn Load,
    overrides: &[String],
    sources: &mut Sources,
) -> (Option<ModelFile>, Option<Diagnostics>) {
    let mut problems = Problems::default();
    let model = ModelText::load(path, None, loader, sources, &mut problems).map(|mut text| {
        let parse = |text: &String| overrides::parse_override(text, sources, &mut problems);
        let changes: Vec<_> = overrides.iter().filter_map(parse).collect();
        text.apply(&changes, &mut problems);
        text.resolve(Outer::None, loader, sources, &mut problems)
    });
    (model, problems.into_diagnostics())
}

/// The document, if nothing was wrong with it. Without a document there is always a reason.
fn complete<T>((document, problems): (Option<T>, Option<Diagnostics>)) -> Result<T, Diagnostics> {
    match (document, problems) {
        (_, Some(problems)) => Err(problems),
        (Some(document), None) => Ok(document),
        (None, None) => Err(crate::diagnostic::Diagnostic::new("the file cannot be read").into()),
    }
}

/// Reads one TOML text with a reader, as the table of a node is read: for settings outside of experiments and for
/// tests of kinds.
///
/// # Errors
/// All mistakes in the text.
pub fn read_toml<T>(
    name: &str,
    text: &str,
    loader: &dyn Load,
    sources: &mut Sources,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<(T, Reading), Diagnostics> {
    let mut problems = Problems::default();
    let source = sources.add(name, text);
    let table = value::parse(source, sources, &mut problems);
    let env = ReadEnv::new(loader, sources, problems);
    let mut reader = Reader::new(&env, Some(&table), Span { source, start: 0, end: 0 });
    let value = read(&mut reader);
    let reading = reader.finish(&[]);
    env.problems.into_inner().finish((value, reading))
}

/// The fields that a reader asks for, from reading nothing.
pub fn document_fields<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> Vec<FieldDoc> {
    let (loader, sources) = (crate::MapLoader::new(), Sources::new());
    let mut env = ReadEnv::new(&loader, &sources, Problems::default());
    env.documenting = true;
    let mut reader = Reader::new(&env, None, Span::NOWHERE);
    read(&mut reader);
    reader.finish(&[]).docs
}
