//! LoRA: a new pair changes nothing, gradients are those of finite differences, merged weights compute the same.

use heddle_tensor::{
    Backend, Cpu, CpuF64, Element, Forward, HostTensor, Mode, Module, Parameters, Tape, Tokens, Value,
    backward_with,
    generate::{Decoding, NextToken},
    modules::{Decoder, Llama, Lora, Mix, Probe, Projection, Qllama, Vision},
    parameter::merge,
    tensor::to_vec,
    value::ValueKind,
};

use crate::support::{numbers, run, scalar, value};

/// The token for which rows of another sequence stand.
const IMAGE: u32 = 9;

fn lora(on: &[Projection], dropout: f64) -> Option<Lora> {
    Some(Lora { on: on.iter().copied().collect(), rank: 2, alpha: 3.0, dropout })
}

/// Two of four heads share keys and values.
fn llama(lora: Option<Lora>) -> Llama {
    let decoder = Decoder {
        vocab: 20,
        width: 8,
        depth: 2,
        heads: 4,
        kv_heads: Some(2),
        mlp_width: 12,
        lora,
        ..Decoder::default()
    };
    Llama { decoder, projection: None, head: true, context: vec![("context.image".to_owned(), IMAGE)] }
}

/// Pairs are filled, so that they do something, if `filled`.
fn parameters<B: Backend>(backend: &B, module: &impl Module, filled: bool) -> Parameters<B> {
    let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
    let mut parameters = Parameters::init(specs, 5, backend).unwrap();
    let names: Vec<String> = parameters.names().map(str::to_owned).collect();
    for name in names.iter().filter(|name| filled && name.contains("lora_")) {
        let len = parameters.to_host(name).unwrap().len();
        set(&mut parameters, name, &numbers(name, len));
    }
    parameters
}

fn set<B: Backend>(parameters: &mut Parameters<B>, name: &str, data: &[f32]) {
    parameters.set(name, data.iter().map(|&x| B::Elem::of(f64::from(x))).collect()).unwrap();
}

fn context<B: Backend>(backend: &B, data: Vec<f32>, tape: &Tape<B>) -> Value<B> {
    value(backend, ValueKind::Sequence, HostTensor { shape: vec![2, 2, 8], data }, tape)
}

fn text<B: Backend>() -> Value<B> {
    Value::Text(Tokens::pad(&[vec![1, IMAGE, IMAGE, 4, 7], vec![1, IMAGE, 3, IMAGE]]))
}

/// The states of one pass, `[2, 5, 8]`.
fn states<B: Backend>(
    module: &Llama,
    parameters: &Parameters<B>,
    (mode, seed): (Mode, u64),
    image: Value<B>,
    tape: &Tape<B>,
) -> Value<B> {
    let mut cx = Forward::new(parameters.backend(), parameters.scope(""), mode, seed).with_tape(tape);
    cx = cx.input("text", text()).input("context.image", image).want("hidden");
    parameters.backend().run(module, &mut cx).unwrap();
    cx.take_outputs().unwrap().remove("hidden").unwrap()
}

fn evaluated(module: &Llama, parameters: &Parameters<Cpu>) -> Vec<f32> {
    let image = context(parameters.backend(), numbers("image", 32), &Tape::off());
    states(module, parameters, (Mode::Eval, 0), image, &Tape::off()).to_host().unwrap().data
}

/// On the processor to the bit: the composed branches add in the order of the fused ones.
#[test]
fn new_pairs_change_nothing() {
    let backend = Cpu::default();
    let base = evaluated(&llama(None), &parameters(&backend, &llama(None), false));
    for on in Projection::ALL.iter().map(std::slice::from_ref).chain([&Projection::ALL[..]]) {
        let module = llama(lora(on, 0.5));
        assert_eq!(evaluated(&module, &parameters(&backend, &module, false)), base, "{on:?}");
        assert_ne!(evaluated(&module, &parameters(&backend, &module, true)), base, "{on:?}");
    }
}

#[test]
fn new_pairs_change_nothing_in_qllama() {
    let qllama = |lora| Qllama {
        decoder: llama(lora).decoder,
        vision: Some(Vision { width: 6, queries: 2, every: 2, mix: Mix::Causal }),
        projection: None,
        head: false,
        text: true,
    };
    let backend = Cpu::default();
    let said = |module: &Qllama, filled: bool| {
        let parameters = parameters(&backend, module, filled);
        let seen = HostTensor { shape: vec![2, 3, 6], data: numbers("seen", 36) };
        let seen = value(&backend, ValueKind::Sequence, seen, &Tape::off());
        let inputs = vec![("vision", seen), ("text", text())];
        let outputs = run(module, &parameters, "", inputs, &["queries", "hidden"], &Tape::off());
        outputs.into_values().flat_map(|value| value.to_host().unwrap().data).collect::<Vec<_>>()
    };
    let base = said(&qllama(None), false);
    let with = qllama(lora(&Projection::ALL, 0.0));
    assert_eq!(said(&with, false), base);
    assert_ne!(said(&with, true), base);
}

#[test]
fn merged_weights_compute_the_same() {
    let backend = Cpu::default();
    let module = llama(lora(&Projection::ALL, 0.5));
    let tuned = parameters(&backend, &module, true);
    let mut merged = parameters(&backend, &llama(None), false);
    assert_eq!(Module::adapters(&module).len(), 14);
    for pair in Module::adapters(&module) {
        let host = |name: &str| tuned.to_host(name).unwrap();
        let inputs = tuned.get(&pair.weight).unwrap().shape[1];
        let weight = merge(&host(&pair.weight), [&host(&pair.a), &host(&pair.b)], inputs, pair.scale);
        set(&mut merged, &pair.weight, &weight);
    }
    let (beside, within) = (evaluated(&module, &tuned), evaluated(&llama(None), &merged));
    for (beside, within) in beside.iter().zip(&within) {
        assert!((beside - within).abs() < 1e-5, "{beside}, merged {within}");
    }
}

/// The sum of the states with fixed weights in a training pass, and its gradients: of the pairs, by name, and of the image.
fn pass<B: Backend>(
    module: &Llama,
    parameters: &Parameters<B>,
    image: &[f32],
    seed: u64,
) -> (f64, Vec<(String, Vec<f32>)>) {
    let (backend, tape) = (parameters.backend(), Tape::new());
    let image = context(backend, image.to_vec(), &tape);
    let states = states(module, parameters, (Mode::Train, seed), image.clone(), &tape);
    let host = HostTensor { shape: vec![2, 5, 8], data: numbers("probe", 80) };
    let inputs = vec![("input", states), ("probe", value(backend, ValueKind::Sequence, host, &Tape::off()))];
    let probes = Parameters::init([], 0, backend).unwrap();
    let loss = scalar(run(&Probe, &probes, "", inputs, &["loss"], &tape).remove("loss").unwrap());
    let sum = to_vec::<_, B>(&loss).unwrap()[0].wide();
    let (grads, of_image) = backward_with(loss, parameters, &[image]).unwrap();
    let mut all: Vec<(String, Vec<f32>)> =
        grads.names().map(|name| (name.to_owned(), grads.to_host(name).unwrap())).collect();
    all.push(("image".to_owned(), of_image[0].clone().unwrap().data));
    (sum, all)
}

/// Of the pairs and of the input, dropout included; frozen weights have none.
#[test]
fn gradients_are_those_of_finite_differences() {
    let module = llama(lora(&Projection::ALL, 0.3));
    let mut tuned = parameters(&CpuF64::default(), &module, true);
    tuned.set_trainable(|name| name.contains("lora_"));
    let image = numbers("image", 32);
    let (_, grads) = pass(&module, &tuned, &image, 3);
    assert_eq!(grads.len(), 2 * 14 + 1, "of A, B and the image alone");
    let step = 2.0_f32.powi(-12);
    for (name, grad) in &grads {
        for (place, found) in grad.iter().enumerate().step_by(5) {
            let moved = |by: f32| {
                let (mut parameters, mut image) = (tuned.clone(), image.clone());
                match name.as_str() {
                    "image" => image[place] += by,
                    name => {
                        let mut data = parameters.to_host(name).unwrap();
                        data[place] += by;
                        set(&mut parameters, name, &data);
                    }
                }
                pass(&module, &parameters, &image, 3).0
            };
            let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 4e-6 * (1.0 + expected.abs()), "{name}[{place}]: {found}, not {expected}");
        }
    }
    // The same in single precision, by the fused operations.
    let mut single = parameters(&Cpu::default(), &module, true);
    single.set_trainable(|name| name.contains("lora_"));
    for ((name, expected), (_, found)) in grads.iter().zip(pass(&module, &single, &image, 3).1) {
        let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        for (expected, found) in expected.iter().zip(found) {
            assert!((expected - found).abs() < 1e-5 * scale, "{name}: {found}, not {expected}");
        }
    }
}

fn bits((_, grads): (f64, Vec<(String, Vec<f32>)>)) -> Vec<u32> {
    grads.into_iter().flat_map(|(_, data)| data).map(f32::to_bits).collect()
}

#[test]
fn dropout_follows_from_the_seed_alone() {
    let training = |checkpoint: bool, seed: u64| {
        let mut module = llama(lora(&Projection::ALL, 0.5));
        module.decoder.checkpoint = checkpoint;
        let tuned = parameters(&Cpu::default(), &module, true);
        bits(pass(&module, &tuned, &numbers("image", 32), seed))
    };
    let on = |threads: usize, checkpoint: bool, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| training(checkpoint, seed))
    };
    let first = on(1, false, 1);
    assert!(on(3, false, 1) == first, "threads");
    assert!(on(2, true, 1) == first, "checkpointing");
    assert!(on(1, false, 2) != first, "another step leaves out other elements");

    // Without dropout training computes what evaluation does.
    let module = llama(lora(&Projection::ALL, 0.5));
    let tuned = parameters(&Cpu::default(), &module, true);
    let trained = |module: &Llama, seed: u64| {
        let image = context(tuned.backend(), numbers("image", 32), &Tape::off());
        states(module, &tuned, (Mode::Train, seed), image, &Tape::off()).to_host().unwrap().data
    };
    assert_ne!(trained(&module, 1), evaluated(&module, &tuned));
    assert_eq!(trained(&llama(lora(&Projection::ALL, 0.0)), 1), evaluated(&module, &tuned));
}

/// Token by token as in one pass, to the bit.
#[test]
fn a_cache_changes_nothing() {
    let mut module = llama(lora(&Projection::ALL, 0.5));
    module.context.clear();
    let tuned = parameters(&Cpu::default(), &module, true);
    let texts = [vec![1, 5, 7, 3, 6, 2], vec![1, 4, 8, 2]];
    let whole = |drop: usize| {
        let texts = texts.each_ref().map(|text| text[..text.len() - drop].to_vec());
        Value::Text(Tokens::pad(&texts))
    };
    let next = run(&module, &tuned, "", vec![("text", whole(0))], &["next"], &Tape::off());
    let expected = next["next"].to_host().unwrap().data;
    let (mut decoding, _) =
        Decoding::start(&module, &tuned, "", vec![("text".to_owned(), whole(2))]).unwrap();
    decoding.next(&[0, 1], &[6, 8]).unwrap();
    assert_eq!(decoding.next(&[0, 1], &[2, 2]).unwrap().concat(), expected);
}

/// Frozen weights in bf16, pairs in single precision.
#[test]
fn rounded_towers_are_near() {
    let module = llama(lora(&Projection::ALL, 0.5));
    let exact = evaluated(&module, &parameters(&Cpu::default(), &module, true));
    let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for backend in [Some(Cpu::bf16_portable()), Cpu::bf16()].into_iter().flatten() {
        let rounded = evaluated(&module, &parameters(&backend, &module, true));
        let worst = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 0.02 * largest, "off by {worst} of {largest}");
    }
}

#[test]
fn settings_that_cannot_be_computed_are_refused() {
    let said =
        |lora: Lora| Decoder { lora: Some(lora), ..Decoder::default() }.check().unwrap_err().to_string();
    let good = lora(&Projection::ALL, 0.0).unwrap();
    assert_eq!(said(Lora { rank: 0, ..good.clone() }), "the rank of LoRA is at least 1");
    assert_eq!(said(Lora { dropout: 1.0, ..good }), "LoRA's dropout is from 0 to below 1, not 1");
}

/// As in PEFT: `A` uniform up to one over the root of its columns, `B` zero; both decay, of rank 1 too.
#[test]
fn pairs_start_as_published() {
    let module = llama(Some(Lora { rank: 1, ..lora(&[Projection::Down], 0.0).unwrap() }));
    let specs = Module::parameters(&module);
    let pair: Vec<_> =
        specs.iter().filter(|spec| spec.name.contains("layers.1.mlp.down_proj.lora")).collect();
    let shapes: Vec<&[usize]> = pair.iter().map(|spec| &*spec.shape).collect();
    assert_eq!(shapes, [&[1, 12][..], &[8, 1]]);
    assert!(pair.iter().all(|spec| spec.decay));
    let parameters = parameters(&Cpu::default(), &module, false);
    let [a, b] = [0, 1].map(|index: usize| parameters.to_host(&pair[index].name).unwrap());
    let most = a.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    assert!(most <= 12.0_f32.powf(-0.5) && most > 0.5 * 12.0_f32.powf(-0.5), "{most}");
    assert!(b.iter().all(|&x| x == 0.0));
}
