//! Time of a training step of the quickstart's model. Run with
//! `cargo test --release -p heddle-tensor --test main -- --ignored --nocapture speed`.

use std::time::Instant;

use heddle_tensor::{
    AdamW, Backend, Cpu, HostTensor, Module, Parameters, Tape, Tokens, Value, backward,
    modules::{FlattenLinear, InternVit, Itc, Llama},
    value::ValueKind,
};

use crate::support::{numbers, run, scalar, value};

const BATCH: usize = 96;

struct Model {
    vit: InternVit,
    head: FlattenLinear,
    text: Llama,
    itc: Itc,
}

fn model() -> Model {
    let (width, mlp_width) = (96, 384);
    let image_size = [32, 32];
    let vit =
        InternVit { width, depth: 4, heads: 4, mlp_width, patch: 8, image_size, ..InternVit::default() };
    let head = FlattenLinear { tokens: 17, width, outputs: width, bias: true, skip_class: false };
    let projection = None;
    let text =
        Llama { vocab: 4096, width, depth: 1, heads: 4, mlp_width: 256, projection, ..Llama::default() };
    Model { vit, head, text, itc: Itc::default() }
}

impl Model {
    fn parameters<B: Backend>(&self, backend: &B) -> Parameters<B> {
        let nodes = [
            ("vit/", Module::parameters(&self.vit)),
            ("head/", Module::parameters(&self.head)),
            ("text/", Module::parameters(&self.text)),
            ("itc/", Module::parameters(&self.itc)),
        ];
        let named = nodes.into_iter().flat_map(|(prefix, specs)| {
            specs.into_iter().map(move |spec| (format!("{prefix}{}", spec.name), spec))
        });
        Parameters::init(named, 7, backend).unwrap()
    }

    fn loss<B: Backend>(&self, parameters: &Parameters<B>, tape: &Tape<B>) -> heddle_tensor::Scalar<B> {
        let host = HostTensor { shape: vec![BATCH, 3, 32, 32], data: numbers("images", BATCH * 3 * 32 * 32) };
        let image = value(parameters.backend(), ValueKind::Image, host, &Tape::off());
        let ids = (0..BATCH as u32 * 16).map(|i| 1 + i * 7919 % 4095).collect();
        let text = Value::Text(Tokens { ids, batch: BATCH, len: 16, mask: None });
        let tokens = run(&self.vit, parameters, "vit/", vec![("image", image)], &["tokens"], tape);
        let inputs = vec![("tokens", tokens["tokens"].clone())];
        let image = run(&self.head, parameters, "head/", inputs, &["output"], tape)["output"].clone();
        let text = run(&self.text, parameters, "text/", vec![("text", text)], &["eos"], tape)["eos"].clone();
        let inputs = vec![("image", image), ("text", text)];
        scalar(run(&self.itc, parameters, "itc/", inputs, &["loss"], tape).remove("loss").unwrap())
    }
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement is for reading")]
fn training_step() {
    let model = model();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut parameters = model.parameters(&Cpu::default());
        let mut adamw = AdamW::new([0.9, 0.98], 1e-8, 0.05);
        let mut best = [f64::INFINITY; 4];
        for _ in 0..30 {
            let times = pool.install(|| step(&model, &mut parameters, &mut adamw));
            best.iter_mut().zip(times).for_each(|(best, time)| *best = best.min(time));
        }
        let [forward, backward, update, total] = best.map(|seconds| seconds * 1e3);
        eprintln!(
            "{threads} threads: forward {forward:.1} ms, backward {backward:.1} ms, update {update:.1} ms, \
             step {total:.1} ms"
        );
    }
}

fn step(model: &Model, parameters: &mut Parameters<Cpu>, adamw: &mut AdamW<Cpu>) -> [f64; 4] {
    let start = Instant::now();
    let loss = model.loss(parameters, &Tape::new());
    let forward = start.elapsed().as_secs_f64();
    let mut grads = backward(loss, parameters).unwrap();
    let backward = start.elapsed().as_secs_f64();
    grads.clip(1.0).unwrap();
    adamw.step(parameters, &grads, 1e-3).unwrap();
    let total = start.elapsed().as_secs_f64();
    [forward, backward - forward, total - backward, total]
}
