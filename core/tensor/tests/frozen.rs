//! Frozen towers in bf16: near single precision, the same alone and in company, and never on a tape.

use heddle_tensor::{
    Cpu, DynModule, Forward, HostTensor, Mode, Parameters, Tape, TensorError, Tokens, Value,
    modules::{Decoder, InternVit, Llama},
    value::ValueKind,
};

use crate::support::numbers;

fn vit() -> InternVit {
    InternVit {
        width: 40,
        depth: 3,
        heads: 2,
        mlp_width: 90,
        patch: 4,
        image_size: [16, 24],
        ..InternVit::default()
    }
}

fn llama() -> Llama {
    Llama {
        decoder: Decoder { vocab: 50, width: 48, depth: 2, heads: 3, mlp_width: 70, ..Decoder::default() },
        projection: Some(20),
        ..Llama::default()
    }
}

fn image(backend: &Cpu, records: &[u32]) -> Value<Cpu> {
    let data = records.iter().flat_map(|record| numbers(&format!("image{record}"), 3 * 16 * 24)).collect();
    let host = HostTensor { shape: vec![records.len(), 3, 16, 24], data };
    Value::from_host(backend, ValueKind::Image, host, &Tape::off()).unwrap()
}

fn text(_: &Cpu, records: &[u32]) -> Value<Cpu> {
    let id = |record: u32, i: u32| if i > 8 + record % 4 { 0 } else { 1 + (record * 31 + i * 7) % 49 };
    let ids = records.iter().flat_map(|&record| (0..13).map(move |i| id(record, i))).collect();
    Value::Text(Tokens::new(ids, records.len(), 13).unwrap())
}

struct Case {
    module: Box<dyn DynModule>,
    input: fn(&Cpu, &[u32]) -> Value<Cpu>,
    ports: (&'static str, &'static str),
}

fn cases() -> [Case; 2] {
    [
        Case { module: Box::new(vit()), input: image, ports: ("image", "tokens") },
        Case { module: Box::new(llama()), input: text, ports: ("text", "eos") },
    ]
}

impl Case {
    fn parameters(&self, backend: &Cpu) -> Parameters<Cpu> {
        let specs = self.module.parameters().into_iter().map(|spec| (spec.name.clone(), spec));
        Parameters::init(specs, 5, backend).unwrap()
    }

    fn run(
        &self,
        parameters: &Parameters<Cpu>,
        records: &[u32],
        tape: &Tape<Cpu>,
    ) -> Result<Vec<f32>, TensorError> {
        let backend = parameters.backend();
        let (port, output) = self.ports;
        let mut cx = Forward::new(backend, parameters.scope(""), Mode::Eval, 0).with_tape(tape);
        cx = cx.input(port, (self.input)(backend, records)).want(output);
        heddle_tensor::Backend::run(backend, &*self.module, &mut cx)?;
        Ok(cx.take_outputs()?.remove(output).unwrap().to_host()?.data)
    }
}

fn backends() -> Vec<Cpu> {
    // A processor without avx512_bf16 has the portable kernels only.
    [Some(Cpu::bf16_portable()), Cpu::bf16()].into_iter().flatten().collect()
}

#[test]
fn towers_are_near_single_precision() {
    for case in cases() {
        let exact = case.run(&case.parameters(&Cpu::default()), &[0, 1, 2], &Tape::off()).unwrap();
        for backend in backends() {
            let rounded = case.run(&case.parameters(&backend), &[0, 1, 2], &Tape::off()).unwrap();
            let largest = exact.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let worst = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst > 0.0, "rounding shows");
            assert!(worst < 0.02 * largest, "off by {worst} of {largest}");
        }
    }
}

#[test]
fn a_record_is_the_same_in_any_company_and_on_any_threads() {
    for case in cases() {
        for backend in backends() {
            let run = |threads: usize, records: &[u32]| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                // Parameters are made on the pool's thread, as tapes do not travel.
                let all =
                    pool.install(|| case.run(&case.parameters(&backend), records, &Tape::off()).unwrap());
                all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let records: Vec<u32> = (0..7).collect();
            let all = run(1, &records);
            assert!(all == run(2, &records) && all == run(3, &records));
            let of_one = all.len() / records.len();
            for record in [0, 3, 6] {
                assert!(run(2, &[record as u32]) == all[record * of_one..][..of_one], "record {record}");
            }
        }
    }
}

#[test]
fn changed_weights_are_packed_again() {
    let case = &cases()[0];
    let backend = Cpu::bf16_portable();
    let mut parameters = case.parameters(&backend);
    let before = case.run(&parameters, &[1], &Tape::off()).unwrap();
    let name = "encoder.layers.1.mlp.fc2.bias";
    parameters.set(name, vec![0.5; 40]).unwrap();
    let after = case.run(&parameters, &[1], &Tape::off()).unwrap();
    assert_ne!(before, after);
    parameters.set(name, vec![0.0; 40]).unwrap();
    assert_eq!(case.run(&parameters, &[1], &Tape::off()).unwrap(), before);
}

#[test]
fn gradients_are_refused() {
    for case in cases() {
        let parameters = case.parameters(&Cpu::bf16_portable());
        let error = case.run(&parameters, &[0], &Tape::new()).unwrap_err();
        assert_eq!(error.to_string(), "on the processor, bf16 is for frozen towers: it has no gradients");
    }
}
