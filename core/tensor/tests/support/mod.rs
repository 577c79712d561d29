//! Fixtures, one call of one module, and what several test binaries check.

pub mod cases;
pub mod chat;
pub mod generative;
pub mod parity;

use std::{collections::BTreeMap, path::PathBuf};

use heddle_tensor::{
    Backend, DynModule, Forward, HostTensor, Mode, Parameters, Tape, Tokens, Value, parameter::LoadOptions,
    value::ValueKind,
};
use safetensors::SafeTensors;

/// A parity fixture: its tensors and its tolerances.
pub struct Fixture {
    bytes: Vec<u8>,
    pub json: serde_json::Value,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let path = |ending: &str| {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.{ending}"))
        };
        let json = std::fs::read_to_string(path("json")).unwrap();
        Self {
            bytes: std::fs::read(path("safetensors")).unwrap(),
            json: serde_json::from_str(&json).unwrap(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.names().into_iter().map(str::to_owned).collect()
    }

    pub fn tensor(&self, name: &str) -> HostTensor {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        let data = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        HostTensor { shape: view.shape().to_vec(), data }
    }

    pub fn tokens(&self, name: &str) -> Tokens {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let ids = view.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect();
        Tokens::new(ids, view.shape()[0], view.shape()[1]).unwrap()
    }

    /// Tokens with the mask of another tensor.
    pub fn masked(&self, ids: &str, mask: &str) -> Tokens {
        let mask = self.integers(mask).into_iter().map(|mark| mark == Some(1)).collect();
        Tokens { mask: Some(mask), ..self.tokens(ids) }
    }

    /// Integers, none where they are negative.
    pub fn integers(&self, name: &str) -> Vec<Option<u32>> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = file.tensor(name).unwrap().data().as_chunks::<8>().0.to_vec();
        data.into_iter().map(|bytes| u32::try_from(i64::from_le_bytes(bytes)).ok()).collect()
    }

    /// Which labels count.
    pub fn learnt(&self, name: &str) -> Vec<bool> {
        self.integers(name).iter().map(Option::is_some).collect()
    }

    /// A number of the configuration, by path.
    pub fn number(&self, path: &str) -> f64 {
        let value = path.split('.').fold(&self.json["config"], |value, key| &value[key]);
        value.as_f64().unwrap_or_else(|| panic!("{path}"))
    }

    /// A size of the configuration, by path.
    pub fn config(&self, path: &str) -> usize {
        self.number(path) as usize
    }

    /// Compares with an output or gradient of the fixture, within its tolerance times `slack`. Gives the
    /// difference in units of the tolerance.
    pub fn compare(&self, name: &str, found: &HostTensor, slack: f64) -> f64 {
        self.close(name, &self.tensor(name), found, slack)
    }

    /// As [`Fixture::compare`], with a part of the tensor.
    pub fn close(&self, name: &str, expected: &HostTensor, found: &HostTensor, slack: f64) -> f64 {
        assert_eq!(expected.data.len(), found.data.len(), "{name}: number of elements");
        let tolerance = self.json["tolerance_abs"][name].as_f64().unwrap_or_else(|| panic!("{name}"));
        let pairs = expected.data.iter().zip(&found.data);
        let worst = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let nan = found.data.iter().any(|x| x.is_nan());
        assert!(!nan && worst <= tolerance * slack, "{name}: off by {worst:e}, allowed {tolerance:e}");
        worst / tolerance
    }

    /// Parameters of `nodes` (prefix, module), loaded from the fixture's tensors under the names that `key`
    /// gives to full names.
    pub fn parameters<B: Backend>(
        &self,
        backend: &B,
        nodes: &[(&str, Specs)],
        key: impl Fn(&str) -> String,
    ) -> Parameters<B> {
        let specs = nodes.iter().flat_map(|(prefix, specs)| {
            specs.iter().map(move |spec| (format!("{prefix}{}", spec.name), spec.clone()))
        });
        let mut parameters = Parameters::init(specs, 1, backend).unwrap();
        let options = LoadOptions { strict: false, finite: true };
        let report = parameters.load(&self.bytes, |name| Some(key(name)), options).unwrap();
        assert_eq!(report.missing, Vec::<String>::new());
        parameters
    }
}

pub type Specs = Vec<heddle_tensor::ParameterSpec>;

/// Runs a module in evaluation mode and gives its outputs.
pub fn run<B: Backend>(
    module: &dyn DynModule,
    parameters: &Parameters<B>,
    prefix: &str,
    inputs: Vec<(&str, Value<B>)>,
    wants: &[&str],
    tape: &Tape<B>,
) -> BTreeMap<String, Value<B>> {
    let scope = parameters.scope(prefix);
    let mut cx = Forward::new(parameters.backend(), scope, Mode::Eval, 0).with_tape(tape);
    for (port, value) in inputs {
        cx = cx.input(port, value);
    }
    for port in wants {
        cx = cx.want(*port);
    }
    parameters.backend().run(module, &mut cx).unwrap();
    cx.take_outputs().unwrap()
}

pub fn value<B: Backend>(backend: &B, kind: ValueKind, host: HostTensor, tape: &Tape<B>) -> Value<B> {
    Value::from_host(backend, kind, host, tape).unwrap()
}

pub fn scalar<B: Backend>(value: Value<B>) -> heddle_tensor::Scalar<B> {
    match value {
        Value::Scalar(scalar) => scalar,
        other => panic!("not a scalar but {}", other.kind()),
    }
}

/// Numbers between -1 and 1 that depend on the name alone, with few enough digits that small steps are exact.
pub fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state = name
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |s, b| (s ^ u64::from(b)).wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((state >> 52) as f32 - 2048.0) / 2048.0
    };
    (0..count).map(|_| next()).collect()
}
