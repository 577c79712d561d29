//! A temporary folder and the program running in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

/// A folder that goes away with the test.
pub struct Dir(tempfile::TempDir);

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Results.
    pub stdout: String,
    /// Progress, notes, errors.
    pub stderr: String,
}

/// The experiment that most tests run.
pub const TINY: &str = "experiments/tiny.toml";

/// The experiment of [`Dir::lab`].
pub const LAB: &str = "lab.toml";

/// The folder `tests/` of the repository.
pub fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program in a folder, in an environment without settings of the user.
pub fn program(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
    command.current_dir(dir).args(arguments).env_clear().stdin(Stdio::null());
    command.env("HEDDLE_PLUGIN_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/plugins"));
    for kept in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// All files below a folder, in an order of their names.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.into_iter().flat_map(below).collect()
}

/// Runs the program in a folder of the repository.
pub fn heddle_in(dir: &Path, arguments: &[&str]) -> Ended {
    ended(program(dir, arguments).output().unwrap())
}

/// What the output of a process was.
pub fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Dir {
    /// An empty folder.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with the tiny experiment and its model graph.
    pub fn tiny() -> Self {
        let dir = Self::empty();
        for name in [TINY, "graphs/tiny.toml"] {
            dir.write(name, fs::read(here().join(name)).unwrap());
        }
        dir
    }

    /// A folder with an experiment that leaves everything that a cache holds: artifacts, rows of a frozen tower, checkpoints, verdicts
    /// of a plugin.
    pub fn lab() -> Self {
        let dir = Self::empty();
        let graphs = repository().join("graphs");
        let text = fs::read_to_string(here().join("experiments/frozen.toml")).unwrap();
        dir.write("frozen.toml", text.replace("../../graphs", graphs.to_str().unwrap()));
        dir.write(LAB, fs::read(here().join("experiments/lab.toml")).unwrap());
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Replaces text that must be in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, text.replace(from, to));
    }

    /// Runs the program here.
    pub fn heddle(&self, arguments: &[&str]) -> Ended {
        heddle_in(self.path(), arguments)
    }

    /// Runs the program here and wants exit code 0.
    pub fn done(&self, arguments: &[&str]) -> Ended {
        let ended = self.heddle(arguments);
        assert_eq!(ended.code, Some(0), "heddle {}\n{ended}", arguments.join(" "));
        ended
    }

    /// Starts the program here.
    pub fn start(&self, arguments: &[&str]) -> Child {
        program(self.path(), arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The record of the newest run of the tiny experiment.
    pub fn last_run(&self) -> Json {
        self.done(&["runs", "show", "--json"]).json()
    }

    /// What the newest run did with every node: `hit`, `ran`, ...
    pub fn states(&self) -> Vec<(String, String)> {
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        let record = self.last_run();
        record["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| (text(&node["name"]), text(&node["state"])))
            .collect()
    }

    /// The nodes of the newest run that are in this state.
    pub fn nodes_that(&self, state: &str) -> Vec<String> {
        self.states().into_iter().filter(|(_, found)| found == state).map(|(name, _)| name).collect()
    }

    /// The digests of all artifacts of the newest run, by `node.port`.
    pub fn digests(&self) -> Vec<(String, String)> {
        digests(&self.last_run())
    }

    /// The same of a home folder elsewhere.
    pub fn digests_of(&self, home: &str) -> Vec<(String, String)> {
        digests(&self.done(&["runs", "show", "--json", "--home", home]).json())
    }
}

/// The digests of all artifacts of a run, by `node.port`.
pub fn digests(record: &Json) -> Vec<(String, String)> {
    let mut digests = Vec::new();
    for node in record["nodes"].as_array().unwrap() {
        for (port, artifact) in node["outputs"].as_object().unwrap() {
            let name = format!("{}.{port}", node["name"].as_str().unwrap());
            digests.push((name, artifact["digest"].as_str().unwrap().to_owned()));
        }
    }
    assert!(!digests.is_empty());
    digests
}

impl Ended {
    /// Standard output as JSON.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr)
    }
}

/// The nodes that a run has said to be in the cache.
pub fn said_to_be_there(ended: &Ended) -> BTreeSet<String> {
    let node = |line: &str| {
        let rest = line.strip_prefix("done  ").or_else(|| line.strip_prefix("hit   "))?;
        rest.split(' ').next().map(str::to_owned)
    };
    ended.stderr.lines().filter_map(node).collect()
}

/// Of these nodes, those that a run has run again.
pub fn ran_again(ended: &Ended, there: &BTreeSet<String>) -> Vec<String> {
    let started = |node: &&String| {
        let start = format!("run   {node}: ");
        ended.stderr.lines().any(|line| line.starts_with(&start))
    };
    there.iter().filter(started).cloned().collect()
}

/// Waits until something is true; a test that would wait for ever fails instead.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process and gives what it said.
pub fn finish(child: Child) -> Ended {
    ended(child.wait_with_output().unwrap())
}

/// Snapshots in which times, run ids, digests and the bytes of padding before times do not count.
pub fn filtered(check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN");
    settings.add_filter(r" *\b\d+(\.\d+)? (ms|s|min|h)\b", " TIME");
    settings.add_filter(r"\b[0-9a-f]{12}\b", "DIGEST");
    settings.bind(check);
}

/// The first picture of the shard is no longer one.
pub fn break_a_picture(mut bytes: Vec<u8>) -> Vec<u8> {
    let signature = b"\x89PNG\r\n\x1a\n";
    let at = bytes.windows(signature.len()).position(|window| window == signature).unwrap();
    bytes[at + 40..at + 120].fill(0xff);
    bytes
}
