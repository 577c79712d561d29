//! `heddle data`: the records of a node, or of data that no experiment names yet.

mod export;
mod parquet;
mod show;

use std::path::Path;

use heddle_data::Shards;
use heddle_graph::{digest::Digest, graph::Class, source::Load};

use super::{
    args::{Common, DataCommand, DataOptions, DataSource},
    exit::{Exit, Failure},
    home,
    prepare::{Asked, Prepared},
};
use crate::{
    exec::{Artifact, Outcome},
    files::{self, Beside, Disk},
    nodes::Records,
    project::{self, Project},
};

/// Runs the command.
pub fn run(options: &DataOptions, common: &Common) -> Result<Exit, Failure> {
    match &options.command {
        DataCommand::Show(options) => show::run(options, common),
        DataCommand::Export(options) => export::run(options, common),
    }
}

/// Records and the shards that they lie in.
struct Opened {
    records: Records,
    shards: Shards,
    /// The cache of a source that no experiment names; it goes with this.
    _home: Option<tempfile::TempDir>,
}

/// The node that reads data without an experiment.
const NODE: &str = "source";
/// What its experiment is called in messages.
const FILE: &str = "data.toml";

impl Opened {
    /// Runs what the records need, and opens them.
    fn of(source: &DataSource, common: &Common) -> Result<Self, Failure> {
        if source.source.ends_with(".toml") {
            if source.pictures.is_some() {
                let message =
                    "`--pictures` is for data without an experiment; its nodes say where pictures are";
                return Err(Failure::Other(message.to_owned()));
            }
            let node = source.node.as_ref().ok_or_else(|| {
                Failure::Other(format!("say which node of `{}`: `{0} NODE`", source.source))
            })?;
            let project = project::load(&source.source, &source.set)?;
            let home = home::of_experiment(common, &source.source);
            return Self::node(project, &home, node, source, common);
        }
        if let Some(node) = &source.node {
            let message =
                format!("`{}` is no experiment (`.toml`), so it has no node `{node}`", source.source);
            return Err(Failure::Other(message));
        }
        let text = experiment(source)?;
        let project = project::load_from(&Beside { name: FILE, text: &text }, FILE, &source.set)?;
        if let Some(home) = &common.home {
            return Self::node(project, home, NODE, source, common);
        }
        let home = tempfile::tempdir().map_err(Failure::io("making a temporary folder"))?;
        let opened = Self::node(project, home.path(), NODE, source, common)?;
        Ok(Self { _home: Some(home), ..opened })
    }

    fn node(
        project: Project,
        home: &Path,
        wanted: &str,
        source: &DataSource,
        common: &Common,
    ) -> Result<Self, Failure> {
        let (name, port) = port_of(&project, wanted)?;
        let nodes = [name.clone()];
        let asked =
            Asked { nodes: &nodes, wait: source.wait, caches: Some(&source.caches), ..Asked::default() };
        let ready = Prepared::new(project, home, &format!("data {}", source.source), asked)?;
        let (outcome, done) = ready.run(common.quiet)?;
        match outcome {
            Outcome::Done => {}
            Outcome::Interrupted => return Err(Failure::Interrupted),
            Outcome::Failed => {
                let said = |node: &crate::exec::NodeRecord| {
                    node.error.as_ref().map(|error| format!("node `{}`: {error}", node.name))
                };
                let failed: Vec<String> = done.iter().filter_map(said).collect();
                return Err(Failure::Other(failed.join("\n")));
            }
        }
        let made = done.iter().find(|node| node.name == name).and_then(|node| node.outputs.get(&port));
        let digest: Digest = made
            .map(|output| output.digest)
            .ok_or_else(|| Failure::Other(format!("node `{name}` gave nothing on port `{port}`")))?;
        let bytes = ready
            .store
            .artifact(&digest)?
            .ok_or_else(|| Failure::Other(format!("the artifact `{name}.{port}` is damaged; run again")))?;
        let artifact = Artifact { label: None, part: None, from: name, digest, bytes };
        let records = Records::read(&artifact)?;
        let shards = ready.library.shards(&records.manifest)?;
        Ok(Self { records, shards, _home: None })
    }
}

/// The node and the port of records that `node` or `node.port` names.
fn port_of(project: &Project, wanted: &str) -> Result<(String, String), Failure> {
    let (name, port) = wanted.split_once('.').map_or((wanted, None), |(name, port)| (name, Some(port)));
    project.places(&[name.to_owned()])?;
    let id = project.graph.find(name).ok_or_else(|| Failure::Other(format!("there is no node `{name}`")))?;
    let records = project.graph.node(id).outputs.iter().filter(|port| port.ty.class == Class::Records);
    let known: Vec<&str> = records.map(|port| port.name.as_str()).collect();
    let found = known.iter().find(|known| port.is_none_or(|port| port == **known));
    let found = found.ok_or_else(|| {
        Failure::Other(match (port, known.is_empty()) {
            (_, true) => format!("node `{name}` gives no records"),
            (port, false) => format!(
                "node `{name}` gives no records on port `{}`; it does on {}",
                port.unwrap_or_default(),
                known.join(", ")
            ),
        })
    })?;
    Ok((name.to_owned(), (*found).to_owned()))
}

/// The experiment of one node that reads this data; what is broken in it is shown, and so no failure.
fn experiment(source: &DataSource) -> Result<String, Failure> {
    let path = &source.source;
    let name = path.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let beside = || {
        let own = Path::new(path).parent().map(|folder| folder.to_string_lossy().into_owned());
        let own = own.filter(|folder| !folder.is_empty()).unwrap_or_else(|| ".".to_owned());
        source.pictures.clone().unwrap_or(own)
    };
    let folder = Path::new(path);
    let fields: Vec<(&str, String)> = if folder.is_dir() {
        let has = |name: &str| folder.join(name).is_dir();
        let kind = if has("images") && has("annotations") { "data.masks" } else { "data.class-folders" };
        vec![("kind", kind.into()), ("folder", path.clone())]
    } else if ends(&[".tar", ".tar.gz", ".tgz"]) || path.starts_with('@') {
        vec![("kind", "data.webdataset".into()), ("shards", path.clone())]
    } else if ends(&[".parquet"]) {
        let mut fields = vec![("kind", "data.parquet".into()), ("tables", path.clone())];
        // img2dataset's other form: a tar of the same name beside each table.
        let tars = format!("{}.tar", &path[..path.len() - ".parquet".len()]);
        if !Disk.expand(&tars).is_empty() {
            fields.push(("shards", tars));
        }
        fields
    } else if ends(&[".csv", ".tsv", ".jsonl", ".ndjson"]) {
        vec![("kind", "data.table".into()), ("file", path.clone()), ("folder", beside())]
    } else if ends(&[".json"]) {
        let bytes =
            files::read(path).map_err(|reason| Failure::Other(format!("cannot read `{path}`: {reason}")))?;
        let (kind, field) = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => ("data.llava", "conversations"),
            _ => ("data.coco", "annotations"),
        };
        vec![("kind", kind.into()), (field, path.clone()), ("folder", beside())]
    } else {
        return Err(Failure::Other(format!(
            "`{path}` is neither an experiment (`.toml`), nor a folder, nor data that a name tells: tar, tar.gz, parquet, csv, \
             tsv, jsonl, json"
        )));
    };
    if source.pictures.is_some() && !ends(&[".csv", ".tsv", ".jsonl", ".ndjson", ".json"]) {
        let message =
            format!("`--pictures` is for tables and annotation files; `{path}` has its pictures itself");
        return Err(Failure::Other(message));
    }
    let field = |(name, value): &(&str, String)| format!("{name} = {}\n", toml::Value::String(value.clone()));
    let fields: String = fields.iter().map(field).collect();
    Ok(format!("schema = 1\n[nodes.{NODE}]\n{fields}max-bad = {}\n", u32::MAX))
}
