//! Whole towers on many rows: fused against composed in double precision, and checkpointed against kept.

use heddle_tensor::{
    Backend, Cpu, CpuF64, DynModule, Forward, HostTensor, Mode, Parameters, Tape, Tokens, Value,
    backward_with,
    modules::{Decoder, InternVit, Llama, Probe},
    value::ValueKind,
};

use crate::support::{numbers, run, scalar, value};

/// 60 patches and a class token a record: with five records the rows of a batch fill two tiles and part of a third.
fn vit(checkpoint: bool) -> InternVit {
    InternVit {
        width: 36,
        depth: 2,
        heads: 3,
        mlp_width: 70,
        patch: 4,
        image_size: [24, 40],
        qkv_bias: true,
        drop_path: 0.3,
        checkpoint,
        ..InternVit::default()
    }
}

fn llama(checkpoint: bool) -> Llama {
    Llama {
        decoder: Decoder {
            vocab: 60,
            width: 40,
            depth: 2,
            heads: 2,
            mlp_width: 52,
            checkpoint,
            ..Decoder::default()
        },
        projection: None,
        ..Llama::default()
    }
}

const RECORDS: usize = 5;

fn image<B: Backend>(backend: &B, tape: &Tape<B>) -> Value<B> {
    let data = numbers("pixels", RECORDS * 3 * 24 * 40);
    value(backend, ValueKind::Image, HostTensor { shape: vec![RECORDS, 3, 24, 40], data }, tape)
}

fn text<B: Backend>(_: &B, _: &Tape<B>) -> Value<B> {
    let len = 53;
    let id = |i: usize| if i % len > 30 + 5 * (i / len) { 0 } else { 1 + (i * 29 % 59) as u32 };
    Value::Text(Tokens::new((0..RECORDS * len).map(id).collect(), RECORDS, len).unwrap())
}

/// One training pass of a tower: its states, and the gradients of their sum with fixed weights, by name; the input's last.
fn pass<B: Backend>(
    backend: &B,
    module: &dyn DynModule,
    (port, output): (&str, &str),
    input: fn(&B, &Tape<B>) -> Value<B>,
) -> Vec<(String, Vec<f32>)> {
    let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
    let mut parameters = Parameters::init(specs, 5, backend).unwrap();
    // Norm weights away from one, LayerScale away from its start.
    let names: Vec<String> = parameters.names().map(str::to_owned).collect();
    for name in names.iter().filter(|name| name.contains("norm") || name.contains(".ls")) {
        let len = parameters.to_host(name).unwrap().len();
        let data =
            numbers(name, len).into_iter().map(|x| heddle_tensor::Element::of(1.0 + 0.3 * f64::from(x)));
        parameters.set(name, data.collect()).unwrap();
    }
    let tape = Tape::new();
    let input = input(backend, &tape);
    let mut cx = Forward::new(backend, parameters.scope(""), Mode::Train, 7).with_tape(&tape);
    cx = cx.input(port, input.clone()).want(output);
    backend.run(module, &mut cx).unwrap();
    let states = cx.take_outputs().unwrap().remove(output).unwrap();
    let host = states.to_host().unwrap();
    let probe = HostTensor { shape: host.shape.clone(), data: numbers("probe", host.data.len()) };
    let probe = value(backend, ValueKind::Sequence, probe, &Tape::off());
    let empty = Parameters::init([], 0, backend).unwrap();
    let inputs = vec![("input", states), ("probe", probe)];
    let loss = run(&Probe, &empty, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    let (grads, of_input) = backward_with(scalar(loss), &parameters, &[input]).unwrap();
    let mut all = vec![("states".to_owned(), host.data)];
    all.extend(grads.names().map(|name| (name.to_owned(), grads.to_host(name).unwrap())));
    all.extend(of_input.into_iter().flatten().map(|host| ("input".to_owned(), host.data)));
    all
}

/// Differences stay below a share of each tensor's largest number.
fn assert_near(found: &[(String, Vec<f32>)], expected: &[(String, Vec<f32>)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (other, expected)) in found.iter().zip(expected) {
        assert_eq!((name, found.len()), (other, expected.len()));
        let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4 * largest, "{name}: off by {worst:e} of {largest:e}");
    }
}

#[test]
fn internvit_is_the_same_fused_and_composed() {
    let ports = ("image", "tokens");
    let fused = pass(&Cpu::default(), &vit(false), ports, image);
    assert!(fused.iter().any(|(name, _)| name == "input"));
    assert_near(&fused, &pass(&CpuF64::default(), &vit(false), ports, image));
}

#[test]
fn llama_is_the_same_fused_and_composed() {
    let ports = ("text", "hidden");
    assert_near(
        &pass(&Cpu::default(), &llama(false), ports, text),
        &pass(&CpuF64::default(), &llama(false), ports, text),
    );
}

/// A tower whose weights are frozen records nothing for a constant input, checkpointed or not.
#[test]
fn a_frozen_tower_records_nothing_when_checkpointed() {
    let backend = Cpu::default();
    let cases: [(Box<dyn DynModule>, _, Value<Cpu>); 2] = [
        (Box::new(vit(true)), ("image", "tokens"), image(&backend, &Tape::off())),
        (Box::new(llama(true)), ("text", "hidden"), text(&backend, &Tape::off())),
    ];
    for (module, (port, output), input) in cases {
        let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
        let mut parameters = Parameters::init(specs, 5, &backend).unwrap();
        parameters.set_trainable(|_| false);
        let tape = Tape::new();
        let mut cx = Forward::new(&backend, parameters.scope(""), Mode::Train, 7).with_tape(&tape);
        cx = cx.input(port, input).want(output);
        backend.run(&*module, &mut cx).unwrap();
        let Some((_, Value::Sequence(states))) = cx.take_outputs().unwrap().pop_first() else {
            unreachable!()
        };
        assert!(!dfdx::prelude::SplitTape::split_tape(states).1.is_on());
    }
}

#[test]
fn checkpointing_does_not_change_a_bit() {
    let bits = |all: Vec<(String, Vec<f32>)>| -> Vec<(String, Vec<u32>)> {
        all.into_iter().map(|(name, data)| (name, data.into_iter().map(f32::to_bits).collect())).collect()
    };
    let (image_ports, text_ports) = (("image", "tokens"), ("text", "hidden"));
    let kept = bits(pass(&Cpu::default(), &vit(false), image_ports, image));
    assert!(bits(pass(&Cpu::default(), &vit(true), image_ports, image)) == kept);
    let kept = bits(pass(&Cpu::default(), &llama(false), text_ports, text));
    assert!(bits(pass(&Cpu::default(), &llama(true), text_ports, text)) == kept);
    let kept = bits(pass(&CpuF64::default(), &vit(false), image_ports, image));
    assert!(bits(pass(&CpuF64::default(), &vit(true), image_ports, image)) == kept);
}
