//! `cargo bench -p heddle --bench step`: the quickstart's training step, against PyTorch in the same run.
//!
//! Both towers, contrastive loss, backward, clipping and AdamW on fixed random inputs: batch 96, images 32 x 32,
//! texts of 16 tokens, 2 threads each. The peer is `benches/peers/step.py` (PyTorch eager, same shapes and dtype);
//! without PyTorch only heddle's own time is printed. The two alternate, and the best of each counts.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{collections::BTreeMap, process::Command, time::Instant};

use heddle::{
    model::{ModelGraph, Pass},
    project,
};
use heddle_tensor::{
    AdamW, Cpu, HostTensor, Mode, Parameters, Tape, Tokens, Value, backward, value::ValueKind,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 96;
const TOKENS: usize = 16;
const STEPS: u32 = 20;
const ROUNDS: usize = 4;

fn main() {
    heddle::memory::keep_freed_memory();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let file = format!("{root}/experiments/quickstart.toml");
    let project =
        project::load(&file, &[]).map_err(|broken| broken.diagnostics).expect("the quickstart is correct");
    let stage = project.graph.find("stage1").expect("the quickstart has a stage");
    let model = project.graph.node(stage).spec.model().expect("a stage has a model").clone();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let (mut ours, mut peer) = (f64::INFINITY, None);
    for _ in 0..ROUNDS {
        ours = pool.install(|| heddle_step(&model)).min(ours);
        peer = match (peer, torch_step(root)) {
            (Some(a), Some(b)) => Some(f64::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    println!("heddle: {:.1} ms a step, {:.0} records/s", ours * 1e3, BATCH as f64 / ours);
    match peer {
        Some(peer) => {
            println!("PyTorch eager: {:.1} ms a step; heddle is {:.2} times as fast", peer * 1e3, peer / ours)
        }
        None => println!("PyTorch is not installed: no ratio (pip install torch)"),
    }
}

/// Mean seconds of a step.
fn heddle_step(model: &ModelGraph) -> f64 {
    let backend = Cpu::default();
    let specs = model.parameters().into_iter().map(|parameter| (parameter.name, parameter.spec));
    let mut parameters = Parameters::init(specs, 0, &backend).expect("the model fits memory");
    let mut optimizer = AdamW::new([0.9, 0.98], 1e-8, 0.1);
    let pixels: Vec<f32> =
        (0..BATCH * 3 * 32 * 32).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect();
    let ids = (0..BATCH * TOKENS).map(|i| 3 + (i * 48_271 % 4000) as u32).collect();
    let (loss, _) = model.output("itc").expect("the graph has the loss");
    let mut step = || {
        let host = HostTensor { shape: vec![BATCH, 3, 32, 32], data: pixels.clone() };
        let image = Value::from_host(&backend, ValueKind::Image, host, &Tape::off()).expect("a batch");
        let text =
            Value::Text(Tokens::new(Vec::clone(&ids), BATCH, TOKENS).expect("as many ids as the sizes say"));
        let inputs = BTreeMap::from([("image".to_owned(), image), ("caption".to_owned(), text)]);
        let pass = Pass { model, parameters: &parameters, mode: Mode::Train, seed: 0, tape: Tape::new() };
        let values = pass.run(&inputs, std::slice::from_ref(&loss)).expect("a pass");
        let Some(Value::Scalar(loss)) = values.into_iter().next() else { unreachable!("a loss is a scalar") };
        let mut gradients = backward(loss, &parameters).expect("gradients");
        gradients.clip(1.0).expect("a norm");
        optimizer.step(&mut parameters, &gradients, 1e-3).expect("a step");
    };
    (0..3).for_each(|_| step());
    let start = Instant::now();
    (0..STEPS).for_each(|_| step());
    start.elapsed().as_secs_f64() / f64::from(STEPS)
}

/// Mean seconds of the peer's step; none without PyTorch.
fn torch_step(root: &str) -> Option<f64> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg(format!("{root}/benches/peers/step.py"))
        .args([BATCH.to_string(), TOKENS.to_string(), STEPS.to_string()])
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
