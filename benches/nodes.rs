//! `cargo bench -p heddle --bench nodes [-- FILTER]`: InternViT and LLaMA against PyTorch, same shapes, threads and dtype.
//!
//! | name | what |
//! |---|---|
//! | `vit-forward` | InternViT, width 384, depth 12, 6 heads, 257 tokens, batch 8, no gradients |
//! | `vit-step` | the same: forward, backward, AdamW |
//! | `vit-step-checkpoint` | the same with `checkpoint = true`, against PyTorch without |
//! | `llama-forward`, `llama-step` | one LLaMA layer, causal, 128 tokens, width 512, 8 heads, MLP 1376, batch 16 |
//! | `vit-forward-bf16` | frozen, bf16, where the processor has `avx512_bf16` |
//!
//! Each measurement is a process of its own, heddle's (this binary with `--worker`) and the peer's
//! (`benches/peers/nodes.py`, eager and `torch.compile`), by turns, twice (compiled once); the best of each counts. A process prints its seconds
//! a call and how far its memory grew from before the model was made. Without PyTorch only heddle's side is printed.
//! `PYTHON` names the interpreter; `COMPILE=0` leaves out `torch.compile`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{process::Command, time::Instant};

use dfdx::prelude::{Axes2, MeanTo};
use heddle_tensor::{
    AdamW, Backend, Cpu, DynModule, Forward, HostTensor, Mode, Parameters, Tape, Tokens, Value, backward,
    modules::{Decoder, InternVit, Llama},
    value::ValueKind,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: [&str; 6] =
    ["vit-forward", "vit-forward-bf16", "vit-step", "vit-step-checkpoint", "llama-forward", "llama-step"];
const ROUNDS: usize = 2;

/// One process' result.
#[derive(Clone, Copy)]
struct Measured {
    seconds: f64,
    grown_mib: f64,
}

fn main() {
    heddle::memory::keep_freed_memory();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [worker, name, threads] = args.as_slice()
        && worker == "--worker"
    {
        let threads = threads.parse().expect("a number of threads");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let Measured { seconds, grown_mib } = pool.install(|| work(name));
        return println!("{seconds} {grown_mib}");
    }
    let filter = args.first().cloned().unwrap_or_default();
    println!("processor: {}", processor());
    for name in NAMES.iter().filter(|name| name.contains(&filter)) {
        [1, 2].into_iter().for_each(|threads| compare(name, threads));
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let features = ["avx2", "avx512f", "avx512_bf16"].into_iter().filter(|f| info.contains(f));
    format!("{} ({})", model.trim_start_matches(['\t', ' ', ':']), features.collect::<Vec<_>>().join(", "))
}

fn compare(name: &str, threads: usize) {
    let (mut ours, mut eager, mut compiled, mut peak) = (None, None, None, None);
    let compile = std::env::var("COMPILE").as_deref() != Ok("0");
    for round in 0..ROUNDS {
        ours = best(ours, this(name, threads));
        eager = best(eager, torch(name, threads, "eager"));
        // Compiling takes most of a minute.
        if compile && round == 0 && eager.is_some() {
            compiled = best(compiled, torch(name, threads, "compile"));
        }
        peak = best(peak, this("gemm", threads));
    }
    let Some(ours) = ours else { return println!("{name}, {threads} threads: failed") };
    let mut line =
        format!("{name}, {threads} threads: {:.1} ms, {:.0} MiB", ours.seconds * 1e3, ours.grown_mib);
    if let (Some(peak), "vit-forward") = (peak, name) {
        // Multiply-adds of the linear layers and of attention, two operations each.
        let share =
            vit().macs(IMAGE) as f64 * VIT_BATCH as f64 / ours.seconds / (peak.seconds.recip() * GEMM_MACS);
        line += &format!(
            "; {:.0} % of gemm's peak {:.0} GFLOP/s",
            share * 100.0,
            2.0 * GEMM_MACS / peak.seconds / 1e9
        );
    }
    for (peer, result) in [("PyTorch eager", eager), ("torch.compile", compiled)] {
        if let Some(Measured { seconds, grown_mib }) = result {
            let times = seconds / ours.seconds;
            line +=
                &format!("; {peer} {:.1} ms, {grown_mib:.0} MiB: {times:.2} times as fast", seconds * 1e3);
        }
    }
    println!("{line}");
}

fn best(a: Option<Measured>, b: Option<Measured>) -> Option<Measured> {
    match (a, b) {
        (Some(a), Some(b)) => {
            Some(Measured { seconds: a.seconds.min(b.seconds), grown_mib: a.grown_mib.min(b.grown_mib) })
        }
        (a, b) => a.or(b),
    }
}

fn this(name: &str, threads: usize) -> Option<Measured> {
    let me = std::env::current_exe().ok()?;
    run(Command::new(me).args(["--worker", name, &threads.to_string()]))
}

fn torch(name: &str, threads: usize, mode: &str) -> Option<Measured> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/nodes.py");
    run(Command::new(python).args([script, name.trim_end_matches("-checkpoint"), &threads.to_string(), mode]))
}

fn run(command: &mut Command) -> Option<Measured> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    Some(Measured { seconds: numbers.next()?, grown_mib: numbers.next()? })
}

// ---- heddle's side ---------------------------------------------------------------------------------------------------

const VIT_BATCH: usize = 8;
const IMAGE: heddle_tensor::InputSize = heddle_tensor::InputSize::Image { height: 224, width: 224 };
const TEXT: (usize, usize) = (16, 128);
/// Side of the square products that gemm's peak is measured with.
const GEMM_SIDE: usize = 1536;
const GEMM_MACS: f64 = (GEMM_SIDE * GEMM_SIDE * GEMM_SIDE) as f64;

fn vit() -> InternVit {
    InternVit { width: 384, depth: 12, heads: 6, mlp_width: 1536, patch: 14, ..InternVit::default() }
}

fn llama() -> Llama {
    Llama {
        decoder: Decoder {
            vocab: 1024,
            width: 512,
            depth: 1,
            heads: 8,
            mlp_width: 1376,
            ..Decoder::default()
        },
        projection: None,
        ..Llama::default()
    }
}

fn work(name: &str) -> Measured {
    let rest = memory("VmRSS");
    let seconds = match name {
        "gemm" => gemm(),
        "vit-forward" => forward(&Cpu::default(), &vit(), "image", "tokens", image),
        "vit-forward-bf16" => match Cpu::bf16() {
            Some(backend) => forward(&backend, &vit(), "image", "tokens", image),
            None => panic!("this processor has no avx512_bf16"),
        },
        "vit-step" => step(&vit(), "image", "tokens", image),
        "vit-step-checkpoint" => step(&InternVit { checkpoint: true, ..vit() }, "image", "tokens", image),
        "llama-forward" => forward(&Cpu::default(), &llama(), "text", "hidden", text),
        "llama-step" => step(&llama(), "text", "hidden", text),
        other => panic!("no benchmark is named {other}"),
    };
    Measured { seconds, grown_mib: memory("VmHWM") - rest }
}

/// A field of the process' status, MiB; 0 where the system has none.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| word.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Seconds a call, the best of some after warming up, within about five seconds.
fn time(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    call();
    call();
    let (mut best, mut calls) = (f64::INFINITY, 0);
    while calls < 5 || (calls < 200 && start.elapsed().as_secs_f64() < 5.0) {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

fn parameters<B: Backend>(backend: &B, module: &dyn DynModule) -> Parameters<B> {
    let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
    Parameters::init(specs, 0, backend).expect("the model fits memory")
}

fn image<B: Backend>(backend: &B) -> Value<B> {
    let shape = vec![VIT_BATCH, 3, 224, 224];
    let pixel = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
    let data = (0..shape.iter().product()).map(pixel).collect();
    Value::from_host(backend, ValueKind::Image, HostTensor { shape, data }, &Tape::off()).expect("a batch")
}

fn text<B: Backend>(_: &B) -> Value<B> {
    let ids = (0..TEXT.0 * TEXT.1).map(|i| 3 + (i * 48_271 % 1000) as u32).collect();
    Value::Text(Tokens::new(ids, TEXT.0, TEXT.1).expect("as many ids as the sizes say"))
}

fn forward<B: Backend>(
    backend: &B,
    module: &dyn DynModule,
    port: &str,
    output: &str,
    input: fn(&B) -> Value<B>,
) -> f64 {
    let (mut parameters, input) = (parameters(backend, module), input(backend));
    parameters.set_trainable(|_| false);
    time(|| {
        let mut cx = Forward::new(backend, parameters.scope(""), Mode::Eval, 0);
        cx = cx.input(port, input.clone()).want(output);
        backend.run(module, &mut cx).expect("a forward pass");
        cx.take_outputs().expect("the output");
    })
}

/// Forward, backward of the mean square of the mean token, AdamW.
fn step(module: &dyn DynModule, port: &str, output: &str, input: fn(&Cpu) -> Value<Cpu>) -> f64 {
    let backend = Cpu::default();
    let (mut parameters, input) = (parameters(&backend, module), input(&backend));
    let mut optimizer = AdamW::new([0.9, 0.98], 1e-8, 0.1);
    time(|| {
        let tape = Tape::new();
        let mut cx = Forward::new(&backend, parameters.scope(""), Mode::Train, 0).with_tape(&tape);
        cx = cx.input(port, input.clone()).want(output);
        backend.run(module, &mut cx).expect("a forward pass");
        let Some((_, Value::Sequence(states))) = cx.take_outputs().expect("the output").pop_first() else {
            unreachable!("both outputs are sequences")
        };
        let pooled = backend.mean_tokens(states).expect("a mean");
        let loss = pooled.try_square().expect("squares").try_mean::<(), Axes2<0, 1>>().expect("a loss");
        let gradients = backward(loss, &parameters).expect("gradients");
        optimizer.step(&mut parameters, &gradients, 1e-4).expect("a step");
    })
}

/// A square product, `x w^T`.
fn gemm() -> f64 {
    let side = GEMM_SIDE;
    let (a, b) = (vec![0.5_f32; side * side], vec![0.25_f32; side * side]);
    let mut out = vec![0.0_f32; side * side];
    let parallelism = match rayon::current_num_threads() {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let stride = side as isize;
    time(|| {
        // SAFETY: three square row-major matrices, `out` exclusively borrowed.
        unsafe {
            gemm::gemm(
                side,
                side,
                side,
                out.as_mut_ptr(),
                1,
                stride,
                false,
                a.as_ptr(),
                1,
                stride,
                b.as_ptr(),
                stride,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    })
}
