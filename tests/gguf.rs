//! GGUF files: weights and tokenizers. A real model is compared with other readers by `scripts/smollm2-check.sh`.

use heddle_data::text::{EncodeOptions, Tokenizer};
use safetensors::SafeTensors;

use crate::{
    gguf_writer::{Field, Writer},
    util::{Dir, Ended},
};

const READ: &str = "experiments/read.toml";

const GRAPH: &str = r#"
schema  = 1
inputs  = { caption = { type = "text", length = 4 } }

[nodes.text]
kind      = "model.llama"
in        = "caption"
vocab     = 5
width     = 8
depth     = 1
heads     = 2
mlp-width = 4
eps       = 1e-5
published = ""
"#;

/// `len` numbers from `start` on.
fn counted(start: usize, len: usize) -> Vec<f32> {
    (start..start + len).map(|i| i as f32).collect()
}

/// A LLaMA of one block, width 8 and two heads.
fn llama(kv_heads: u32) -> Writer {
    let mut writer = Writer::new();
    writer
        .field("general.architecture", Field::Text("llama"))
        .field("llama.block_count", Field::U32(1))
        .field("llama.embedding_length", Field::U32(8))
        .field("llama.attention.head_count", Field::U32(2))
        .field("llama.attention.head_count_kv", Field::U32(kv_heads))
        .field("llama.attention.layer_norm_rms_epsilon", Field::F32(1e-5))
        .floats("token_embd.weight", &[5, 8], &counted(1000, 40))
        .floats("output_norm.weight", &[8], &counted(0, 8))
        .floats("blk.0.attn_q.weight", &[8, 8], &counted(0, 64));
    let kv = 4 * kv_heads as usize;
    for (name, shape) in [
        ("attn_k", &[kv, 8][..]),
        ("attn_v", &[kv, 8]),
        ("attn_output", &[8, 8]),
        ("ffn_gate", &[4, 8]),
        ("ffn_up", &[4, 8]),
        ("ffn_down", &[8, 4]),
        ("attn_norm", &[8]),
        ("ffn_norm", &[8]),
    ] {
        writer.floats(&format!("blk.0.{name}.weight"), shape, &counted(0, shape.iter().product()));
    }
    writer
}

/// A folder with `model.gguf`, and an experiment with a node that reads its weights; `lines` end the node.
fn folder(file: &Writer, lines: &str) -> Dir {
    let dir = Dir::empty();
    dir.write("model.gguf", file.finish());
    dir.write("graphs/llama.toml", GRAPH);
    let text = format!(
        "schema = 1\n[nodes.pretrained]\nkind = \"weights.gguf\"\nfile = \"../model.gguf\"\n{lines}\n"
    );
    dir.write(READ, text);
    dir
}

const WITH_GRAPH: &str = "graph = \"../graphs/llama.toml\"";

/// The newest run's weights.
fn artifact(dir: &Dir) -> Vec<u8> {
    let id = dir.last_run()["id"].as_str().unwrap().to_owned();
    let path = format!("experiments/.heddle/runs/{id}/artifacts/pretrained.weights.safetensors");
    std::fs::read(dir.path().join(path)).unwrap()
}

/// The first element of each row.
fn heads_of_rows(bytes: &[u8], name: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let row = view.shape()[1] * 4;
    view.data().chunks(row).map(|row| f32::from_le_bytes(row[..4].try_into().unwrap())).collect()
}

fn refused(dir: &Dir) -> String {
    let ended: Ended = dir.heddle(&["run", READ]);
    assert_eq!(ended.code, Some(1), "{ended}");
    let start = ended.stderr.find("error: node").unwrap();
    let end = ended.stderr.find("\nfailed:").unwrap_or(ended.stderr.len());
    ended.stderr[start..end].to_owned()
}

#[test]
fn a_llama_gets_the_names_and_the_order_of_rows_that_the_graph_has() {
    let dir = folder(&llama(2), WITH_GRAPH);
    let ended = dir.done(&["run", READ]);
    let said = "llama: 1 blocks of width 8, 2 heads, 2 of keys and values, rotary base 10000, epsilon 1e-5";
    assert!(ended.stderr.contains(said), "{ended}");
    assert!(ended.stderr.contains("11 tensors, 416 parameters (F32)"), "{ended}");
    let bytes = artifact(&dir);
    // Two heads of four rows: those that lie in pairs go into halves.
    let halves = [0.0, 16.0, 8.0, 24.0, 32.0, 48.0, 40.0, 56.0];
    assert_eq!(heads_of_rows(&bytes, "model.layers.0.self_attn.q_proj.weight"), halves);
    assert_eq!(heads_of_rows(&bytes, "model.layers.0.self_attn.k_proj.weight"), halves);
    assert_eq!(heads_of_rows(&bytes, "model.layers.0.self_attn.v_proj.weight"), counted(0, 8).map_rows(8.0));
    assert_eq!(heads_of_rows(&bytes, "model.layers.0.mlp.down_proj.weight"), counted(0, 8).map_rows(4.0));
}

/// Rows of counted numbers start at multiples of their length.
trait Rows {
    fn map_rows(self, width: f32) -> Self;
}

impl Rows for Vec<f32> {
    fn map_rows(self, width: f32) -> Self {
        self.into_iter().map(|row| row * width).collect()
    }
}

#[test]
fn fewer_heads_of_keys_and_tied_embeddings() {
    let dir = folder(&llama(1), "");
    dir.done(&["run", READ]);
    let bytes = artifact(&dir);
    assert_eq!(heads_of_rows(&bytes, "model.layers.0.self_attn.k_proj.weight"), [0.0, 16.0, 8.0, 24.0]);
    let embedding = counted(0, 5).map_rows(8.0).iter().map(|x| x + 1000.0).collect::<Vec<_>>();
    assert_eq!(heads_of_rows(&bytes, "model.embed_tokens.weight"), embedding);
    assert_eq!(heads_of_rows(&bytes, "lm_head.weight"), embedding);

    let mut own = llama(1);
    own.floats("output.weight", &[5, 8], &counted(0, 40));
    let dir = folder(&own, "rename = { lm_head = \"head\", model = \"text.model\" }");
    dir.done(&["run", READ]);
    let bytes = artifact(&dir);
    assert_eq!(heads_of_rows(&bytes, "head.weight"), counted(0, 5).map_rows(8.0));
    assert_eq!(heads_of_rows(&bytes, "text.model.embed_tokens.weight"), embedding);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    insta::assert_snapshot!(refused(&folder(&llama(1), WITH_GRAPH)), @r#"
    error: node `pretrained`: the weights do not fit:
      `blk.0.attn_k.weight` has shape [4, 8], but the graph's `model.layers.0.self_attn.k_proj.weight` needs [8, 8]
      `blk.0.attn_v.weight` has shape [4, 8], but the graph's `model.layers.0.self_attn.v_proj.weight` needs [8, 8]
    "#);
    let mut other = Writer::new();
    other.field("general.architecture", Field::Text("qwen2"));
    insta::assert_snapshot!(refused(&folder(&other, "")), @"error: node `pretrained`: the file holds a model of the architecture `qwen2`; `llama` is read");
    let mut other = llama(2);
    other.field("llama.rope.freq_base", Field::F32(1e5));
    insta::assert_snapshot!(refused(&folder(&other, WITH_GRAPH)), @r#"
    error: node `pretrained`: the file contradicts the graph:
      `rope_theta` is 100000, but the graph's node `text` has rope-base = 10000
    "#);
    let mut other = llama(2);
    other.tensor("rope_freqs.weight", &[256], 14, vec![0; 210]);
    insta::assert_snapshot!(refused(&folder(&other, "")), @"error: node `pretrained`: tensor `rope_freqs.weight`: ggml type 14 is not read; F32, F16, BF16, Q4_0, Q4_1 and Q8_0 are");
    let dir = folder(&other, WITH_GRAPH);
    dir.done(&["run", READ]);
    dir.edit(READ, WITH_GRAPH, &format!("{WITH_GRAPH}\nunused = \"error\""));
    insta::assert_snapshot!(refused(&dir), @"error: node `pretrained`: the graph does not use `rope_freqs.weight` (`unused`)");
    let mut other = llama(2);
    other.floats("blk.1.attn_v.weight", &[1], &[f32::INFINITY]);
    insta::assert_snapshot!(refused(&folder(&other, "")), @"error: node `pretrained`: `blk.1.attn_v.weight` holds inf at element 0");
    let dir = folder(&llama(2), "");
    let bytes = llama(2).finish();
    dir.write("model.gguf", &bytes[..bytes.len() - 1]);
    insta::assert_snapshot!(refused(&dir), @"error: node `pretrained`: `model.gguf`: tensor `blk.0.ffn_norm.weight`: it ends beyond the file; was the file cut short?");
}

/// The fields of a byte-level BPE with eight tokens; `pre` says how text is cut.
fn bpe(pre: &str) -> Writer {
    let tokens = ["<|end|>", "<mark>", "Ġ", "a", "b", "1", "ab", "Ġab", "11"];
    let texts = |texts: &[&str]| Field::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    let mut writer = Writer::new();
    writer
        .field("tokenizer.ggml.model", Field::Text("gpt2"))
        .field("tokenizer.ggml.pre", Field::Text(pre))
        .field("tokenizer.ggml.tokens", texts(&tokens))
        .field("tokenizer.ggml.token_type", Field::I32s(vec![3, 4, 1, 1, 1, 1, 1, 1, 1]))
        .field("tokenizer.ggml.merges", texts(&["a b", "Ġ ab", "1 1"]))
        .field("tokenizer.ggml.eos_token_id", Field::U32(0))
        .field("tokenizer.chat_template", Field::Text("{{ messages }}\n<|end|>"));
    writer
}

fn tokenizer_folder(file: &Writer) -> Dir {
    let dir = Dir::empty();
    dir.write("model.gguf", file.finish());
    dir.write(READ, "schema = 1\n[nodes.words]\nkind = \"text.gguf\"\nfile = \"../model.gguf\"\n");
    dir
}

#[test]
fn a_tokenizer_cuts_and_merges_as_the_file_says() {
    let ids = |pre: &str, text: &str| {
        let dir = tokenizer_folder(&bpe(pre));
        let ended = dir.done(&["run", READ]);
        assert!(ended.stderr.contains("9 tokens; eos 0\n"), "{ended}");
        assert!(ended.stderr.contains(r#"chat template: "{{ messages }}\n<|end|>""#), "{ended}");
        let id = dir.last_run()["id"].as_str().unwrap().to_owned();
        let path = format!("experiments/.heddle/runs/{id}/artifacts/words.tokenizer.json");
        let tokenizer = Tokenizer::from_json(dir.read(&path).as_bytes()).unwrap();
        let options = EncodeOptions { prefix: None, max_length: 99, bos: None, eos: None };
        let ids = tokenizer.encode(&[text.to_owned()], &options).unwrap().ids;
        // Special tokens are left out, those of users are not.
        assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace("<|end|>", ""));
        ids
    };
    assert_eq!(ids("gpt-2", "ab ab11<|end|>a<mark>"), [6, 7, 8, 0, 3, 1]);
    assert_eq!(ids("smollm", "ab ab11<|end|>a<mark>"), [6, 7, 5, 5, 0, 3, 1]);
    assert_eq!(ids("llama-bpe", "ab ab1111"), [6, 7, 8, 5, 5]);
}

#[test]
fn tokenizers_that_are_not_read_are_refused() {
    insta::assert_snapshot!(refused(&tokenizer_folder(&bpe("chatglm"))), @"error: node `words`: how text is cut (`tokenizer.ggml.pre`) is `chatglm`; known are gpt-2, smollm, starcoder, llama-bpe");
    let mut other = Writer::new();
    other.field("tokenizer.ggml.model", Field::Text("llama"));
    insta::assert_snapshot!(refused(&tokenizer_folder(&other)), @"error: node `words`: the tokenizer is `llama` (`tokenizer.ggml.model`); `gpt2`, a byte-level BPE, is read");
    insta::assert_snapshot!(refused(&tokenizer_folder(&llama(2))), @"error: node `words`: there is no field `tokenizer.ggml.model`");
    let with = |tokens: &[&str], merge: &str| {
        let mut other = Writer::new();
        let texts = |texts: &[&str]| Field::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
        other
            .field("tokenizer.ggml.model", Field::Text("gpt2"))
            .field("tokenizer.ggml.pre", Field::Text("smollm"))
            .field("tokenizer.ggml.tokens", texts(tokens))
            .field("tokenizer.ggml.token_type", Field::I32s(vec![1, 1]))
            .field("tokenizer.ggml.merges", texts(&[merge]));
        refused(&tokenizer_folder(&other))
    };
    insta::assert_snapshot!(with(&["a", "a"], "a a"), @"error: node `words`: the token `a` is there twice");
    insta::assert_snapshot!(with(&["a", "b", "c"], "a b"), @"error: node `words`: there are 3 tokens and 2 types of tokens");
    insta::assert_snapshot!(with(&["a", "b"], "ab"), @"error: node `words`: the merge `ab` is no pair");
    insta::assert_snapshot!(with(&["a", "b"], "a b"), @"error: node `words`: the fields make no tokenizer: Token `ab` out of vocabulary at line 1 column 598");
}
