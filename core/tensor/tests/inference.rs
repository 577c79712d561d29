//! A processor that keeps weights for inference decodes with the bits of one that reads them as they lie.

use heddle_tensor::{
    Cpu, Module, Parameters, Tokens, Value,
    generate::{Decoding, NextToken},
    modules::{Decoder, Llama},
};

use crate::support::numbers;

const WIDTH: usize = 64;

fn llama() -> Llama {
    let decoder = Decoder {
        vocab: 70,
        width: WIDTH,
        depth: 2,
        heads: 4,
        kv_heads: Some(2),
        mlp_width: 96,
        ..Decoder::default()
    };
    Llama { decoder, projection: None, head: true, ..Llama::default() }
}

/// The weight at a place, made of random numbers.
type Form = fn(&[f32], usize) -> f32;

/// Weights as training leaves them, as bf16 and f16 have them, and in blocks of 32 with a step and a base, as GGUF has them: of numbers
/// with eleven digits.
const FORMS: [(&str, Form); 4] = [
    ("f32", |w, i| (w[i] + 2.0).sqrt() - 1.4),
    ("bf16", |w, i| f32::from_bits(w[i].to_bits() & 0xffff_0000)),
    ("f16", |w, i| w[i]),
    ("blocks", |w, i| {
        let digits = |x: f32| f32::from_bits(x.to_bits() & 0xffff_e000);
        let step = digits(0.01 + 0.01 * w[i / 32 * 32].abs());
        let integer = match i % 32 {
            1 => 0.0,
            2 => 15.0,
            _ => (16.0 * w[i].abs()).floor().min(15.0),
        };
        step * integer - digits(0.1 * w[i / 32 * 32])
    }),
];

fn parameters(backend: &Cpu, form: Form) -> Parameters<Cpu> {
    let specs = Module::parameters(&llama()).into_iter().map(|spec| (spec.name.clone(), spec));
    let mut parameters = Parameters::init(specs, 5, backend).unwrap();
    let names: Vec<String> = parameters.names().map(str::to_owned).collect();
    for name in names.iter().filter(|name| name.contains("proj") || name.contains("lm_head")) {
        let random = numbers(name, parameters.to_host(name).unwrap().len());
        parameters.set(name, (0..random.len()).map(|i| 0.5 * form(&random, i)).collect()).unwrap();
    }
    parameters
}

/// The scores of every step of a text: a prompt that fills a tile, one that does not, then one token after the other.
fn scores(backend: &Cpu, form: Form, batch: usize, len: usize) -> Vec<u32> {
    let (module, parameters) = (llama(), parameters(backend, form));
    let ids = (0..batch * len).map(|i| 1 + (i * 31 % 69) as u32).collect();
    let inputs = vec![("text".to_owned(), Value::Text(Tokens::new(ids, batch, len).unwrap()))];
    let (mut decoding, mut last) = Decoding::start(&module, &parameters, "", inputs).unwrap();
    let mut all = Vec::new();
    for step in 0..5 {
        all.extend(last.iter().flatten().map(|score| score.to_bits()));
        let from: Vec<usize> = (0..batch).collect();
        let next: Vec<u32> = (0..batch).map(|record| 1 + ((record + step) * 13 % 69) as u32).collect();
        last = decoding.next(&from, &next).unwrap();
    }
    all
}

#[test]
fn kept_weights_decode_with_the_same_bits() {
    for (name, form) in FORMS {
        for (batch, len) in [(1, 3), (3, 7), (9, 40), (40, 2)] {
            let plain = scores(&Cpu::default(), form, batch, len);
            let kept = scores(&Cpu::inference(), form, batch, len);
            assert!(plain == kept, "{name}: {batch} texts of {len}");
        }
    }
}
