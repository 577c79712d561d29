//! `cargo bench -p heddle --bench decode [-- MODEL.gguf]`: tokens a second of greedy decoding with a cache, against PyTorch on the
//! same weights.
//!
//! SmolLM2-135M in single precision, prompts of 16 tokens and then 64 more, 1 and 8 sequences; on two threads, and on one, where
//! processor time counts, which other guests of a machine disturb less. The peer is
//! `benches/peers/decode.py` (`transformers`, its own cache, a bare loop and `generate`). Each measurement is a process of its
//! own, by turns, and the best of each counts; prompts are read before the clock starts. Both sides have to write the same
//! tokens. `scripts/fetch-smollm2.sh` fetches the model; `PYTHON` names an interpreter with `torch` and `transformers`, without which
//! only heddle's side is printed.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use heddle_tensor::{
    Cpu, DynModule as _, Parameters, Tokens, Value,
    generate::{Decoding, Limits, Search, generate},
    modules::{Decoder, Llama},
    parameter::{LoadOptions, WeightsFile},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 2;
const PROMPT: usize = 16;
const NEW: usize = 64;

/// Seconds of a whole continuation, and its tokens as they are printed.
struct Measured {
    seconds: f64,
    tokens: String,
}

/// Seconds of processor time so far, of all threads; 0 where the system does not say.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    // The system counts in hundredths; user and system time are the 12th and 13th field behind the name.
    after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What counts: wall time, or processor time on one thread.
fn clock(threads: usize) -> impl Fn() -> f64 {
    let start = Instant::now();
    move || if threads == 1 { processor_time() } else { start.elapsed().as_secs_f64() }
}

fn main() {
    heddle::memory::keep_freed_memory();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [worker, weights, batch, threads] = args.as_slice()
        && worker == "--worker"
    {
        let threads = threads.parse().expect("a number of threads");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let batch = batch.parse().expect("a number of sequences");
        let Measured { seconds, tokens } = pool.install(|| work(Path::new(weights), batch, threads));
        return println!("{seconds} {tokens}");
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let usual = format!("{root}/experiments/data/SmolLM2-135M-Instruct.Q4_1.gguf");
    let file = args.first().cloned().unwrap_or(usual);
    if !Path::new(&file).is_file() {
        return println!("there is no {file}; scripts/fetch-smollm2.sh fetches it");
    }
    let home = tempfile::tempdir().expect("a folder");
    let weights = weights(&file, home.path());
    for (threads, batch) in [(1, 1), (1, 8), (2, 1), (2, 8)] {
        compare(root, &weights, batch, threads);
    }
}

/// The model as a safetensors file in single precision, which both sides read.
fn weights(file: &str, home: &Path) -> PathBuf {
    let file = std::fs::canonicalize(file).expect("the model's path");
    let experiment = format!("schema = 1\n[nodes.model]\nkind = \"weights.gguf\"\nfile = {file:?}\n");
    std::fs::write(home.join("x.toml"), experiment).expect("an experiment");
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
    let ended = command.args(["run", "x.toml", "--quiet"]).current_dir(home).status().expect("heddle starts");
    assert!(ended.success(), "the model is read");
    let run =
        std::fs::read_dir(home.join(".heddle/runs")).expect("runs").next().expect("a run").expect("a run");
    run.path().join("artifacts/model.weights.safetensors")
}

fn compare(root: &str, weights: &Path, batch: usize, threads: usize) {
    let me = std::env::current_exe().expect("this program");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (mut ours, mut bare, mut library) = (None, None, None);
    for _ in 0..ROUNDS {
        let sizes = [batch, PROMPT, NEW, threads].map(|size| size.to_string());
        let with = |command: &mut Command, mode: &str| run(command.arg(weights).args(&sizes).arg(mode));
        ours = best(ours, run(Command::new(&me).arg("--worker").arg(weights).args([&sizes[0], &sizes[3]])));
        let script = format!("{root}/benches/peers/decode.py");
        bare = best(bare, with(Command::new(&python).arg(&script), "loop"));
        library = best(library, with(Command::new(&python).arg(&script), "generate"));
    }
    let Some(ours) = ours else { return println!("{threads} threads, {batch} sequences: failed") };
    let rate = |measured: &Measured| (batch * (NEW - 1)) as f64 / measured.seconds;
    let mut line = format!("{threads} threads, {batch} sequences: heddle {:.1} tokens/s", rate(&ours));
    for (name, peer) in [("loop", bare), ("generate", library)] {
        if let Some(peer) = peer {
            let same = if peer.tokens == ours.tokens { "the same tokens" } else { "OTHER TOKENS" };
            let times = rate(&ours) / rate(&peer);
            let _ =
                write!(line, "; transformers {name} {:.1}, {same}: {times:.2} times as fast", rate(&peer));
        }
    }
    println!("{line}");
}

fn best(a: Option<Measured>, b: Option<Measured>) -> Option<Measured> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.seconds < a.seconds { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn run(command: &mut Command) -> Option<Measured> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (seconds, tokens) = text.trim().split_once(' ')?;
    Some(Measured { seconds: seconds.parse().ok()?, tokens: tokens.to_owned() })
}

/// Token `place` of prompt `record`, as the peer has it.
fn prompt(record: usize, place: usize) -> u32 {
    (1000 + (record * 7919 + place * 104_729) % 40_000) as u32
}

fn work(weights: &Path, batch: usize, threads: usize) -> Measured {
    let module = Llama {
        decoder: Decoder {
            vocab: 49152,
            width: 576,
            depth: 30,
            heads: 9,
            kv_heads: Some(3),
            mlp_width: 1536,
            eps: 1e-5,
            rope_base: 100_000.0,
            ..Decoder::default()
        },
        projection: None,
        head: true,
        ..Llama::default()
    };
    let backend = Cpu::inference();
    let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
    let mut parameters = Parameters::init(specs, 0, &backend).expect("the model fits memory");
    let file = WeightsFile::open(weights).expect("weights");
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    parameters.load(file.bytes(), |name| Some(name.to_owned()), options).expect("the model's weights");
    parameters.set_trainable(|_| false);
    let ids = (0..batch).flat_map(|record| (0..PROMPT).map(move |place| prompt(record, place))).collect();
    let text = Tokens::new(ids, batch, PROMPT).expect("as many ids as the sizes say");
    let once = || {
        let inputs = vec![("text".to_owned(), Value::Text(text.clone()))];
        let (mut decoding, first) = Decoding::start(&module, &parameters, "", inputs).expect("prompts");
        let limits = Limits { min_new: 0, max_new: NEW, end: Vec::new() };
        let now = clock(threads);
        let start = now();
        let texts = generate(first, &mut decoding, &Search::Greedy, &limits, &mut ()).expect("continuations");
        let seconds = now() - start;
        let tokens: Vec<String> = texts.iter().flat_map(|text| &text.tokens).map(u32::to_string).collect();
        Measured { seconds, tokens: tokens.join(",") }
    };
    once();
    let second = once();
    best(Some(second), Some(once())).expect("two measurements")
}
