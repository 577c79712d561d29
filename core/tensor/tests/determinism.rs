//! The same bits for any number of threads, and for any company in the batch.

use heddle_tensor::{
    Cpu, HostTensor, Module, Parameters, Tape, Tokens, Value, backward,
    generate::{Decoding, NextToken},
    modules::{AttentionPool, Decoder, InternVit, Itc, Llama},
    value::ValueKind,
};
use proptest::prelude::*;

use crate::support::{numbers, run, scalar, value};

struct Towers {
    vit: InternVit,
    pool: AttentionPool,
    text: Llama,
    itc: Itc,
}

fn towers() -> Towers {
    let image_size = [16, 24];
    let vit = InternVit {
        width: 24,
        depth: 2,
        heads: 3,
        mlp_width: 40,
        patch: 8,
        image_size,
        ..InternVit::default()
    };
    let pool = AttentionPool { dim: 24, heads: 4, out_dim: 12, ..AttentionPool::default() };
    let projection = Some(12);
    let text = Llama {
        decoder: Decoder { vocab: 50, width: 16, depth: 2, heads: 2, mlp_width: 20, ..Decoder::default() },
        projection,
        ..Llama::default()
    };
    Towers { vit, pool, text, itc: Itc::default() }
}

fn parameters(towers: &Towers) -> Parameters<Cpu> {
    let nodes = [
        ("vit/", Module::parameters(&towers.vit)),
        ("pool/", Module::parameters(&towers.pool)),
        ("text/", Module::parameters(&towers.text)),
        ("itc/", Module::parameters(&towers.itc)),
    ];
    let specs = nodes.into_iter().flat_map(|(prefix, specs)| {
        specs.into_iter().map(move |spec| (format!("{prefix}{}", spec.name), spec))
    });
    Parameters::init(specs, 3, &Cpu::default()).unwrap()
}

const PIXELS: usize = 3 * 16 * 24;
const LEN: usize = 7;

/// Image and text vectors of records, given by their numbers.
fn features(
    towers: &Towers,
    parameters: &Parameters<Cpu>,
    records: &[u32],
    tape: &Tape<Cpu>,
) -> [Value<Cpu>; 2] {
    let data = records.iter().flat_map(|record| numbers(&format!("image{record}"), PIXELS)).collect();
    let host = HostTensor { shape: vec![records.len(), 3, 16, 24], data };
    let image = value(parameters.backend(), ValueKind::Image, host, &Tape::off());
    let ids = records.iter().flat_map(|&record| {
        (0..LEN as u32).map(move |i| if i > 2 + record % 4 { 0 } else { 1 + (record * 31 + i * 7) % 49 })
    });
    let text = Tokens::new(ids.collect(), records.len(), LEN).unwrap();
    let tokens = run(&towers.vit, parameters, "vit/", vec![("image", image)], &["tokens"], tape);
    let inputs = vec![("tokens", tokens["tokens"].clone())];
    let image = run(&towers.pool, parameters, "pool/", inputs, &["output"], tape)["output"].clone();
    let inputs = vec![("text", Value::Text(text))];
    let text = run(&towers.text, parameters, "text/", inputs, &["eos"], tape)["eos"].clone();
    [image, text]
}

fn rows(value: &Value<Cpu>) -> Vec<Vec<u32>> {
    let host = value.to_host().unwrap();
    host.data
        .chunks(host.shape[1..].iter().product())
        .map(|row| row.iter().map(|x| x.to_bits()).collect())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A record's features do not depend on who else is in the batch, which may fill several tiles of rows.
    #[test]
    fn features_do_not_depend_on_the_batch(records in prop::collection::vec(0_u32..40, 1..40), pick in 0_usize..40) {
        let towers = towers();
        let parameters = parameters(&towers);
        let record = records[pick % records.len()];
        let together = features(&towers, &parameters, &records, &Tape::off());
        let alone = features(&towers, &parameters, &[record], &Tape::off());
        for (together, alone) in together.iter().zip(&alone) {
            prop_assert_eq!(&rows(together)[pick % records.len()], &rows(alone)[0]);
        }
    }
}

/// Loss and all gradients of a step, as bits.
fn step(threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let towers = towers();
        let parameters = parameters(&towers);
        let tape = Tape::new();
        let records: Vec<u32> = (0..9).collect();
        let [image, text] = features(&towers, &parameters, &records, &tape);
        let inputs = vec![("image", image), ("text", text)];
        let loss = run(&towers.itc, &parameters, "itc/", inputs, &["loss"], &tape).remove("loss").unwrap();
        let mut numbers = loss.to_host().unwrap().data;
        let grads = backward(scalar(loss), &parameters).unwrap();
        for name in grads.names() {
            numbers.extend(grads.to_host(name).unwrap());
        }
        numbers.push(grads.norm().unwrap() as f32);
        numbers.into_iter().map(f32::to_bits).collect()
    })
}

#[test]
fn steps_do_not_depend_on_threads() {
    let one = step(1);
    for threads in [2, 3, 5] {
        assert!(step(threads) == one, "{threads} threads");
    }
}

/// Grouped heads, few and more sequences: a step's scores have the bits of a whole pass over the same tokens.
#[test]
fn cached_decoding_has_the_bits_of_a_whole_pass() {
    let decoder = Decoder {
        vocab: 70,
        width: 48,
        depth: 2,
        heads: 6,
        kv_heads: Some(2),
        mlp_width: 40,
        ..Decoder::default()
    };
    let llama = Llama { decoder, projection: None, head: true, ..Llama::default() };
    let specs = Module::parameters(&llama).into_iter().map(|spec| (spec.name.clone(), spec));
    let parameters = Parameters::init(specs, 3, &Cpu::default()).unwrap();
    const PROMPT: usize = 5;
    const ALL: usize = 11;
    for batch in [1, 2, 8, 9] {
        let id = |record: usize, place: usize| 1 + ((record * 31 + place * 7) % 69) as u32;
        let read = |len: usize| {
            let ids = (0..batch).flat_map(|record| (0..len).map(move |place| id(record, place)));
            Value::Text(Tokens::new(ids.collect(), batch, len).unwrap())
        };
        let out = run(&llama, &parameters, "", vec![("text", read(ALL))], &["logits"], &Tape::off());
        let whole = rows(&out["logits"]);
        let inputs = vec![("text".to_owned(), read(PROMPT))];
        let (mut decoding, mut scores) = Decoding::start(&llama, &parameters, "", inputs).unwrap();
        let from: Vec<usize> = (0..batch).collect();
        for place in PROMPT..=ALL {
            for (record, scores) in scores.iter().enumerate() {
                let expected = &whole[record][(place - 1) * 70..place * 70];
                let found: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
                assert!(found == expected, "{batch} sequences: {record} after {place} tokens");
            }
            if place < ALL {
                let tokens: Vec<u32> = (0..batch).map(|record| id(record, place)).collect();
                scores = decoding.next(&from, &tokens).unwrap();
            }
        }
    }
}
