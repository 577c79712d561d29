//! The run record: what ran, on what, and what came out. One folder a run, `HOME/runs/ID/record.json`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use heddle_graph::{digest::Digest, plan::Facts};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::shelf::Shelf;

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Its artifacts were in the cache.
    Hit,
    /// It ran and finished.
    Ran,
    /// It ran and failed.
    Failed,
    /// It was stopped at a step boundary.
    Cancelled,
    /// It never started.
    Skipped,
}

/// One output artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub bytes: u64,
    /// The file in the run's folder of artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// One input artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// The port that it arrives at, with the label within it: `weights.vit`.
    pub port: String,
    /// The node and its port that made it: `stage1.weights`.
    pub from: String,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// How many records' values of a frozen output were there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCount {
    /// They were in the cache.
    pub hit: u64,
    /// They were computed.
    pub new: u64,
}

/// One node of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How it ended.
    pub state: NodeState,
    /// Its artifacts came from the remote cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remote: bool,
    /// Wall time, seconds; 0 for hits.
    pub seconds: f64,
    /// Seconds that the plan foretold, if it was to run and a cost was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_seconds: Option<f64>,
    /// Why it ran; empty for hits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Its artifact key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// What it took, port by port; empty where it never started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRecord>,
    /// Its artifacts by port.
    #[serde(default)]
    pub outputs: BTreeMap<String, OutputRecord>,
    /// By output of its model graph: what frozen parts gave for single records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, RowCount>,
    /// The error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl NodeRecord {
    /// A record without artifacts.
    pub fn new(facts: &Facts, state: NodeState, seconds: f64, why: String) -> Self {
        Self {
            name: facts.name.clone(),
            kind: facts.kind.clone(),
            state,
            remote: false,
            seconds,
            predicted_seconds: None,
            why,
            key: None,
            inputs: Vec::new(),
            outputs: BTreeMap::new(),
            rows: BTreeMap::new(),
            error: None,
        }
    }
}

/// The remote cache of a run, and what went between it and the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRecord {
    /// Where it is.
    pub url: String,
    /// Bytes from there.
    pub fetched_bytes: u64,
    /// Bytes to there.
    pub published_bytes: u64,
}

/// What computed the run; differences between machines show here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// heddle's version.
    pub heddle: String,
    /// Operating system and processor architecture.
    pub platform: String,
    /// The processor's vector features that kernels choose by.
    pub cpu_features: Vec<String>,
    /// Threads that the run used.
    pub threads: usize,
    /// Device.
    pub device: String,
}

impl Versions {
    /// This program on this machine.
    pub fn here(threads: usize, device: &str) -> Self {
        Self {
            heddle: env!("CARGO_PKG_VERSION").to_owned(),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            cpu_features: cpu_features(),
            threads,
            device: device.to_owned(),
        }
    }
}

fn cpu_features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    found.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect()
}

/// Where a cell of a set of runs comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellKind {
    /// The experiment as it stands.
    Base,
    /// An entry of `[ablations]`.
    Ablation,
    /// A cell of an entry of `[sweeps]`.
    Sweep,
}

/// Which variant of its experiment a run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// What it is.
    pub kind: CellKind,
    /// The name of the ablation or sweep; `base` for the base.
    pub name: String,
    /// What it changes on the base, by key.
    pub overrides: IndexMap<String, Json>,
}

impl CellRecord {
    /// Whether this is the cell of that name. An ablation stays itself when its changes are mended; a cell of a sweep is
    /// told from its neighbours by nothing else.
    pub fn is(&self, other: &Self) -> bool {
        let same = self.kind == other.kind && self.name == other.name;
        same && (self.kind != CellKind::Sweep || self.overrides == other.overrides)
    }

    /// The cell in a few words: `schedule lr=0.001 seed=1`.
    pub fn label(&self) -> String {
        let mut label = self.name.clone();
        if self.kind == CellKind::Sweep {
            let keys: Vec<String> = self.overrides.keys().cloned().collect();
            for (key, value) in short_keys(&keys).iter().zip(self.overrides.values()) {
                label.push_str(&format!(" {key}={value}"));
            }
        }
        label
    }
}

/// Keys by their last parts, as many as tell them apart.
pub fn short_keys(keys: &[String]) -> Vec<String> {
    let tail = |key: &str, parts: usize| {
        let all: Vec<&str> = key.split('.').collect();
        all[all.len().saturating_sub(parts)..].join(".")
    };
    let told_apart = |key: &String| {
        (1..key.split('.').count())
            .map(|parts| tail(key, parts))
            .find(|short| {
                let same = |other: &&String| *other == short || other.ends_with(&format!(".{short}"));
                keys.iter().filter(same).count() == 1
            })
            .unwrap_or_else(|| key.clone())
    };
    keys.iter().map(told_apart).collect()
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// `YYYYMMDD-HHMMSS-xxxx`, UTC; sorts by time.
    pub id: String,
    /// The experiment file as it was named on the command line.
    pub file: String,
    /// The folder that the command was given in, from the home folder on: what relative paths start from. Earlier builds wrote it
    /// from the root on.
    #[serde(default)]
    pub folder: String,
    /// The command line after the program's name.
    pub arguments: Vec<String>,
    /// The values of `-S`.
    #[serde(default)]
    pub set: Vec<String>,
    /// The nodes that were asked for; all if empty.
    #[serde(default)]
    pub asked: Vec<String>,
    /// Which variant it was, if it is one of a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<CellRecord>,
    /// The set of runs that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The run that this one computed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replays: Option<String>,
    /// The remote cache, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteRecord>,
    /// `running`, `done`, `failed` or `interrupted`.
    pub state: String,
    /// When it started, seconds since 1970.
    pub started_unix: u64,
    /// Wall time, seconds.
    pub seconds: f64,
    /// The experiment's seed.
    pub seed: u64,
    /// What computed it.
    pub versions: Versions,
    /// The whole configuration after includes, params and overrides.
    pub config: Json,
    /// For nodes that run a model graph: its place in the configuration's `graphs`.
    #[serde(default)]
    pub graph_of: BTreeMap<String, usize>,
    /// The texts that were read, by path, so that the run can be done again without the files.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
    /// The nodes, in topological order.
    pub nodes: Vec<NodeRecord>,
    /// Measurements of the metric nodes, by node.
    #[serde(default)]
    pub metrics: BTreeMap<String, Json>,
}

/// The folder of all runs.
#[derive(Debug, Clone)]
pub struct RunsDir(Shelf);

impl RunsDir {
    /// The runs under a home folder.
    pub fn new(home: &Path) -> Self {
        Self(Shelf::new(home.join("runs"), "record.json"))
    }

    /// The folder of one run.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.0.dir(id)
    }

    /// A new id, behind all that there are; makes the folder.
    pub fn create(&self, now_unix: u64) -> io::Result<String> {
        self.0.create(now_unix)
    }

    /// Writes a record whole or not at all.
    pub fn write(&self, record: &RunRecord) -> io::Result<()> {
        self.0.write(&record.id, record)
    }

    /// Reads one record.
    pub fn read(&self, id: &str) -> io::Result<RunRecord> {
        self.0.read(id)
    }

    /// The ids of all runs, oldest first.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        self.0.ids()
    }
}

#[cfg(test)]
mod tests {
    use super::short_keys;

    #[test]
    fn keys_are_as_short_as_they_may_be() {
        let keys = ["nodes.a.lr", "nodes.b.lr", "nodes.a.optimizer.beta", "seed"].map(str::to_owned);
        assert_eq!(short_keys(&keys), ["a.lr", "b.lr", "beta", "seed"]);
    }
}
