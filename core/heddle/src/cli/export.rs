//! `heddle export`: the weights of a run, or of an experiment that has run, as a folder that other tools read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use heddle_cache::{Payload, Wait};
use heddle_graph::{
    digest::Digest,
    graph::Class,
    plan::{self, Action, Known, Trace},
};
use heddle_tensor::parameter::{
    TensorHead,
    folder::{CONFIG, FolderTensor, write_folder},
};
use safetensors::SafeTensors;
use serde_json::{Value as Json, json};

use super::{
    args::{Common, ExportOptions, WeightsFormat},
    exit::{Exit, Failure},
    home, output,
    place::Place,
    runs,
};
use crate::{
    device,
    exec::{CacheUse, RunsDir, Store},
    model::{adapters_in, merged},
    project,
};

/// The port on which nodes give weights.
const PORT: &str = "weights";

/// Weights that a node made.
struct Made {
    node: String,
    digest: Digest,
    /// The model graph that has them, where the node runs one.
    graph: Option<Json>,
}

impl Made {
    fn of(node: &str, trace: Trace) -> Option<Self> {
        let digest = *trace.outputs.get(PORT)?;
        Some(Self { node: node.to_owned(), digest, graph: trace.parts.model })
    }
}

/// Runs the command. The folder appears when it is complete.
pub fn run(options: &ExportOptions, common: &Common) -> Result<Exit, Failure> {
    let place = Place::of(&options.dir)?;
    let (store, made) = if options.run.ends_with(".toml") {
        of_experiment(options, common)?
    } else {
        of_run(options, common)?
    };
    let damaged =
        || Failure::Other(format!("the weights of `{}` are not in the cache any more; run again", made.node));
    let bytes = store.artifact(&made.digest)?.ok_or_else(damaged)?;
    let written = match options.format {
        WeightsFormat::Huggingface => huggingface(place.folder(), &made, &bytes, options.shard_size)?,
    };
    place.publish()?;
    output::note(&format!("wrote the weights of `{}` to {}: {written}", made.node, options.dir.display()));
    Ok(Exit::Done)
}

/// The weights that a run's record names.
fn of_run(options: &ExportOptions, common: &Common) -> Result<(Store, Made), Failure> {
    if !options.set.is_empty() {
        return Err(Failure::Other("`-S` is for an experiment file; a run has its values".into()));
    }
    let home = home::here(common);
    let runs = RunsDir::new(&home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    let id = runs::find(&ids, &options.run).map_err(Failure::Other)?;
    let record = runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))?;
    let nodes = record.nodes.iter().filter(|node| node.outputs.contains_key(PORT));
    let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
    let name = pick(&names, options.node.as_deref(), &format!("run {id}"))?;
    let store = open(&home, options, &options.caches.with_that_of(&record)?)?;
    let node = record.nodes.iter().find(|node| node.name == name);
    let trace = node.and_then(|node| store.trace(&node.key?));
    let made = trace.and_then(|trace| Made::of(name, trace));
    let gone =
        || Failure::Other(format!("the cache has forgotten what `{name}` of run {id} made; run again"));
    Ok((store, made.ok_or_else(gone)?))
}

/// The weights that an experiment would find in the cache.
fn of_experiment(options: &ExportOptions, common: &Common) -> Result<(Store, Made), Failure> {
    let file = &options.run;
    let project = project::load(file, &options.set)?;
    let graph = &project.graph;
    let gives = |id| graph.node(id).outputs.iter().any(|port| port.ty.class == Class::Weights);
    let names: Vec<&str> =
        graph.ids().filter(|id| gives(*id)).map(|id| graph.node(id).name.as_str()).collect();
    let name = pick(&names, options.node.as_deref(), &format!("`{file}`"))?.to_owned();
    let used = options.caches.with(project.experiment.cache.remote.as_deref())?;
    let store = open(&home::of_experiment(common, file), options, &used)?;
    let (facts, _) = project.facts(Some(&store), device::choose(project.experiment.run.device))?;
    let wanted = project.places(std::slice::from_ref(&name))?;
    let plan = plan::build(&facts, &wanted, &Default::default(), &store);
    let action = plan.nodes.into_iter().find(|node| node.name == name).map(|node| node.action);
    let made = match action {
        Some(Action::Hit { trace }) => Made::of(&name, *trace),
        _ => None,
    };
    let missing = || {
        let message =
            format!("the weights of `{name}` are not in the cache; `heddle run {file} {name}` makes them");
        Failure::Other(message)
    };
    Ok((store, made.ok_or_else(missing)?))
}

/// The node that is meant, among those that give weights.
fn pick<'a>(names: &[&'a str], wanted: Option<&str>, of: &str) -> Result<&'a str, Failure> {
    let known = names.join(", ");
    let message = match (wanted, names) {
        (None, [one]) => return Ok(one),
        (_, []) => format!("{of} has no node with weights"),
        (None, _) => format!("several nodes of {of} have weights: {known}; choose one with `--node`"),
        (Some(wanted), _) => match names.iter().find(|name| **name == wanted) {
            Some(name) => return Ok(name),
            None => format!("{of} has no node `{wanted}` with weights; there are {known}"),
        },
    };
    Err(Failure::Other(message))
}

fn open(home: &Path, options: &ExportOptions, used: &CacheUse) -> Result<Store, Failure> {
    if !home.join("cache").is_dir() {
        return Err(Failure::Other(format!("there is no cache in {}; run first", home.display())));
    }
    let wait = if options.wait { Wait::Yes } else { Wait::No };
    Ok(Store::open_with(home, &format!("export {}", options.run), wait, used)?)
}

/// Writes tensors and `config.json`; says what was written.
fn huggingface(folder: &Path, made: &Made, bytes: &Payload, shard_bytes: u64) -> Result<String, Failure> {
    let damaged = |error: safetensors::SafeTensorError| {
        Failure::Other(format!("the weights of `{}` do not read: {error}", made.node))
    };
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let unread =
        |error: String| Failure::Other(format!("the LoRA of `{}` does not read: {error}", made.node));
    let pairs = adapters_in(bytes).map_err(unread)?;
    let merged = merged(&file, &pairs).map_err(unread)?;
    let beside: BTreeSet<&String> = pairs.iter().flat_map(|pair| [&pair.a, &pair.b]).collect();
    let views = file.tensors();
    let tensors: BTreeMap<&str, FolderTensor<'_>> = views
        .iter()
        .filter(|(name, _)| !beside.contains(name))
        .map(|(name, view)| {
            let head = TensorHead { dtype: view.dtype(), shape: view.shape().to_vec() };
            let data = merged.get(name).map_or(view.data(), Vec::as_slice);
            (name.as_str(), FolderTensor { head, data })
        })
        .collect();
    let parameters: usize = tensors.values().map(|tensor| tensor.head.len()).sum();
    let io = |what: &str| Failure::io(format!("writing {what} to {}", folder.display()));
    let shard_bytes = usize::try_from(shard_bytes).unwrap_or(usize::MAX);
    let files = write_folder(folder, &tensors, shard_bytes).map_err(io("the weights"))?;
    let config = format!("{:#}\n", config(made, parameters));
    std::fs::write(folder.join(CONFIG), config).map_err(io(CONFIG))?;
    let files = if files == 1 { "one file".to_owned() } else { format!("{files} files") };
    let lora = if pairs.is_empty() { String::new() } else { format!(", LoRA merged into {}", pairs.len()) };
    Ok(format!("{} tensors, {parameters} parameters in {files}{lora}", tensors.len()))
}

/// What tools that look for a kind of model see, and the graph itself, of whose LoRA nothing is left.
fn config(made: &Made, parameters: usize) -> Json {
    let mut graph = made.graph.clone();
    let nodes = graph.as_mut().and_then(|graph| graph.get_mut("nodes")?.as_object_mut());
    for node in nodes.into_iter().flat_map(|nodes| nodes.values_mut()) {
        if let Some(params) = node.get_mut("params").and_then(Json::as_object_mut) {
            params.remove("lora");
        }
    }
    json!({
        "architectures": ["heddle"],
        "model_type": "heddle",
        "heddle_version": env!("CARGO_PKG_VERSION"),
        "num_parameters": parameters,
        "graph": graph,
    })
}
