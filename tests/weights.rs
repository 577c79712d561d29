//! Weights that somebody else trained, and weights for others.

use std::{collections::BTreeMap, path::PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value as Json, json};

use crate::util::{Dir, Ended, TINY, filtered};

/// Shape and elements by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// An experiment that only reads weights.
const READ: &str = "experiments/read.toml";

/// The name of the one shard in [`Pretrained::sharded`]'s folder that tests damage.
const SECOND: &str = "model/model-00002-of-00002.safetensors";

fn tensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let values = |view: &TensorView<'_>| {
        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view)))).collect()
}

fn bytes(tensors: &Tensors) -> Vec<u8> {
    let data: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, data))| (name, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let view = |(name, (shape, _)): (_, &(Vec<usize>, Vec<f32>))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), &data[name]).unwrap())
    };
    safetensors::serialize(tensors.iter().map(view), None).unwrap()
}

/// A folder with the tiny experiment, what its stage trained, and an experiment whose node `pretrained` reads `model/`.
struct Pretrained {
    dir: Dir,
    trained: Tensors,
    digest: String,
}

impl Pretrained {
    /// With `model/` as one file.
    fn whole() -> Self {
        let dir = Dir::tiny();
        dir.done(&["run", TINY, "stage1"]);
        let id = dir.last_run()["id"].as_str().unwrap().to_owned();
        let artifact = format!("experiments/.heddle/runs/{id}/artifacts/stage1.weights.safetensors");
        let trained = tensors(&std::fs::read(dir.path().join(artifact)).unwrap());
        let digest = digest(&dir, "stage1.weights");
        dir.write("model/model.safetensors", bytes(&trained));
        let this = Self { dir, trained, digest };
        this.read_with("");
        this
    }

    /// With `model/` as two shards: the vision tower's, and the rest.
    fn sharded() -> Self {
        let this = Self::whole();
        std::fs::remove_file(this.path("model/model.safetensors")).unwrap();
        let (vit, rest): (Tensors, Tensors) =
            this.trained.clone().into_iter().partition(|(name, _)| name.starts_with("vit."));
        let mut map = serde_json::Map::new();
        for (part, shard) in [(&vit, "model-00001-of-00002.safetensors"), (&rest, &SECOND["model/".len()..])]
        {
            this.dir.write(&format!("model/{shard}"), bytes(part));
            map.extend(part.keys().map(|name| (name.clone(), json!(shard))));
        }
        let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
        this.dir.write("model/model.safetensors.index.json", index.to_string());
        this
    }

    /// Writes the experiment, with these lines at the end of the node.
    fn read_with(&self, lines: &str) {
        let text = format!(
            "schema = 1\n[nodes.pretrained]\nkind = \"weights.huggingface\"\nfolder = \"../model\"\n\
             graph = \"../graphs/tiny.toml\"\n{lines}\n"
        );
        self.dir.write(READ, text);
    }

    /// Writes `model.safetensors` with changed tensors.
    fn change(&self, change: impl FnOnce(&mut Tensors)) {
        let mut changed = self.trained.clone();
        change(&mut changed);
        self.dir.write("model/model.safetensors", bytes(&changed));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self) -> Ended {
        self.dir.heddle(&["run", READ])
    }

    /// What the failed run says of the node.
    fn refused(&self) -> String {
        let ended = self.run();
        assert_eq!(ended.code, Some(1), "{ended}");
        let start = ended.stderr.find("error: node").unwrap();
        let end = ended.stderr.find("\nfailed:").unwrap_or(ended.stderr.len());
        ended.stderr[start..end].to_owned()
    }
}

fn digest(dir: &Dir, artifact: &str) -> String {
    dir.digests().into_iter().find(|(name, _)| name == artifact).unwrap().1
}

#[test]
fn a_whole_model_and_its_shards_become_the_artifact_of_the_stage_that_trained_them() {
    for pretrained in [Pretrained::whole(), Pretrained::sharded()] {
        pretrained.dir.done(&["run", READ]);
        assert_eq!(digest(&pretrained.dir, "pretrained.weights"), pretrained.digest);
    }
}

#[test]
fn stages_start_from_the_whole_or_from_parts() {
    let pretrained = Pretrained::whole();
    let tiny = pretrained.dir.read(TINY);
    let node = "[nodes.pretrained]\nkind = \"weights.huggingface\"\nfolder = \"../model\"\ngraph = \"../graphs/tiny.toml\"\n";
    for weights in ["\"pretrained\"", "{ vit = \"pretrained/vit\" }"] {
        let stage = format!("{node}\n[nodes.stage1]\nweights = {weights}\n");
        pretrained.dir.write("experiments/from.toml", tiny.replace("[nodes.stage1]\n", &stage));
        pretrained.dir.done(&["run", "experiments/from.toml", "stage1"]);
        assert_ne!(digest(&pretrained.dir, "stage1.weights"), pretrained.digest);
    }
}

#[test]
fn names_and_tensors_of_others_are_renamed_left_out_or_refused() {
    let pretrained = Pretrained::whole();
    pretrained.change(|tensors| {
        let vit: Vec<String> = tensors.keys().filter(|name| name.starts_with("vit.")).cloned().collect();
        for name in vit {
            let tensor = tensors.remove(&name).unwrap();
            tensors.insert(name.replace("vit.", "model.vision_tower."), tensor);
        }
        tensors.insert("head.weight".into(), (vec![2], vec![0.0, 1.0]));
        tensors.insert("text.layers.0.self_attn.rotary_emb.inv_freq".into(), (vec![1], vec![f32::NAN]));
    });
    let rename = "rename = { \"model.vision_tower\" = \"vit\", \"model\" = \"other\" }";
    pretrained.read_with(rename);
    let ended = pretrained.dir.done(&["run", READ]);
    assert!(ended.stderr.contains("the graph does not use `head.weight`\n"), "{ended}");
    assert_eq!(digest(&pretrained.dir, "pretrained.weights"), pretrained.digest);

    pretrained.read_with(&format!("{rename}\nunused = \"error\""));
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: the graph does not use `head.weight` (`unused`)");
    pretrained.read_with("");
    insta::assert_snapshot!(pretrained.refused(), @r#"
    error: node `pretrained`: the weights do not fit:
      `vit.embeddings.class_embedding` [1, 1, 16] is not there
      `vit.embeddings.position_embedding` [1, 5, 16] is not there
      `vit.embeddings.patch_embedding.weight` [16, 3, 8, 8] is not there
      `vit.embeddings.patch_embedding.bias` [16] is not there
      `vit.encoder.layers.0.norm1.weight` [16] is not there
      `vit.encoder.layers.0.norm2.weight` [16] is not there
      `vit.encoder.layers.0.ls1` [16] is not there
      `vit.encoder.layers.0.ls2` [16] is not there
      `vit.encoder.layers.0.attn.qkv.weight` [48, 16] is not there
      `vit.encoder.layers.0.attn.proj.weight` [16, 16] is not there
      `vit.encoder.layers.0.attn.proj.bias` [16] is not there
      `vit.encoder.layers.0.mlp.fc1.weight` [64, 16] is not there
      `vit.encoder.layers.0.mlp.fc1.bias` [64] is not there
      `vit.encoder.layers.0.mlp.fc2.weight` [16, 64] is not there
      `vit.encoder.layers.0.mlp.fc2.bias` [16] is not there
      `vit.encoder.layers.0.attn.q_norm.weight` [16] is not there
      `vit.encoder.layers.0.attn.k_norm.weight` [16] is not there
    not used are `head.weight`, `model.vision_tower.embeddings.class_embedding`, `model.vision_tower.embeddings.patch_embedding.bias`, `model.vision_tower.embeddings.patch_embedding.weight`, `model.vision_tower.embeddings.position_embedding` and 13 more
    "#);
}

#[test]
fn every_tensor_that_does_not_fit_is_named() {
    let pretrained = Pretrained::whole();
    pretrained.change(|tensors| {
        tensors.remove("text.model.norm.weight").unwrap();
        tensors.insert("vit.embeddings.class_embedding".into(), (vec![16], vec![0.0; 16]));
    });
    insta::assert_snapshot!(pretrained.refused(), @r#"
    error: node `pretrained`: the weights do not fit:
      `text.model.norm.weight` [16] is not there
      `vit.embeddings.class_embedding` has shape [16], but the graph's `vit.embeddings.class_embedding` needs [1, 1, 16]
    "#);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let pretrained = Pretrained::whole();
    pretrained.change(|tensors| tensors.get_mut("text.model.norm.weight").unwrap().1[3] = f32::NAN);
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: `text.model.norm.weight` holds NaN at element 3");
}

#[test]
fn elements_keep_their_type_and_integers_are_no_weights() {
    let pretrained = Pretrained::whole();
    let write = |dtype, data: &[u8], shape: &[usize]| {
        let view = TensorView::new(dtype, shape.to_vec(), data).unwrap();
        pretrained.dir.write("model/model.safetensors", safetensors::serialize([("a", view)], None).unwrap());
    };
    let text = pretrained.dir.read(READ).replace("graph = \"../graphs/tiny.toml\"\n", "");
    pretrained.dir.write(READ, text);
    write(Dtype::BF16, &[0x80, 0x3f, 0, 0], &[2]);
    let ended = pretrained.dir.done(&["run", READ]);
    assert!(ended.stderr.contains("1 tensors, 2 parameters (BF16)"), "{ended}");
    write(Dtype::I64, &[0; 8], &[1]);
    insta::assert_snapshot!(pretrained.refused(), @r#"
    error: node `pretrained`: the weights do not fit:
      `a` holds I64; weights are F64, F32, F16 or BF16
    "#);
}

#[test]
fn shards_that_do_not_belong_together_are_told_apart() {
    let pretrained = Pretrained::sharded();
    let second = pretrained.path(SECOND);
    let whole = std::fs::read(&second).unwrap();
    std::fs::write(&second, &whole[..whole.len() - 4]).unwrap();
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: `model-00002-of-00002.safetensors`: not a safetensors file: the file ends elsewhere than its header says; was it cut short while it was copied?");
    std::fs::remove_file(&second).unwrap();
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: the index names the shard `model-00002-of-00002.safetensors`, which is not there");
    std::fs::write(&second, whole).unwrap();
    pretrained.dir.edit("model/model.safetensors.index.json", "text.model.norm.weight", "text.norm.weight");
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: the index says that `text.norm.weight` is in `model-00002-of-00002.safetensors`, but it is not");
}

#[test]
fn pickle_is_not_read_and_the_way_out_is_shown() {
    let pretrained = Pretrained::whole();
    let model = pretrained.path("model");
    std::fs::rename(model.join("model.safetensors"), model.join("pytorch_model.bin")).unwrap();
    insta::assert_snapshot!(pretrained.refused(), @r#"
    error: node `pretrained`: heddle does not read pickle (`pytorch_model.bin`), which can run code; convert it once with Python's packages torch and safetensors:
      import torch, safetensors.torch
      weights = torch.load("pytorch_model.bin", map_location="cpu", weights_only=True)
      safetensors.torch.save_file({k: v.clone().contiguous() for k, v in weights.items()}, "model.safetensors")
    "#);
    std::fs::rename(model.join("pytorch_model.bin"), model.join("README.md")).unwrap();
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: there is neither `model.safetensors` nor `model.safetensors.index.json`; the folder has `README.md`");
}

#[test]
fn a_config_that_contradicts_the_graph_is_refused() {
    let pretrained = Pretrained::whole();
    let config = |value: Json| pretrained.dir.write("model/config.json", value.to_string());
    config(
        json!({ "vision_config": { "num_attention_heads": 2 }, "qllama_config": { "rms_norm_eps": 9.999999974752427e-07 } }),
    );
    pretrained.dir.done(&["run", READ]);
    // Two nodes could be meant by what stands at the top, so none is.
    config(json!({ "num_attention_heads": 7 }));
    pretrained.dir.done(&["run", READ]);
    config(json!({ "vision_config": { "num_attention_heads": 4 }, "qllama_config": { "rope_theta": 1e6 } }));
    insta::assert_snapshot!(pretrained.refused(), @r#"
    error: node `pretrained`: `config.json` contradicts the graph:
      `qllama_config.rope_theta` is 1000000, but the graph's node `text` has rope-base = 10000
      `vision_config.num_attention_heads` is 4, but the graph's node `vit` has heads = 2
    "#);
    pretrained.dir.write("model/config.json", "{");
    insta::assert_snapshot!(pretrained.refused(), @"error: node `pretrained`: cannot read `config.json`: EOF while parsing an object at line 1 column 1");
}

#[test]
fn another_byte_is_another_key() {
    let pretrained = Pretrained::whole();
    pretrained.dir.done(&["run", READ]);
    pretrained.dir.write(
        "elsewhere/model.safetensors",
        std::fs::read(pretrained.path("model/model.safetensors")).unwrap(),
    );
    pretrained.dir.edit(READ, "../model", "../elsewhere");
    pretrained.dir.done(&["run", READ]);
    assert_eq!(pretrained.dir.nodes_that("hit"), ["pretrained"]);
    pretrained.dir.edit(READ, "../elsewhere", "../model");
    pretrained.change(|tensors| tensors.get_mut("text.model.norm.weight").unwrap().1[0] = 2.0);
    pretrained.dir.done(&["run", READ]);
    assert_eq!(pretrained.dir.nodes_that("ran"), ["pretrained"]);
}

/// Exports what the tiny stage trained, reads it back through a node, and gives that node's artifact and the export's files.
fn export_and_read(pretrained: &Pretrained, arguments: &[&str]) -> (String, Vec<String>) {
    let dir = &pretrained.dir;
    std::fs::remove_dir_all(pretrained.path("model")).unwrap();
    dir.done(&[&["export"], arguments, &["model", "--format", "huggingface"]].concat());
    dir.done(&["run", READ]);
    let mut files: Vec<String> = std::fs::read_dir(pretrained.path("model"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    (digest(dir, "pretrained.weights"), files)
}

#[test]
fn what_is_exported_reads_back_as_the_stages_own_artifact() {
    let pretrained = Pretrained::whole();
    let id = pretrained.dir.last_run()["id"].as_str().unwrap().to_owned();
    for run in [&id, TINY] {
        let (digest, files) = export_and_read(&pretrained, &[run]);
        assert_eq!(
            (digest.as_str(), files.as_slice()),
            (pretrained.digest.as_str(), &["config.json", "model.safetensors"].map(str::to_owned)[..])
        );
        assert_eq!(
            tensors(&std::fs::read(pretrained.path("model/model.safetensors")).unwrap()),
            pretrained.trained
        );
    }
    let (digest, files) = export_and_read(&pretrained, &[TINY, "--node", "stage1", "--shard-size", "12000"]);
    assert_eq!(digest, pretrained.digest);
    assert!(files.len() > 4 && files.contains(&"model.safetensors.index.json".to_owned()), "{files:?}");
    let config: Json = serde_json::from_str(&pretrained.dir.read("model/config.json")).unwrap();
    let parameters: usize = pretrained.trained.values().map(|(_, data)| data.len()).sum();
    assert_eq!((&config["model_type"], &config["num_parameters"]), (&json!("heddle"), &json!(parameters)));
    assert_eq!(config["graph"]["nodes"]["vit"]["kind"], "model.internvit");
}

#[test]
fn an_export_without_weights_says_why() {
    let dir = Dir::tiny();
    let refused = |arguments: &[&str]| {
        let ended = dir.heddle(&[&["export"], arguments, &["out", "--format", "huggingface"]].concat());
        assert_eq!(ended.code, Some(1), "{ended}");
        ended.stderr
    };
    insta::assert_snapshot!(refused(&[TINY]), @"error: there is no cache in experiments/.heddle; run first");
    dir.done(&["run", TINY, "bpe"]);
    filtered(|| {
        insta::assert_snapshot!(refused(&[TINY]), @"error: the weights of `stage1` are not in the cache; `heddle run experiments/tiny.toml stage1` makes them");
        insta::assert_snapshot!(refused(&["last"]), @"error: run RUN has no node with weights");
        insta::assert_snapshot!(refused(&[TINY, "--node", "bpe"]), @"error: `experiments/tiny.toml` has no node `bpe` with weights; there are stage1");
    });
    dir.done(&["run", TINY, "stage1"]);
    dir.write("out/there.txt", "");
    insta::assert_snapshot!(refused(&["last"]), @"error: `out` is not empty; nothing was written");
}
