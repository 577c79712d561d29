//! The last perceptron runs for the rows that an output reads, the others for rows that are no padding: what is read has the
//! bits that it has when every row is computed, and the same gradients.

use heddle_tensor::{
    Backend, Cpu, DynModule, Forward, HostTensor, Mode, Module, Parameters, Tape, Tokens, Value, backward,
    modules::{Decoder, Llama, Lora, Mix, Probe, Projection, Qllama, Vision},
    value::ValueKind,
};

use crate::support::{numbers, run, scalar, value};

const VISION: usize = 6;

fn decoder(lora: Option<f64>) -> Decoder {
    let lora = lora.map(|dropout| Lora { on: [Projection::Up].into(), rank: 2, alpha: 3.0, dropout });
    Decoder { vocab: 20, width: 16, depth: 3, heads: 2, mlp_width: 24, lora, ..Decoder::default() }
}

/// Five texts, one of them empty, of which two parts learn.
fn text() -> Tokens {
    let words = [9, 2, 14, 0, 1];
    let ids =
        words.iter().flat_map(|&count| (0..14).map(move |i| if i < count { 1 + i * 7 % 19 } else { 0 }));
    let tokens = Tokens::new(ids.collect(), words.len(), 14).unwrap();
    let learn = (0..words.len() * 14).map(|i| i % 14 < words[i / 14] as usize && i % 3 == 1).collect();
    Tokens { learn: Some(learn), ..tokens }
}

/// What is wanted of a module, and the gradients of a weighted sum of it.
fn pass<B: Backend>(
    backend: &B,
    module: &dyn DynModule,
    vision: bool,
    (wanted, beside): (&str, Option<&str>),
) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let specs = module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 5, backend).unwrap();
    let tape = Tape::new();
    let mut cx = Forward::new(backend, parameters.scope(""), Mode::Train, 7).with_tape(&tape);
    cx = cx.input("text", Value::Text(text())).want(wanted);
    if let Some(beside) = beside {
        cx = cx.want(beside);
    }
    if vision {
        let seen = HostTensor { shape: vec![5, 3, VISION], data: numbers("seen", 5 * 3 * VISION) };
        cx = cx.input("vision", value(backend, ValueKind::Sequence, seen, &Tape::off()));
    }
    backend.run(module, &mut cx).unwrap();
    let output = cx.take_outputs().unwrap().remove(wanted).unwrap();
    let host = output.to_host().unwrap();
    let kind = match &output {
        Value::Vector(_) => ValueKind::Vector,
        Value::Logits(_) => ValueKind::Logits,
        _ => ValueKind::Sequence,
    };
    let probe = HostTensor { shape: host.shape.clone(), data: numbers("probe", host.data.len()) };
    let inputs = vec![("input", output), ("probe", value(backend, kind, probe, &Tape::off()))];
    let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    let grads = backward(scalar(loss), &parameters).unwrap();
    let by_name = |name: &str| (name.to_owned(), grads.to_host(name).unwrap());
    (host.data, grads.names().map(by_name).collect())
}

/// `wanted` is the same with every row, alone, and beside what reads other rows.
fn check(module: &dyn DynModule, vision: bool, wanted: &str) {
    let backend = Cpu::default();
    let (all, expected) = pass(&backend, module, vision, (wanted, Some("hidden")));
    for beside in [None, Some("eos"), Some("predictions")] {
        let (some, found) = pass(&backend, module, vision, (wanted, beside));
        let what = format!("{wanted} beside {beside:?}");
        assert!(all.iter().map(|x| x.to_bits()).eq(some.iter().map(|x| x.to_bits())), "{what}");
        for (name, expected) in &expected {
            let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            // A weight that only the other output reads may or may not have a gradient, of zeros.
            let Some((_, found)) = found.iter().find(|(other, _)| other == name) else {
                assert!(largest == 0.0, "{what}: no gradient of {name}");
                continue;
            };
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5 * largest, "{what}, {name}: off by {worst:e} of {largest:e}");
        }
    }
}

#[test]
fn llama_computes_what_is_read() {
    for (lora, checkpoint) in [(None, false), (Some(0.0), false), (Some(0.4), false), (None, true)] {
        let decoder = Decoder { checkpoint, ..decoder(lora) };
        let module = Llama { decoder, projection: Some(7), head: true, ..Llama::default() };
        for wanted in ["last", "eos", "next", "predictions"] {
            check(&module, false, wanted);
        }
    }
}

#[test]
fn qllama_computes_what_is_read() {
    for mix in [Mix::Separate, Mix::Full, Mix::Causal] {
        let vision = Some(Vision { width: VISION, queries: 4, every: 2, mix });
        let module = Qllama { decoder: decoder(None), vision, projection: Some(7), head: true, text: true };
        for wanted in ["queries", "eos", "predictions"] {
            check(&module, true, wanted);
        }
    }
}

/// A layer that runs again for its gradient leaves out the same rows.
#[test]
fn checkpoints_leave_out_the_same() {
    let backend = Cpu::default();
    let found = [false, true].map(|checkpoint| {
        let decoder = Decoder { checkpoint, ..decoder(None) };
        let module = Llama { decoder, projection: Some(7), head: true, ..Llama::default() };
        pass(&backend, &module, false, ("eos", Some("predictions")))
    });
    assert!(found[0] == found[1]);
}

/// Behind queries a text may have no token; what would predict one is then an error.
#[test]
fn nothing_predicts_without_a_token() {
    let vision = Some(Vision { width: VISION, queries: 4, every: 2, mix: Mix::Causal });
    let module = Qllama { decoder: decoder(None), vision, projection: None, head: true, text: true };
    let backend = Cpu::default();
    let specs = Module::parameters(&module).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 5, &backend).unwrap();
    let seen = HostTensor { shape: vec![1, 3, VISION], data: numbers("seen", 3 * VISION) };
    let seen = value(&backend, ValueKind::Sequence, seen, &Tape::off());
    let mut cx = Forward::new(&backend, parameters.scope(""), Mode::Train, 7).input("vision", seen);
    cx = cx.input("text", Value::Text(Tokens::new(Vec::new(), 1, 0).unwrap())).want("predictions");
    let error = backend.run(&module, &mut cx).unwrap_err().to_string();
    assert!(error.contains("tokens of the texts"), "{error}");
}
