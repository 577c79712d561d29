//! Modules and whole training steps.

use heddle_tensor::{
    AdamW, Backend, Cpu, Ema, HostTensor, Mode, Module, Parameters, Precision, Tape, Tokens, Value, backward,
    modules::{AttentionPool, Decoder, FlattenLinear, InternVit, Itc, Llama, Lora, MeanPool, Projection},
    value::ValueKind,
    weighted_sum,
};

use crate::{
    cuda,
    support::{
        numbers,
        parity::{check_internvl_c, check_pool, check_positions, check_vit},
        run, scalar, value,
    },
};

#[test]
fn vit_with_query_key_norm() {
    assert!(check_vit(&cuda(Precision::F32), "vit_qknorm") < 1.0);
}

#[test]
fn vit_with_qkv_bias() {
    assert!(check_vit(&cuda(Precision::F32), "vit_plain") < 1.0);
}

#[test]
fn position_embedding_resizes() {
    check_positions(&cuda(Precision::F32));
}

#[test]
fn attention_pooling() {
    check_pool(&cuda(Precision::F32));
}

#[test]
fn internvl_c() {
    check_internvl_c(&cuda(Precision::F32));
}

/// A small InternVL-C: two towers, pooling, contrastive loss.
struct Model {
    vit: InternVit,
    pool: AttentionPool,
    text: Llama,
    itc: Itc,
}

impl Model {
    fn new(checkpoint: bool) -> Self {
        let image_size = [16, 24];
        let vit = InternVit {
            width: 24,
            depth: 2,
            heads: 3,
            mlp_width: 40,
            patch: 8,
            image_size,
            checkpoint,
            drop_path: 0.2,
            mask_ratio: 0.3,
            ..InternVit::default()
        };
        let pool = AttentionPool { dim: 24, heads: 4, out_dim: 12, ..AttentionPool::default() };
        let text = Llama {
            decoder: Decoder {
                vocab: 50,
                width: 16,
                depth: 2,
                heads: 2,
                mlp_width: 20,
                checkpoint,
                ..Decoder::default()
            },
            projection: Some(12),
            ..Llama::default()
        };
        Self { vit, pool, text, itc: Itc { max_scale: Some(100.0), ..Itc::default() } }
    }

    fn parameters<B: Backend>(&self, backend: &B) -> Parameters<B> {
        let nodes = [
            ("vit/", Module::parameters(&self.vit)),
            ("pool/", Module::parameters(&self.pool)),
            ("text/", Module::parameters(&self.text)),
            ("itc/", Module::parameters(&self.itc)),
        ];
        let specs = nodes.into_iter().flat_map(|(prefix, specs)| {
            specs.into_iter().map(move |spec| (format!("{prefix}{}", spec.name), spec))
        });
        Parameters::init(specs, 3, backend).unwrap()
    }

    fn loss<B: Backend>(
        &self,
        parameters: &Parameters<B>,
        step: u64,
        tape: &Tape<B>,
    ) -> heddle_tensor::Scalar<B> {
        const BATCH: usize = 5;
        let shape = vec![BATCH, 3, 16, 24];
        let data = numbers(&format!("image{step}"), shape.iter().product());
        let image = value(parameters.backend(), ValueKind::Image, HostTensor { shape, data }, &Tape::off());
        let ids = (0..BATCH as u32 * 7)
            .map(|i| if i % 7 > 3 + i / 7 % 3 { 0 } else { 1 + (i * 31 + step as u32) % 49 });
        let text = Value::Text(Tokens::new(ids.collect(), BATCH, 7).unwrap());
        let tokens = train(&self.vit, parameters, "vit/", ("image", image), "tokens", step, tape);
        let image = train(&self.pool, parameters, "pool/", ("tokens", tokens), "output", step, tape);
        let text = train(&self.text, parameters, "text/", ("text", text), "eos", step, tape);
        let inputs = vec![("image", image), ("text", text)];
        let loss = run(&self.itc, parameters, "itc/", inputs, &["loss"], tape).remove("loss").unwrap();
        weighted_sum(parameters.backend(), &[(0.75, scalar(loss))]).unwrap()
    }
}

/// One output of a module in training mode.
fn train<B: Backend>(
    module: &dyn heddle_tensor::DynModule,
    parameters: &Parameters<B>,
    prefix: &str,
    (port, input): (&str, Value<B>),
    want: &str,
    seed: u64,
    tape: &Tape<B>,
) -> Value<B> {
    let scope = parameters.scope(prefix);
    let mut cx = heddle_tensor::Forward::new(parameters.backend(), scope, Mode::Train, seed)
        .with_tape(tape)
        .input(port, input)
        .want(want);
    parameters.backend().run(module, &mut cx).unwrap();
    cx.take_outputs().unwrap().remove(want).unwrap()
}

/// Losses, gradient norms, parameters and averages after `steps` steps of AdamW with clipping.
fn fit<B: Backend>(backend: &B, model: &Model, steps: u64) -> Vec<f32> {
    let mut parameters = model.parameters(backend);
    let mut adamw = AdamW::new([0.9, 0.98], 1e-6, 0.05);
    let mut ema = Ema::new(0.9, &parameters).unwrap();
    let mut numbers = Vec::new();
    for step in 0..steps {
        let tape = Tape::new();
        let loss = model.loss(&parameters, step, &tape);
        numbers.extend(heddle_tensor::tensor::to_vec::<_, B>(&loss).unwrap().into_iter().map(narrow));
        let mut grads = backward(loss, &parameters).unwrap();
        numbers.push(grads.clip(0.5).unwrap() as f32);
        adamw.step(&mut parameters, &grads, 1e-3).unwrap();
        ema.update(&parameters).unwrap();
    }
    for parameters in [&parameters, &ema.apply(&parameters).unwrap()] {
        for name in parameters.names() {
            numbers.extend(parameters.to_host(name).unwrap());
        }
    }
    numbers
}

fn narrow<E: heddle_tensor::Element>(x: E) -> f32 {
    x.wide() as f32
}

/// The largest difference, in parts of the larger of one and the number expected.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let pairs = expected.iter().zip(found);
    pairs
        .map(|(a, b)| (a - b).abs() / a.abs().max(1.0))
        .fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst })
}

/// AdamW's first steps are signs of gradients: a parameter whose gradient is rounding noise may move either
/// way, by the learning rate. So 16 bits are held to two learning rates a step, and single precision to much
/// less.
#[test]
fn training_steps_are_those_of_the_cpu() {
    let model = Model::new(false);
    let expected = fit(&Cpu::default(), &model, 3);
    for (precision, tolerance) in
        [(Precision::F32, 2e-3), (Precision::Tf32, 7e-3), (Precision::Bf16, 3e-2), (Precision::F16, 7e-3)]
    {
        let found = fit(&cuda(precision), &model, 3);
        let worst = difference(&expected, &found);
        assert!(worst <= tolerance, "{precision:?}: off by {worst}");
    }
}

#[test]
fn training_repeats_its_bits_with_and_without_checkpoints() {
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        let bits = |checkpoint| {
            let numbers = fit(&cuda(precision), &Model::new(checkpoint), 2);
            numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let first = bits(false);
        assert!(bits(false) == first, "{precision:?}: other bits the second time");
        assert!(bits(true) == first, "{precision:?}: other bits with checkpoints");
    }
}

/// The pairs of LoRA and their dropout, which have operations of their own.
#[test]
fn lora_is_that_of_the_cpu() {
    let model = |checkpoint| {
        let mut model = Model::new(checkpoint);
        let lora = Lora { on: Projection::ALL.into(), rank: 2, alpha: 4.0, dropout: 0.2 };
        model.text.decoder.lora = Some(lora);
        model
    };
    let found = fit(&cuda(Precision::F32), &model(false), 3);
    let worst = difference(&fit(&Cpu::default(), &model(false), 3), &found);
    assert!(worst <= 2e-3, "off by {worst}");
    assert!(fit(&cuda(Precision::F32), &model(true), 3) == found, "other bits with checkpoints");
}

/// What remains of the modules, and the outputs that training does not ask for.
#[test]
fn other_modules_are_those_of_the_cpu() {
    fn outputs<B: Backend>(backend: &B) -> Vec<f32> {
        let flatten = FlattenLinear { tokens: 4, width: 6, outputs: 3, bias: true, skip_class: true };
        let specs = Module::parameters(&flatten).into_iter().map(|spec| (spec.name.clone(), spec));
        let parameters = Parameters::init(specs, 1, backend).unwrap();
        let host = HostTensor { shape: vec![2, 5, 6], data: numbers("tokens", 60) };
        let tokens = value(backend, ValueKind::Sequence, host, &Tape::off());
        let inputs = || vec![("tokens", tokens.clone())];
        let flat = run(&flatten, &parameters, "", inputs(), &["output"], &Tape::off());
        let mean = run(&MeanPool { skip_class: true }, &parameters, "", inputs(), &["output"], &Tape::off());
        let model = Model::new(false);
        let parameters = model.parameters(backend);
        let vectors = |name: &str, rows: usize| {
            let host = HostTensor { shape: vec![rows, 12], data: numbers(name, rows * 12) };
            value(backend, ValueKind::Vector, host, &Tape::off())
        };
        let pair = vec![("image", vectors("image", 2)), ("text", vectors("text", 3))];
        let logits = run(&model.itc, &parameters, "itc/", pair, &["logits"], &Tape::off());
        let all = [&flat["output"], &mean["output"], &logits["logits"]];
        all.into_iter().flat_map(|value| value.to_host().unwrap().data).collect()
    }
    let worst = difference(&outputs(&Cpu::default()), &outputs(&cuda(Precision::F32)));
    assert!(worst <= 1e-5, "off by {worst}");
}
