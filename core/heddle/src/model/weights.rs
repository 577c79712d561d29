//! Weights of a model graph as safetensors, under their published names.
//!
//! The file's metadata maps heddle's names (`node/local`) to the published ones, so that another graph can take
//! one node's parameters out of it without knowing the graph that wrote it.

use std::collections::BTreeMap;

use heddle_tensor::{
    Backend, Parameters, TensorError,
    parameter::{LoadOptions, LoadReport, WeightsError as FileError},
};
use safetensors::SafeTensors;
use serde_json::json;

use super::{ModelGraph, Parameter};

/// The metadata key of the map from heddle's names to published ones.
const NAMES: &str = "heddle.names";

/// Weights do not fit a graph.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file or its tensors.
    #[error("weights of {from}: {error}")]
    File {
        /// Where they come from.
        from: String,
        /// What is wrong.
        error: FileError,
    },
    /// Parameters that the file does not have.
    #[error("{from} has no {}; it has {found}", list(missing))]
    Missing {
        /// Where the weights come from.
        from: String,
        /// The published names that were looked for.
        missing: Vec<String>,
        /// A few of the names that are there.
        found: String,
    },
    /// The device.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    let more = names.len() - shown.len();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

/// All parameters as the bytes of a safetensors file.
pub fn save<B: Backend>(model: &ModelGraph, parameters: &Parameters<B>) -> Result<Vec<u8>, TensorError> {
    let names = names_of(model);
    let rename = |name: &str| names.get(name).cloned().unwrap_or_else(|| name.to_owned());
    parameters.save_safetensors(rename, &metadata(model))
}

/// The metadata of a file with a graph's weights.
pub fn metadata(model: &ModelGraph) -> BTreeMap<String, String> {
    BTreeMap::from([(NAMES.to_owned(), json!(names_of(model)).to_string())])
}

/// heddle's names of the parameters, and their published ones.
fn names_of(model: &ModelGraph) -> BTreeMap<String, String> {
    model.parameters().into_iter().map(|parameter| (parameter.name, parameter.published)).collect()
}

/// Loads parameters by their published names; every one of them must be there.
pub fn load_published<B: Backend>(
    wanted: &[Parameter],
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
) -> Result<LoadReport, WeightsError> {
    let keys: BTreeMap<String, String> =
        wanted.iter().map(|parameter| (parameter.name.clone(), parameter.published.clone())).collect();
    load(parameters, bytes, from, &keys)
}

/// Loads the weights that an edge brings into a training stage: all of them, or `part` (a node of the graph that
/// wrote them) into `label` (a node of this one, or `node.prefix`, those of its parameters). A node takes from another what
/// that one has: its other parameters stay as they are, and are named in the report. It is an error if there is nothing in
/// common.
pub fn load_states<B: Backend>(
    model: &ModelGraph,
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
    label: Option<&str>,
    part: Option<&str>,
) -> Result<LoadReport, WeightsError> {
    let Some(label) = label else {
        return load_published(&model.parameters(), parameters, bytes, from);
    };
    let there = names_in(bytes, from)?;
    let (label, prefix) = label.split_once('.').unwrap_or((label, ""));
    let part = part.unwrap_or(label);
    let below = |local: &str| {
        prefix.is_empty()
            || local.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let of_node = model.parameters().into_iter().filter_map(|parameter| {
        let local = parameter.name.strip_prefix(label)?.strip_prefix('/').filter(|local| below(local))?;
        let theirs = format!("{part}/{local}");
        Some((parameter.name.clone(), there.get(&theirs).cloned().unwrap_or(theirs)))
    });
    let keys: BTreeMap<String, String> = of_node.collect();
    let report = read(parameters, bytes, from, &keys)?;
    match report.loaded.is_empty() && !keys.is_empty() {
        true => Err(missing(from, report)),
        false => Ok(report),
    }
}

fn load<B: Backend>(
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
    keys: &BTreeMap<String, String>,
) -> Result<LoadReport, WeightsError> {
    let report = read(parameters, bytes, from, keys)?;
    if report.missing.is_empty() { Ok(report) } else { Err(missing(from, report)) }
}

fn read<B: Backend>(
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
    keys: &BTreeMap<String, String>,
) -> Result<LoadReport, WeightsError> {
    let options = LoadOptions { strict: false, finite: true };
    let file = |error| WeightsError::File { from: from.to_owned(), error };
    parameters.load(bytes, |name| keys.get(name).cloned(), options).map_err(file)
}

fn missing(from: &str, report: LoadReport) -> WeightsError {
    let found = match report.unexpected.as_slice() {
        [] => "nothing else".to_owned(),
        names => list(names),
    };
    WeightsError::Missing { from: from.to_owned(), missing: report.missing, found }
}

/// heddle's names of the parameters in a file that heddle wrote; empty for other files.
fn names_in(bytes: &[u8], from: &str) -> Result<BTreeMap<String, String>, WeightsError> {
    let format =
        |error: String| WeightsError::File { from: from.to_owned(), error: FileError::Format(error) };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| format(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(NAMES).cloned());
    text.map_or(Ok(BTreeMap::new()), |text| {
        serde_json::from_str(&text).map_err(|error| format(error.to_string()))
    })
}
