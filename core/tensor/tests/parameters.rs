//! Initialisation, loading, saving.

use std::collections::BTreeMap;

use heddle_tensor::{
    Backend, Cpu, CpuF64, Init, Module, ParameterSpec, Parameters,
    modules::{Decoder, InternVit, Llama},
    parameter::{LoadOptions, WeightsError, WeightsFile, to_safetensors},
};
use proptest::prelude::*;

fn one(name: &str, shape: &[usize], init: Init, seed: u64) -> Vec<f32> {
    let spec = (name.to_owned(), ParameterSpec::new(name, shape, init));
    Parameters::init([spec], seed, &Cpu::default()).unwrap().to_host(name).unwrap()
}

fn mean_and_std(x: &[f32]) -> (f64, f64) {
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let square = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / x.len() as f64;
    (mean, square.sqrt())
}

#[test]
fn draws_follow_their_distribution() {
    let shape = [200, 200];
    let (mean, std) = mean_and_std(&one("w", &shape, Init::Normal { std: 0.02 }, 1));
    assert!(mean.abs() < 4e-4 && (std - 0.02).abs() < 4e-4, "{mean} {std}");
    let truncated = one("w", &shape, Init::TruncatedNormal { std: 0.02 }, 1);
    // A normal cut at two standard deviations keeps 0.8796 of its standard deviation.
    let (mean, std) = mean_and_std(&truncated);
    assert!(mean.abs() < 4e-4 && (std - 0.017593).abs() < 4e-4, "{mean} {std}");
    assert!(truncated.iter().all(|x| x.abs() <= 0.04));
    let uniform = one("w", &shape, Init::FanIn, 1);
    let bound = 200_f32.powf(-0.5);
    assert!(uniform.iter().all(|x| x.abs() <= bound) && uniform.iter().any(|x| *x > 0.99 * bound));
    assert_eq!(one("w", &[], Init::Constant(2.5), 1), [2.5]);
}

/// Growing a model leaves the start of the old part as it was.
#[test]
fn draws_depend_on_seed_and_name_alone() {
    let vit = InternVit {
        width: 8,
        heads: 2,
        mlp_width: 16,
        depth: 2,
        patch: 4,
        image_size: [8, 8],
        ..InternVit::default()
    };
    let deeper = InternVit { depth: 3, ..vit.clone() };
    let init = |vit: &InternVit, seed| {
        let specs = Module::parameters(vit).into_iter().rev().map(|spec| (spec.name.clone(), spec));
        Parameters::init(specs, seed, &Cpu::default()).unwrap()
    };
    let (small, large, other) = (init(&vit, 5), init(&deeper, 5), init(&vit, 6));
    for name in small.names() {
        assert_eq!(small.to_host(name).unwrap(), large.to_host(name).unwrap(), "{name}");
    }
    let name = "encoder.layers.0.attn.qkv.weight";
    assert_ne!(small.to_host(name).unwrap(), other.to_host(name).unwrap());
    let last = "encoder.layers.1.mlp.fc2.weight";
    let (_, std) = mean_and_std(&small.to_host(last).unwrap());
    assert!((std - 0.0088).abs() < 0.0015, "second block's last matrix starts at 0.02 / sqrt(4): {std}");
}

#[test]
fn weight_decay_takes_matrices_only() {
    let llama = Llama {
        decoder: Decoder { vocab: 9, width: 4, depth: 1, heads: 1, mlp_width: 3, ..Decoder::default() },
        ..Llama::default()
    };
    let decaying = Module::parameters(&llama).into_iter().filter(|spec| spec.decay).count();
    assert_eq!(decaying, 1 + 4 + 3 + 1);
    for spec in Module::parameters(&InternVit { depth: 1, ..InternVit::default() }) {
        assert_eq!(spec.decay, spec.name.ends_with("weight") && !spec.name.contains("norm"), "{}", spec.name);
    }
}

/// InternVL's table 11: parameters and multiply-adds of six variants.
#[test]
fn table_11() {
    let rows = [
        (3968, 32, 15872, 62, 6050.974, 1571.09),
        (3200, 48, 12800, 50, 5902.794, 1536.46),
        (3200, 48, 12800, 25, 5902.794, 1536.46),
        (2496, 48, 19968, 39, 5984.846, 1553.15),
        (2816, 64, 11264, 44, 6094.677, 1589.21),
        (2496, 80, 9984, 39, 5985.326, 1563.62),
    ];
    for (width, depth, mlp_width, heads, millions, gigamacs) in rows {
        let vit = InternVit { width, depth, mlp_width, heads, ..InternVit::default() };
        let count: usize = Module::parameters(&vit).iter().map(ParameterSpec::len).sum();
        let macs = Module::macs(&vit, heddle_tensor::InputSize::Image { height: 224, width: 224 });
        assert_eq!(format!("{:.3}", count as f64 / 1e6), format!("{millions:.3}"));
        assert_eq!(format!("{:.2}", macs as f64 / 1e9), format!("{gigamacs:.2}"));
    }
    let count: usize = Module::parameters(&InternVit::default()).iter().map(ParameterSpec::len).sum();
    assert_eq!(count, 5_902_793_600);
    // LLaMA without its language head, with the projection.
    let count: usize = Module::parameters(&Llama::default()).iter().map(ParameterSpec::len).sum();
    assert_eq!(count, 6_885_494_784 - 49_954 * 4096 + 4096 * 768);
}

fn sample<B: Backend>(backend: &B) -> Parameters<B> {
    let spec = |name: &str, shape: &[usize]| {
        (format!("a/{name}"), ParameterSpec::new(name, shape, Init::Normal { std: 1.0 }))
    };
    Parameters::init([spec("w", &[3, 2]), spec("b", &[3]), spec("s", &[])], 4, backend).unwrap()
}

#[test]
fn weights_survive_a_file() {
    let parameters = sample(&Cpu::default());
    let metadata = BTreeMap::from([("made-by".to_owned(), "a test".to_owned())]);
    let rename = |name: &str| name.replace("a/", "model.");
    let bytes = parameters.save_safetensors(rename, &metadata).unwrap();
    assert_eq!(bytes, parameters.save_safetensors(rename, &metadata).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let file = WeightsFile::open(&path).unwrap();
    let mut other = sample(&Cpu::default());
    other.set("a/w", vec![0.0; 6]).unwrap();
    let options = LoadOptions { strict: true, finite: true };
    let report = other.load(file.bytes(), |name| Some(rename(name)), options).unwrap();
    assert_eq!(report.loaded, ["a/b", "a/s", "a/w"]);
    for name in parameters.names() {
        assert_eq!(parameters.to_host(name).unwrap(), other.to_host(name).unwrap());
    }
    let mut wide = sample(&CpuF64::default());
    wide.load(file.bytes(), |name| Some(rename(name)), options).unwrap();
    assert_eq!(wide.to_host("a/w").unwrap(), parameters.to_host("a/w").unwrap());
}

#[test]
fn what_does_not_fit_is_named() {
    let mut parameters = sample(&Cpu::default());
    let before = parameters.to_host("a/w").unwrap();
    let mut load = |tensors: &[(&str, &[usize], f32)], strict: bool| {
        let entry = |&(name, shape, fill): &(&str, &[usize], f32)| {
            (name.to_owned(), (shape.to_vec(), vec![fill; shape.iter().product()]))
        };
        let bytes = to_safetensors(&tensors.iter().map(entry).collect(), &BTreeMap::new());
        let options = LoadOptions { strict, finite: true };
        parameters.load(&bytes, |name| Some(name.to_owned()), options)
    };
    let error = load(&[("a/w", &[2, 3], 0.0)], false).unwrap_err();
    assert_eq!(error.to_string(), "`a/w` has shape [2, 3], but `a/w` needs [3, 2]");
    let error = load(&[("a/w", &[3, 2], f32::NAN)], false).unwrap_err();
    assert_eq!(error.to_string(), "`a/w` holds NaN at element 0");
    let error = load(&[("a/w", &[3, 2], 0.0), ("c", &[1], 0.0)], true).unwrap_err();
    assert_eq!(error.to_string(), r#"weights do not fit: missing ["a/b", "a/s"], unexpected ["c"]"#);
    assert!(matches!(parameters.load(b"no", |_| None, LoadOptions::default()), Err(WeightsError::Format(_))));
    assert_eq!(parameters.to_host("a/w").unwrap(), before);
}

/// Half-precision weights load as the numbers they stand for.
#[test]
fn half_precision_loads() {
    let cases: [(&str, [u16; 3]); 2] =
        [("F16", [0x3c00, 0xc100, 0x0001]), ("BF16", [0x3f80, 0xc020, 0x3380])];
    for (dtype, bits) in cases {
        let header = format!(r#"{{"b":{{"dtype":"{dtype}","shape":[3],"data_offsets":[0,6]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes().chain(bits.iter().flat_map(|b| b.to_le_bytes())));
        let mut parameters = sample(&Cpu::default());
        let key = |name: &str| (name == "a/b").then(|| "b".to_owned());
        parameters.load(&bytes, key, LoadOptions { strict: true, finite: true }).unwrap();
        assert_eq!(parameters.to_host("a/b").unwrap(), [1.0, -2.5, 2.0_f32.powi(-24)]);
    }
}

proptest! {
    /// Whatever is saved is loaded again, bit for bit.
    #[test]
    fn round_trip(values in prop::collection::vec(any::<f32>().prop_filter("numbers", |x| !x.is_nan()), 6)) {
        let mut parameters = sample(&Cpu::default());
        parameters.set("a/w", values.clone()).unwrap();
        let bytes = parameters.save_safetensors(str::to_owned, &BTreeMap::new()).unwrap();
        let mut other = sample(&Cpu::default());
        other.load(&bytes, |name| Some(name.to_owned()), LoadOptions::default()).unwrap();
        prop_assert_eq!(other.to_host("a/w").unwrap(), values);
    }
}
