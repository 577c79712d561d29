//! `apply` against what the official implementation computed: the fixtures of `core/tensor/tests/fixtures`, each
//! within the tolerance that its JSON gives per tensor.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::util::{Dir, Ended, heddle_in, here, repository};

/// Shape and elements by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const PRECISIONS: [&str; 2] = ["f32", "f64"];

fn fixture(name: &str) -> PathBuf {
    repository().join("core/tensor/tests/fixtures").join(name)
}

/// The f32 tensors of a file.
fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = file.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    let values = |view: &TensorView<'_>| {
        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    floats.map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view)))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, data))| (name, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, _))| (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// One call of `apply`.
struct Apply {
    graph: PathBuf,
    weights: PathBuf,
    inputs: PathBuf,
    arguments: Vec<String>,
}

impl Apply {
    /// Weights and inputs from one fixture; `arguments` as typed, split at spaces.
    fn of_fixture(graph: PathBuf, name: &str, arguments: &str) -> Self {
        let file = fixture(&format!("{name}.safetensors"));
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { graph, weights: file.clone(), inputs: file, arguments }
    }

    fn call(&self, out: &Path, precision: &str) -> Ended {
        let [graph, weights, inputs, out] =
            [&self.graph, &self.weights, &self.inputs, out].map(|p| p.to_str().unwrap());
        let mut arguments = vec!["apply", graph, "--weights", weights, "--inputs", inputs, "--out", out];
        arguments.extend(["--precision", precision]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        heddle_in(&here(), &arguments)
    }

    fn run(&self, precision: &str) -> Tensors {
        let dir = Dir::empty();
        let out = dir.path().join("out.safetensors");
        let ended = self.call(&out, precision);
        assert_eq!(ended.code, Some(0), "{ended}");
        read(&out)
    }
}

/// Compares tensors with those of a fixture: `(ours, theirs)`.
fn compare<'a>(found: &Tensors, name: &str, pairs: impl IntoIterator<Item = (&'a str, String)>) -> usize {
    let expected = read(&fixture(&format!("{name}.safetensors")));
    let text = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for (ours, theirs) in pairs {
        let tolerance =
            json["tolerance_abs"][&theirs].as_f64().unwrap_or_else(|| panic!("{theirs} has no tolerance"));
        let (_, a) = found.get(ours).unwrap_or_else(|| panic!("{ours} is not among {:?}", found.keys()));
        let (_, b) = &expected[&theirs];
        assert_eq!(a.len(), b.len(), "{ours}: number of elements");
        // NaN is no distance below the tolerance.
        let near = a.iter().zip(b).all(|(a, b)| f64::from((a - b).abs()) <= tolerance);
        assert!(near, "{ours} differs from {theirs} by more than {tolerance:e}");
        count += 1;
    }
    count
}

/// The gradients that a fixture has under a prefix, with our names for them.
fn gradients(name: &str, prefix: &str, inputs: &[(&str, &str)]) -> Vec<(String, String)> {
    let file = read(&fixture(&format!("{name}.safetensors")));
    let ours = |local: &str| match inputs.iter().find(|(_, theirs)| *theirs == local) {
        Some((ours, _)) => format!("grad.input.{ours}"),
        None => format!("grad.{local}"),
    };
    let named = file.keys().filter_map(|key| Some((ours(key.strip_prefix(prefix)?), key.clone())));
    named.collect()
}

fn compare_gradients(found: &Tensors, name: &str, prefix: &str, inputs: &[(&str, &str)]) -> usize {
    let pairs = gradients(name, prefix, inputs);
    compare(found, name, pairs.iter().map(|(ours, theirs)| (ours.as_str(), theirs.clone())))
}

fn check_vit(name: &str, depth: usize, set: &str) {
    let outputs: String = (0..=depth).map(|i| format!(" --output vit.hidden.{i}")).collect();
    let arguments = format!(
        "{set} --input image=io.in.pixel_values --input probe=io.in.probe --grad probe-loss \
         --output pooler --output probe-loss{outputs}"
    );
    let apply = Apply::of_fixture(here().join("graphs/vit-probe.toml"), name, &arguments);
    for precision in PRECISIONS {
        let found = apply.run(precision);
        let hidden: Vec<String> = (0..=depth).map(|i| format!("vit.hidden.{i}")).collect();
        let states =
            hidden.iter().enumerate().map(|(i, ours)| (ours.as_str(), format!("io.out.hidden_states.{i}")));
        compare(&found, name, states);
        compare(
            &found,
            name,
            [("pooler", "io.out.pooler_output".into()), ("probe-loss", "io.out.probe_loss".into())],
        );
        let count = compare_gradients(&found, name, "io.grad.", &[("image", "pixel_values")]);
        assert!(count >= 25, "{count} gradients");
    }
}

#[test]
fn vit_with_query_key_norm() {
    check_vit("vit_qknorm", 3, "");
}

#[test]
fn vit_with_qkv_bias() {
    let set = [
        ("width", "36"),
        ("depth", "2"),
        ("heads", "3"),
        ("mlp-width", "120"),
        ("qkv-bias", "true"),
        ("qk-norm", "false"),
    ];
    let set: Vec<String> = set.iter().map(|(name, value)| format!("-S params.{name}={value}")).collect();
    check_vit("vit_plain", 2, &set.join(" "));
}

#[test]
fn attention_pooling() {
    let arguments =
        "--input x=io.in.x --input probe=io.in.probe --grad probe-loss --output pooled --output probe-loss";
    let apply = Apply::of_fixture(here().join("graphs/pool-probe.toml"), "attn_pool", arguments);
    for precision in PRECISIONS {
        let found = apply.run(precision);
        let pairs = [("pooled", "io.out.pooled".to_owned()), ("probe-loss", "io.out.probe_loss".to_owned())];
        compare(&found, "attn_pool", pairs);
        assert_eq!(compare_gradients(&found, "attn_pool", "io.grad.", &[("x", "x")]), 15);
    }
}

/// Images of other sizes than the position embedding's; the fixture has no blocks, so they are made up.
#[test]
fn position_embedding_of_other_sizes() {
    let dir = Dir::empty();
    let mut weights = read(&fixture("pos_resize.safetensors"));
    let block = [
        ("ls1", vec![16]),
        ("ls2", vec![16]),
        ("attn.qkv.weight", vec![48, 16]),
        ("attn.q_norm.weight", vec![16]),
        ("attn.k_norm.weight", vec![16]),
        ("attn.proj.weight", vec![16, 16]),
        ("attn.proj.bias", vec![16]),
        ("mlp.fc1.weight", vec![64, 16]),
        ("mlp.fc1.bias", vec![64]),
        ("mlp.fc2.weight", vec![16, 64]),
        ("mlp.fc2.bias", vec![16]),
        ("norm1.weight", vec![16]),
        ("norm2.weight", vec![16]),
    ];
    for (name, shape) in block {
        let count = shape.iter().product();
        weights.insert(format!("encoder.layers.0.{name}"), (shape, vec![1.0; count]));
    }
    let whole = dir.path().join("weights.safetensors");
    write(&whole, &weights);
    for size in ["84x84", "42x98"] {
        let arguments = format!("--input image=io.in.pixels.{size}");
        let mut apply = Apply::of_fixture(here().join("graphs/positions.toml"), "pos_resize", &arguments);
        apply.weights = whole.clone();
        for precision in PRECISIONS {
            compare(&apply.run(precision), "pos_resize", [("embedded", format!("io.out.dynamic.{size}"))]);
        }
    }
}

/// The sizes of the fixture `internvl` for the shipped graph.
const INTERNVL: &str = "-S params.image-size=56 -S params.width=48 -S params.depth=3 -S params.heads=3 \
    -S params.mlp-width=192 -S params.vocab=256 -S params.text-width=64 -S params.text-depth=4 -S params.text-heads=4 \
    -S params.text-mlp-width=172 -S params.text-length=12 -S params.embed=32 -S params.pool-heads=4 \
    --input image=io.in.pixel_values";

/// The shipped InternVL-C graph loads published names and gives the published features.
#[test]
fn internvl_c_features() {
    let arguments = format!(
        "{INTERNVL} --input caption=io.in.input_ids --output image_embeds --output text_embeds --output vit.tokens \
         --output itc.logits=logits"
    );
    let apply = Apply::of_fixture(repository().join("graphs/internvl-c.toml"), "internvl", &arguments);
    for precision in PRECISIONS {
        let pairs = [
            ("vit.tokens", "vision_hidden"),
            ("image_embeds", "image_embeds_c"),
            ("text_embeds", "text_embeds"),
            ("logits", "logits_per_image_c"),
        ];
        compare(
            &apply.run(precision),
            "internvl",
            pairs.map(|(ours, theirs)| (ours, format!("io.out.{theirs}"))),
        );
    }
}

/// All gradients of the contrastive loss, both towers.
#[test]
fn internvl_c_gradients() {
    let arguments =
        format!("{INTERNVL} --input caption=io.in.clip.input_ids --output itc.loss=loss --grad itc");
    let apply = Apply::of_fixture(repository().join("graphs/internvl-c.toml"), "internvl", &arguments);
    for precision in PRECISIONS {
        let found = apply.run(precision);
        compare(&found, "internvl", [("loss", "io.out.clip_loss_c".to_owned())]);
        assert_eq!(compare_gradients(&found, "internvl", "io.grad.clip_c.", &[]), 50);
    }
}

/// What the shipped InternVL-G graph reads of the fixture.
const STAGE_2: &str = "-S params.queries=6 --input caption=io.in.stage2.summarize_input_ids \
    --input caption.mask=io.in.stage2.summarize_attention_mask --input matching=io.in.stage2.positive_input_ids \
    --input matching.mask=io.in.stage2.positive_attention_mask --input negative=io.in.stage2.negative_input_ids \
    --input negative.mask=io.in.stage2.negative_attention_mask --input prompt=io.in.stage2.input_ids \
    --input prompt.mask=io.in.stage2.attention_mask --input prompt.labels=io.in.stage2.labels";

/// The three losses of stage 2 on one pass of the image, and the gradients of their sum.
#[test]
fn internvl_g_stage_2() {
    let arguments = format!(
        "{INTERNVL} {STAGE_2} --output itm_logits --output query_embeds --output queries --output itm.loss=itm \
         --output itc.loss=itc --output itg.loss=itg --grad itm,itc,itg"
    );
    let apply = Apply::of_fixture(repository().join("graphs/internvl-g.toml"), "internvl", &arguments);
    for precision in PRECISIONS {
        let found = apply.run(precision);
        let pairs = [
            ("itm_logits", "stage2.itm_logits"),
            ("query_embeds", "stage2.query_embeds_itc"),
            ("queries", "query_hidden"),
            ("itm", "stage2.loss_itm"),
            ("itc", "stage2.loss_itc"),
            ("itg", "stage2.loss_itg"),
        ];
        compare(&found, "internvl", pairs.map(|(ours, theirs)| (ours, format!("io.out.{theirs}"))));
        // Of the frozen parts, too; the fixture has those of stage 2.
        assert_eq!(compare_gradients(&found, "internvl", "io.grad.stage2.", &[]), 30);
    }
}

/// Mode G: both poolings as unit vectors.
#[test]
fn internvl_g_features() {
    let arguments = format!(
        "{INTERNVL} -S params.queries=6 --input caption=io.in.input_ids --output image_embeds --output image_embeds_c \
         --output text_embeds"
    );
    let apply = Apply::of_fixture(repository().join("graphs/internvl-g.toml"), "internvl", &arguments);
    for precision in PRECISIONS {
        let pairs = [
            ("image_embeds", "image_embeds_g"),
            ("image_embeds_c", "image_embeds_c"),
            ("text_embeds", "text_embeds"),
        ];
        compare(
            &apply.run(precision),
            "internvl",
            pairs.map(|(ours, theirs)| (ours, format!("io.out.{theirs}"))),
        );
    }
}

/// Numbers in -1..1 that depend on the name alone.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state = name
        .bytes()
        .fold(17_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Another seed and size than any fixture: the kernels of f32 against the composed f64, with every thread count.
#[test]
fn f32_agrees_with_f64_on_other_sizes() {
    let dir = Dir::empty();
    let names = fixture("vit_qknorm.safetensors");
    // Width 40, five heads of 8: no multiple of a vector's width anywhere.
    let scale = |shape: &[usize]| -> Vec<usize> {
        shape
            .iter()
            .map(|size| match size {
                64 => 40,
                192 => 120,
                256 => 76,
                other => *other,
            })
            .collect()
    };
    let mut weights = Tensors::new();
    for (name, (shape, _)) in read(&names).into_iter().filter(|(name, _)| !name.starts_with("io.")) {
        let shape = scale(&shape);
        let fan: f32 = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let data = numbers(&name, shape.iter().product()).into_iter().map(|x| x / fan.sqrt()).collect();
        weights.insert(name, (shape, data));
    }
    let inputs = [("image", vec![3, 3, 56, 56]), ("probe", vec![3, 17, 40])];
    let inputs: Tensors = inputs
        .into_iter()
        .map(|(name, shape)| (name.to_owned(), (shape.clone(), numbers(name, shape.iter().product()))))
        .collect();
    let (weights_file, inputs_file) =
        (dir.path().join("weights.safetensors"), dir.path().join("inputs.safetensors"));
    write(&weights_file, &weights);
    write(&inputs_file, &inputs);
    let apply = |more: &str| Apply {
        graph: here().join("graphs/vit-probe.toml"),
        weights: weights_file.clone(),
        inputs: inputs_file.clone(),
        arguments: format!(
            "-S params.width=40 -S params.heads=5 -S params.mlp-width=76 --grad probe-loss {more}"
        )
        .split_whitespace()
        .map(str::to_owned)
        .collect(),
    };
    let single = apply("--threads 1").run("f32");
    assert_eq!(single, apply("--threads 2").run("f32"), "results depend on the number of threads");
    let double = apply("").run("f64");
    assert_eq!(single.keys().collect::<Vec<_>>(), double.keys().collect::<Vec<_>>());
    assert_eq!(single.keys().filter(|name| name.starts_with("grad.")).count(), weights.len() + 2);
    for (name, (_, a)) in &single {
        let b = &double[name].1;
        let largest = b.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let worst = a.iter().zip(b).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= 2e-5 * largest, "{name}: {worst:e} of {largest:e}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let dir = Dir::empty();
    let apply = |arguments: &str| {
        let apply = Apply::of_fixture(here().join("graphs/vit-probe.toml"), "vit_qknorm", arguments);
        let ended = apply.call(&dir.path().join("out.safetensors"), "f32");
        assert_eq!(ended.code, Some(1), "{ended}");
        assert!(!dir.path().join("out.safetensors").exists());
        // Names alone; the path of the repository differs between machines.
        ended.stderr.replace(fixture("").to_str().unwrap(), "")
    };
    let said = [
        apply("--output vit.tokens"),
        apply("--input image=io.in.pixel_values --output vit.hidden.4"),
        apply("--input picture=io.in.pixel_values --output vit.tokens"),
        apply("--input image=io.in.probe --output vit.tokens"),
        apply("--input image=io.in.pixel_values --output vit.tokens --grad vit"),
        apply("--input image=io.in.pixel_values --output vit.tokens -S params.depth=4"),
        apply("--input image=io.in.pixel_values --output vit.tokens -S params.width=32"),
    ];
    insta::assert_snapshot!(said.join("\n"));
}
