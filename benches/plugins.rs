//! `cargo bench -p heddle --bench plugins [-- RECORDS]`: example filters in the sandbox against the same rules built for this machine.
//!
//! The native side is `benches/native`, which this builds first and asks by turns, so that both sides see the same machine.
//! All on one thread, batches of 1,024 records, the best of several rounds, nanoseconds a record:
//!
//! | figure | of |
//! |---|---|
//! | `call` | `Session::prepare` and `filter` on Arrow columns: lowering, the guest, the answer's checks; against the rule on the same columns |
//! | `stage` | the same with the columns built from rows first; against the rule on rows |
//! | `warm start` | loading compiled code from the cache and instantiating; the limit is 5 ms |
//!
//! Then the node itself: `data.filter` over that many records in a manifest, all threads, from an empty cache and from a full
//! one, with the process's peak memory for a tenth of the records and for all: what it allocated, not the pages of files that it
//! maps, which the system takes back when it wants them.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[path = "native/src/records.rs"]
mod records;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{
    ArrayRef,
    builder::{ListBuilder, StringBuilder},
};
use heddle_plugin::{Batch, Isolation, Limits, LoadOptions, Session, Settings};
use records::{Row, rows};

const BATCH: usize = 1024;
const ROUNDS: usize = 5;
const RULES: [(&str, &str); 3] =
    [("caption-length", r#"{"min_words": 5}"#), ("gibberish", "{}"), ("language", "{}")];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // The child that compiles a plugin is this program, as it is the `heddle` program otherwise.
    if args.first().is_some_and(|arg| arg == heddle::plugins::COMPILER_ARGUMENT) {
        return heddle_plugin::compiler_main();
    }
    let count: usize = args.first().map_or(1_000_000, |arg| arg.parse().expect("a number of records"));
    println!("{count} records, one thread, ns a record, best of {ROUNDS}");
    let mut native = Native::start();
    let made = rows(count);
    for (rule, config) in RULES {
        compare(&mut native, rule, config, &made);
    }
    node(count);
    ExitCode::SUCCESS
}

/// The best of some rounds.
#[derive(Debug, Clone, Copy)]
struct Best(f64);

impl Best {
    fn of(&mut self, value: f64) {
        self.0 = self.0.min(value);
    }
}

fn compare(native: &mut Native, rule: &str, config: &str, rows: &[Row]) {
    let path = format!("embedded:plugins/{rule}.wasm");
    let session = open(&path, config);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let none = Best(f64::INFINITY);
    let (mut on_rows, mut on_columns, mut call, mut building, mut stage) = (none, none, none, none, none);
    let (mut hit, mut start) = (none, none);
    let mut kept = (0, 0);
    for _ in 0..ROUNDS {
        let [rows_ns, _, columns_ns, count] = native.ask(rule, rows.len());
        on_rows.of(rows_ns);
        on_columns.of(columns_ns);
        let (call_ns, building_ns, mine) = sandboxed(&session, rows);
        call.of(call_ns);
        building.of(building_ns);
        stage.of(call_ns + building_ns);
        kept = (count as usize, mine);
        let (load, open) = warm(&folder.path().join("compiled"), rule, config);
        hit.of(load);
        start.of(open);
    }
    assert_eq!(kept.0, kept.1, "both sides keep the same records");
    println!(
        "{rule}: call {:.1} against {:.1} on columns = {:.2} (limit 1.5); columns {:.1}; stage {:.1} against {:.1} on rows = {:.2} \
         (limit 2.0); warm start {:.2} ms + {:.3} ms (limit 5)",
        call.0,
        on_columns.0,
        call.0 / on_columns.0,
        building.0,
        stage.0,
        on_rows.0,
        stage.0 / on_rows.0,
        hit.0 * 1e3,
        start.0 * 1e3
    );
}

fn open(path: &str, config: &str) -> Session {
    let plugin = heddle::plugins::load(path, LoadOptions::default()).expect("the plugin loads");
    let config = serde_json::from_str(config).expect("a config");
    let settings = Settings { config, seed: 0, limits: Limits::default(), isolation: Isolation::Session };
    plugin.open(settings).expect("the plugin opens")
}

/// Seconds to load a plugin whose compiled code is there, in a host of its own, and to open it.
fn warm(folder: &Path, rule: &str, config: &str) -> (f64, f64) {
    let bytes = heddle::files::read(&format!("embedded:plugins/{rule}.wasm")).expect("an embedded plugin");
    // Compiled code lies in this folder after the first round.
    let host = heddle::plugins::host_in(folder).expect("a host");
    let start = Instant::now();
    let plugin = host.load(rule, &bytes, LoadOptions::default()).expect("the plugin loads");
    let load = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let config = serde_json::from_str(config).expect("a config");
    let settings = Settings { config, seed: 0, limits: Limits::default(), isolation: Isolation::Session };
    let _session = plugin.open(settings).expect("the plugin opens");
    (load, start.elapsed().as_secs_f64())
}

/// Nanoseconds a record of the calls and of building columns, and how many records stay.
fn sandboxed(session: &Session, rows: &[Row]) -> (f64, f64, usize) {
    let per_record = |time: Duration| time.as_nanos() as f64 / rows.len() as f64;
    let (mut calls, mut building, mut kept) = (Duration::ZERO, Duration::ZERO, 0);
    for (index, rows) in rows.chunks(BATCH).enumerate() {
        let start = Instant::now();
        let batch = Batch { index: index as u64, rows: rows.len(), columns: columns(rows) };
        building += start.elapsed();
        let start = Instant::now();
        let verdicts = session
            .prepare(&batch)
            .and_then(|batch| session.filter(&batch))
            .expect("the plugin answers")
            .value;
        calls += start.elapsed();
        kept += verdicts.iter().filter(|verdict| **verdict == 0).count();
    }
    (per_record(calls), per_record(building), kept)
}

fn columns(rows: &[Row]) -> Vec<(String, ArrayRef)> {
    let mut texts = ListBuilder::new(StringBuilder::new());
    let mut languages = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for (text, language) in &row.captions {
            texts.values().append_value(text);
            languages.values().append_value(language);
        }
        texts.append(true);
        languages.append(true);
    }
    vec![
        ("captions".to_owned(), Arc::new(texts.finish())),
        ("captions.language".to_owned(), Arc::new(languages.finish())),
    ]
}

/// The rules built for this machine, in a process of their own.
struct Native {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Native {
    fn start() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/native/Cargo.toml");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native-rules");
        let built = Command::new("cargo")
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(&manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "benches/native does not build");
        let mut child = Command::new(target.join("release/native-rules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the native rules start");
        let ask = child.stdin.take().expect("a pipe");
        let answer = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, ask, answer }
    }

    fn ask(&mut self, rule: &str, count: usize) -> [f64; 4] {
        writeln!(self.ask, "{rule} {count}").expect("the native rules listen");
        let mut line = String::new();
        self.answer.read_line(&mut line).expect("the native rules answer");
        let numbers: Vec<f64> = line.split_whitespace().map(|one| one.parse().expect("a number")).collect();
        numbers.try_into().expect("four numbers")
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node in the program: from a table of so many records through a filter, cold and warm.
fn node(count: usize) {
    for count in [count / 10, count] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("images")).expect("a folder");
        for number in 0..16 {
            std::fs::write(at(&format!("images/{number}.png")), format!("picture {number}")).expect("a file");
        }
        let mut table = String::new();
        for (number, row) in rows(count).into_iter().enumerate() {
            let (text, _) = &row.captions[0];
            writeln!(table, "{{\"filepath\": \"{}.png\", \"n\": {number}, \"t\": {text:?}}}", number % 16)
                .expect("a string grows");
        }
        std::fs::write(at("x.jsonl"), table).expect("a file");
        let nodes = "schema = 1\n[nodes.source]\nkind = \"data.table\"\nfile = \"x.jsonl\"\nfolder = \"images\"\ncaptions = { en = \"t\" }\n\
                     [nodes.clean]\nkind = \"data.filter\"\nin = \"source\"\nplugin = \"embedded:plugins/caption-length.wasm\"\nconfig = { min_words = 5 }\n";
        std::fs::write(at("x.toml"), nodes).expect("a file");
        let (reading, peak_reading) = run(dir.path(), &["run", "x.toml", "source", "--quiet"]);
        let (cold, peak) = run(dir.path(), &["run", "x.toml", "clean", "--quiet"]);
        let (warm, _) = run(dir.path(), &["run", "x.toml", "clean", "--quiet", "--force", "clean"]);
        println!(
            "{count} records as a whole: table to manifest {:.2} us a record, peak {peak_reading:.0} MiB; filter {:.2} us, peak {peak:.0} \
             MiB; with its verdicts known {:.2} us",
            reading / count as f64 * 1e6,
            cold / count as f64 * 1e6,
            warm / count as f64 * 1e6
        );
    }
}

/// Seconds and the peak of resident memory in MiB.
fn run(dir: &Path, args: &[&str]) -> (f64, f64) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_heddle"))
        .args(args)
        .current_dir(dir)
        .spawn()
        .expect("heddle starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        if let Some(ended) = child.try_wait().expect("the child is mine") {
            assert!(ended.success(), "heddle {} failed", args.join(" "));
            return (start.elapsed().as_secs_f64(), peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
