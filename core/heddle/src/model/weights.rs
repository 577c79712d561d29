//! Weights of a model graph as safetensors, under their published names.
//!
//! The file's metadata maps heddle's names (`node/local`) to the published ones, so that another graph can take
//! one node's parameters out of it without knowing the graph that wrote it.

use std::collections::{BTreeMap, BTreeSet};

use heddle_tensor::{
    Backend, Parameters, TensorError,
    parameter::{Adapter, LoadOptions, LoadReport, WeightsError as FileError},
};
use safetensors::SafeTensors;
use serde_json::json;

use super::{
    ModelGraph, Parameter,
    adapters::{self, adapters_in},
};

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
    /// A weight that was trained with a pair beside it (LoRA), for which the graph has no place.
    #[error(
        "{from} has LoRA beside `{weight}` with alpha/rank = {scale}; the graph has {here}: give its node the same `lora`, or read \
         what `heddle export` merges"
    )]
    Lora {
        /// Where the weights come from.
        from: String,
        /// The weight's name there.
        weight: String,
        /// Factor of the pair.
        scale: f64,
        /// What the graph has instead.
        here: String,
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
    let names = (NAMES.to_owned(), json!(names_of(model)).to_string());
    std::iter::once(names).chain(adapters::metadata(model)).collect()
}

/// heddle's names of the parameters, and their published ones.
pub(super) fn names_of(model: &ModelGraph) -> BTreeMap<String, String> {
    model.parameters().into_iter().map(|parameter| (parameter.name, parameter.published)).collect()
}

/// Loads parameters by their published names; every one of them must be there.
pub fn load_published<B: Backend>(
    model: &ModelGraph,
    wanted: &[Parameter],
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
) -> Result<LoadReport, WeightsError> {
    let report = read(model, parameters, bytes, from, &published(wanted))?;
    if report.missing.is_empty() { Ok(report) } else { Err(missing(from, report)) }
}

/// heddle's names of some parameters, and their published ones.
fn published(wanted: &[Parameter]) -> BTreeMap<String, String> {
    wanted.iter().map(|parameter| (parameter.name.clone(), parameter.published.clone())).collect()
}

/// Loads the weights that an edge brings into a training stage: all of them, or `part` (a node of the graph that
/// wrote them) into `label` (a node of this one, or `node.prefix`, those of its parameters). A node takes from another what
/// that one has: its other parameters stay as they are, and are named in the report. It is an error if there is nothing in
/// common. Of all of them only LoRA's may be missing.
pub fn load_states<B: Backend>(
    model: &ModelGraph,
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
    label: Option<&str>,
    part: Option<&str>,
) -> Result<LoadReport, WeightsError> {
    let Some(label) = label else {
        let keys = published(&model.parameters());
        let report = read(model, parameters, bytes, from, &keys)?;
        let pairs = model.adapters();
        let may_be_new =
            |key: &String| pairs.iter().any(|pair| keys[&pair.a] == *key || keys[&pair.b] == *key);
        return if report.missing.iter().all(may_be_new) { Ok(report) } else { Err(missing(from, report)) };
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
    let report = read(model, parameters, bytes, from, &keys)?;
    match report.loaded.is_empty() && !keys.is_empty() {
        true => Err(missing(from, report)),
        false => Ok(report),
    }
}

fn read<B: Backend>(
    model: &ModelGraph,
    parameters: &mut Parameters<B>,
    bytes: &[u8],
    from: &str,
    keys: &BTreeMap<String, String>,
) -> Result<LoadReport, WeightsError> {
    let failed = |error| WeightsError::File { from: from.to_owned(), error };
    let there = adapters_in(bytes).map_err(|error| failed(FileError::Format(error)))?;
    check_pairs(&model.adapters(), &there, from, keys)?;
    let options = LoadOptions { strict: false, finite: true };
    parameters.load(bytes, |name| keys.get(name).cloned(), options).map_err(failed)
}

/// Weights come with the pairs that they were trained with, or they would compute something else.
fn check_pairs(
    ours: &[Adapter],
    theirs: &[Adapter],
    from: &str,
    keys: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let taken: BTreeSet<&String> = keys.values().collect();
    for pair in theirs.iter().filter(|pair| taken.contains(&pair.weight)) {
        let same = |name: &String, key: &String| keys.get(name).is_some_and(|found| found == key);
        let ours = ours.iter().find(|ours| same(&ours.weight, &pair.weight) && same(&ours.a, &pair.a));
        let here = match ours {
            Some(ours) if ours.scale == pair.scale => continue,
            Some(ours) => format!("alpha/rank = {}", ours.scale),
            None => "none".to_owned(),
        };
        let (from, weight) = (from.to_owned(), pair.weight.clone());
        return Err(WeightsError::Lora { from, weight, scale: pair.scale, here });
    }
    Ok(())
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
