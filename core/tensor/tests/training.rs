//! Optimiser, schedules, averages, frozen parts, randomness in training.

use heddle_tensor::{
    AdamW, Backend, Cpu, CpuF64, Ema, Forward, HostTensor, Init, Mode, Module, ParameterSpec, Parameters,
    Schedule, Tape, TensorError, Tokens, Value, backward,
    modules::{Decoder, DropPathMode, InternVit, Itc, Linear, Llama, MeanPool, Probe},
    value::ValueKind,
    weighted_sum,
};

use crate::support::{numbers, run, scalar, value};

/// A matrix `a/weight` `[2, 1]` = (1, -2) that decays and a vector `a/bias` `[2]` = (1, -2) that does not.
fn start<B: Backend>(backend: &B) -> Parameters<B> {
    let specs = [
        (
            "a/weight".to_owned(),
            ParameterSpec { decay: true, ..ParameterSpec::new("weight", [2, 1], Init::Zeros) },
        ),
        ("a/bias".to_owned(), ParameterSpec::new("bias", [2], Init::Zeros)),
    ];
    let mut parameters = Parameters::init(specs, 0, backend).unwrap();
    for name in ["a/weight", "a/bias"] {
        parameters.set(name, [1.0, -2.0].map(heddle_tensor::Element::of).to_vec()).unwrap();
    }
    parameters
}

/// One step in which both parameters have the gradient `factor * (1, -2)`.
fn step<B: Backend>(parameters: &mut Parameters<B>, adamw: &mut AdamW<B>, factor: f32) {
    let grads = gradients(parameters, factor);
    adamw.step(parameters, &grads, 0.01).unwrap();
}

fn gradients<B: Backend>(parameters: &Parameters<B>, factor: f32) -> heddle_tensor::ParamGrads<B> {
    let linear = Linear { inputs: 1, outputs: 2, bias: true };
    let (backend, tape) = (parameters.backend(), Tape::new());
    let one = HostTensor { shape: vec![1, 1], data: vec![1.0] };
    let input = value(backend, ValueKind::Vector, one, &Tape::off());
    let output = run(&linear, parameters, "a/", vec![("input", input)], &["output"], &tape)["output"].clone();
    let probe = HostTensor { shape: vec![1, 2], data: vec![factor, -2.0 * factor] };
    let probe = value(backend, ValueKind::Vector, probe, &Tape::off());
    let inputs = vec![("input", output), ("probe", probe)];
    let loss = run(&Probe, parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    backward(weighted_sum(backend, &[(0.5, scalar(loss.clone())), (0.5, scalar(loss))]).unwrap(), parameters)
        .unwrap()
}

/// Literals: the update formula of the paper, evaluated in double precision by a few lines of Python.
#[test]
fn adamw_follows_its_formula() {
    fn check<B: Backend>(backend: &B) {
        let mut parameters = start(backend);
        let mut adamw = AdamW::new([0.9, 0.98], 1e-8, 0.1);
        for factor in [0.5, -0.25, 2.0] {
            step(&mut parameters, &mut adamw, factor);
        }
        let expected = [("a/weight", ADAMW_DECAYED), ("a/bias", ADAMW_PLAIN)];
        for (name, expected) in expected {
            let found = parameters.to_host(name).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 3e-7, "{name}: {found}, not {expected}");
            }
        }
    }
    check(&Cpu::default());
    check(&CpuF64::default());
}

const ADAMW_DECAYED: [f64; 2] = [0.977_703_566_866_648_8, -1.974_706_565_705_337_5];
const ADAMW_PLAIN: [f64; 2] = [0.980_677_906_789_820_8, -1.980_677_906_628_436];

/// Stopping and going on gives the same bits as not stopping.
#[test]
fn optimiser_state_survives_a_stop() {
    let backend = Cpu::default();
    let mut through = (start(&backend), AdamW::new([0.9, 0.98], 1e-8, 0.1));
    for factor in [0.5, -0.25, 2.0, 1.0] {
        step(&mut through.0, &mut through.1, factor);
    }
    let mut first = (start(&backend), AdamW::new([0.9, 0.98], 1e-8, 0.1));
    step(&mut first.0, &mut first.1, 0.5);
    step(&mut first.0, &mut first.1, -0.25);
    let mut second = AdamW::new([0.9, 0.98], 1e-8, 0.1);
    second.load(&backend, &first.1.save(&backend).unwrap()).unwrap();
    assert_eq!(second.steps(), 2);
    step(&mut first.0, &mut second, 2.0);
    step(&mut first.0, &mut second, 1.0);
    for name in ["a/weight", "a/bias"] {
        assert_eq!(first.0.to_host(name).unwrap(), through.0.to_host(name).unwrap());
    }
    assert!(second.load(&backend, b"nothing").is_err());
}

#[test]
fn clipping_scales_to_the_norm() {
    let parameters = start(&Cpu::default());
    let mut grads = gradients(&parameters, 3.0);
    // Two gradients of (3, -6).
    assert!((grads.norm().unwrap() - 90_f64.sqrt()).abs() < 1e-6);
    let before = grads.clip(1.5).unwrap();
    assert!((before - 90_f64.sqrt()).abs() < 1e-6);
    assert!((grads.norm().unwrap() - 1.5).abs() < 1e-6);
    assert_eq!(grads.clip(2.0).unwrap(), grads.norm().unwrap(), "short gradients stay");
    let mut sum = gradients(&parameters, 1.0);
    sum.accumulate(gradients(&parameters, 2.0)).unwrap();
    assert_eq!(sum.to_host("a/bias").unwrap(), [3.0, -6.0]);
}

#[test]
fn frozen_parameters_have_no_gradient_and_do_not_move() {
    let mut parameters = start(&Cpu::default());
    parameters.set_trainable(|name| name == "a/bias");
    assert_eq!((parameters.count(), parameters.count_trainable()), (4, 2));
    let grads = gradients(&parameters, 1.0);
    assert_eq!(grads.names().collect::<Vec<_>>(), ["a/bias"]);
    let mut adamw = AdamW::new([0.9, 0.98], 1e-8, 0.1);
    adamw.step_scaled(&mut parameters, &grads, 0.01, |_| 0.0).unwrap();
    assert_eq!(parameters.to_host("a/bias").unwrap(), [1.0, -2.0], "a factor of 0 stops a parameter");
    adamw.step(&mut parameters, &grads, 0.01).unwrap();
    assert_ne!(parameters.to_host("a/bias").unwrap(), [1.0, -2.0]);
    assert_eq!(parameters.to_host("a/weight").unwrap(), [1.0, -2.0]);
}

#[test]
fn averages_follow_parameters() {
    let backend = Cpu::default();
    let mut parameters = start(&backend);
    let mut ema = Ema::new(0.75, &parameters).unwrap();
    parameters.set("a/bias", vec![5.0, 2.0]).unwrap();
    ema.update(&parameters).unwrap();
    assert_eq!(ema.apply(&parameters).unwrap().to_host("a/bias").unwrap(), [2.0, -1.0]);
    let mut restored = Ema::new(0.75, &parameters).unwrap();
    restored.load(&backend, &ema.save(&backend).unwrap()).unwrap();
    assert_eq!(restored.apply(&parameters).unwrap().to_host("a/bias").unwrap(), [2.0, -1.0]);
}

#[test]
fn schedules() {
    let check = |schedule: Schedule, expected: &[(u64, f64)]| {
        for &(step, factor) in expected {
            assert!((schedule.lr_at(step, 110) - factor).abs() < 1e-12, "{schedule:?} at {step}");
        }
    };
    let warmup_steps = 10;
    check(Schedule::Constant { warmup_steps }, &[(0, 0.1), (9, 1.0), (10, 1.0), (109, 1.0)]);
    check(Schedule::Cosine { warmup_steps, floor: 0.2 }, &[(4, 0.5), (10, 1.0), (60, 0.6), (110, 0.2)]);
    check(Schedule::Poly { warmup_steps, power: 2.0 }, &[(10, 1.0), (60, 0.25), (110, 0.0), (999, 0.0)]);
    check(Schedule::Cosine { warmup_steps: 0, floor: 0.0 }, &[(0, 1.0), (55, 0.5)]);
}

fn small_vit() -> InternVit {
    let image_size = [16, 16];
    InternVit { width: 8, depth: 3, heads: 2, mlp_width: 12, patch: 4, image_size, ..InternVit::default() }
}

fn tokens_in_training(vit: &InternVit, seed: u64) -> HostTensor {
    let specs = Module::parameters(vit).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 0, &Cpu::default()).unwrap();
    let host = HostTensor { shape: vec![3, 3, 16, 16], data: numbers("image", 3 * 3 * 256) };
    let image = value(parameters.backend(), ValueKind::Image, host, &Tape::off());
    let scope = parameters.scope("");
    let mut cx =
        Forward::new(parameters.backend(), scope, Mode::Train, seed).input("image", image).want("tokens");
    parameters.backend().run(vit, &mut cx).unwrap();
    cx.take_outputs().unwrap()["tokens"].to_host().unwrap()
}

#[test]
fn drop_path_and_masking_follow_the_seed() {
    let vit = InternVit { drop_path: 0.5, mask_ratio: 0.5, ..small_vit() };
    assert_eq!(tokens_in_training(&vit, 1), tokens_in_training(&vit, 1));
    assert_ne!(tokens_in_training(&vit, 1), tokens_in_training(&vit, 2));
    assert_eq!(tokens_in_training(&vit, 1).shape, [3, 9, 8]);
    assert_eq!(tokens_in_training(&small_vit(), 1), tokens_in_training(&small_vit(), 2));
    let linear = InternVit { drop_path_mode: DropPathMode::Linear, drop_path: 0.4, ..small_vit() };
    assert_eq!([0, 1, 2].map(|i| linear.drop_path_of(i)), [0.0, 0.2, 0.4]);
}

/// Errors that a user can cause name what is wrong.
#[test]
fn wrong_use_is_explained() {
    let vit = small_vit();
    let specs = Module::parameters(&vit).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 0, &Cpu::default()).unwrap();
    let call = |port: &str, shape: Vec<usize>, want: &str| {
        let data = vec![0.0; shape.iter().product()];
        let image = value(parameters.backend(), ValueKind::Image, HostTensor { shape, data }, &Tape::off());
        let mut cx = Forward::new(parameters.backend(), parameters.scope(""), Mode::Eval, 0);
        cx = cx.input(port, image).want(want);
        parameters.backend().run(&vit, &mut cx).unwrap_err().to_string()
    };
    let fits = vec![1, 3, 16, 16];
    assert_eq!(call("img", fits.clone(), "tokens"), "input `image` is missing");
    assert_eq!(
        call("image", fits, "hidden.4"),
        "there is no output `hidden.4`; there are `tokens`, `pooler`, `hidden.0` to `hidden.3`, `hidden.-1`, ..."
    );
    assert_eq!(
        call("image", vec![1, 3, 16, 18], "tokens"),
        r#"image size: expected "multiples of the patch size 4", found [16, 18]"#
    );
    let llama = Llama {
        decoder: Decoder { vocab: 5, width: 4, depth: 1, heads: 1, mlp_width: 3, ..Decoder::default() },
        ..Llama::default()
    };
    let specs = Module::parameters(&llama).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 0, &Cpu::default()).unwrap();
    let text = Value::Text(Tokens::pad(&[vec![1, 7], vec![2]]));
    let mut cx = Forward::new(parameters.backend(), parameters.scope(""), Mode::Eval, 0);
    cx = cx.input("text", text).want("eos");
    let error = parameters.backend().run(&llama, &mut cx).unwrap_err();
    assert_eq!(error.to_string(), "token id 7 is out of range: there are 5");
    let odd = InternVit { heads: 3, ..small_vit() };
    assert!(matches!(odd.check(), Err(TensorError::Config(_))));
}

/// With logits alone the two batches may differ; the loss needs pairs.
#[test]
fn contrastive_logits_of_different_batches() {
    let itc = Itc { max_scale: Some(10.0), ..Itc::default() };
    let specs = Module::parameters(&itc).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 0, &Cpu::default()).unwrap();
    let vectors = |rows: usize| {
        let host = HostTensor { shape: vec![rows, 4], data: numbers("v", rows * 4) };
        value(parameters.backend(), ValueKind::Vector, host, &Tape::off())
    };
    let inputs = vec![("image", vectors(2)), ("text", vectors(3))];
    let logits = run(&itc, &parameters, "", inputs, &["logits"], &Tape::off())["logits"].to_host().unwrap();
    assert_eq!(logits.shape, [2, 3]);
    assert!((logits.data[0] - 10.0).abs() < 1e-5, "the same vector twice gives the whole, clamped scale");
    let mut cx = Forward::new(parameters.backend(), parameters.scope(""), Mode::Eval, 0);
    cx = cx.input("image", vectors(2)).input("text", vectors(3)).want("loss");
    assert!(parameters.backend().run(&itc, &mut cx).is_err());
}

#[test]
fn mean_pooling_can_skip_the_class_token() {
    let parameters = Parameters::init([], 0, &Cpu::default()).unwrap();
    let host = HostTensor { shape: vec![1, 3, 2], data: vec![9.0, 9.0, 1.0, 2.0, 3.0, 6.0] };
    let tokens = value(parameters.backend(), ValueKind::Sequence, host, &Tape::off());
    let inputs = vec![("tokens", tokens)];
    let pooled = run(&MeanPool { skip_class: true }, &parameters, "", inputs, &["output"], &Tape::off());
    assert_eq!(pooled["output"].to_host().unwrap().data, [2.0, 4.0]);
}
