//! How fast InternViT-6B's blocks run: `cargo test --test cuda --features cuda -- --ignored --nocapture speed`.
//!
//! Blocks are alike, so two of them stand for all 48. Times are medians over runs that end with a wait for the device,
//! on random images of 224 pixels; rates count two operations for each multiply-add.

use std::time::Instant;

use heddle_tensor::{
    Backend, Cuda, Forward, HostTensor, InputSize, Mode, Module, Parameters, Precision, Tape, Value,
    backward,
    modules::{InternVit, Probe},
    value::ValueKind,
};

use crate::{
    cuda,
    support::{numbers, run, scalar},
};

const DEPTH: usize = 2;
const RUNS: usize = 11;

fn tokens(
    vit: &InternVit,
    parameters: &Parameters<Cuda>,
    image: &Value<Cuda>,
    tape: &Tape<Cuda>,
) -> Value<Cuda> {
    let mut cx = Forward::new(parameters.backend(), parameters.scope(""), Mode::Eval, 0)
        .with_tape(tape)
        .input("image", image.clone())
        .want("tokens");
    parameters.backend().run(vit, &mut cx).unwrap();
    cx.take_outputs().unwrap().remove("tokens").unwrap()
}

/// Median seconds of `run`, the first runs (compiling, 16-bit copies of weights, memory) left out.
fn seconds(cuda: &Cuda, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS + 3)
        .map(|_| {
            cuda.synchronize().unwrap();
            let start = Instant::now();
            run();
            cuda.synchronize().unwrap();
            start.elapsed().as_secs_f64()
        })
        .skip(3)
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

#[test]
#[ignore = "a measurement, for a GPU"]
#[expect(clippy::print_stderr, reason = "what the measurement is for")]
fn internvit_6b() {
    let vit = InternVit { depth: DEPTH, ..InternVit::default() };
    for precision in [Precision::Bf16, Precision::F16, Precision::Tf32] {
        let cuda = cuda(precision);
        let specs = Module::parameters(&vit).into_iter().map(|spec| (spec.name.clone(), spec));
        let parameters = Parameters::init(specs, 0, &cuda).unwrap();
        for batch in [1, 32, 128] {
            let shape = vec![batch, 3, 224, 224];
            let data = numbers("image", shape.iter().product());
            let image = HostTensor { shape, data };
            let image = Value::from_host(&cuda, ValueKind::Image, image, &Tape::off()).unwrap();
            let forward = seconds(&cuda, || drop(tokens(&vit, &parameters, &image, &Tape::off())));
            let both = seconds(&cuda, || {
                let tape = Tape::new();
                let out = tokens(&vit, &parameters, &image, &tape);
                let inputs = vec![("input", out.clone()), ("probe", out.detach().unwrap())];
                let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
                drop(backward(scalar(loss), &parameters).unwrap());
            });
            let operations =
                2.0 * batch as f64 * vit.macs(InputSize::Image { height: 224, width: 224 }) as f64;
            let report = |what: &str, seconds: f64, passes: f64| {
                let (block, rate) = (1e3 * seconds / DEPTH as f64, passes * operations / seconds / 1e12);
                eprintln!(
                    "{precision:?} batch {batch:3} {what:12} {block:8.3} ms a block, {rate:6.1} TFLOP/s"
                );
            };
            report("forward", forward, 1.0);
            report("with backward", both, 3.0);
        }
    }
}
