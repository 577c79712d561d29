//! How llama.cpp names and lays out the tensors of a LLaMA, and how Hugging Face does.
//!
//! llama.cpp turns neighbouring values by the rotary angles, Hugging Face's LLaMA (and heddle) value `i` with value
//! `i + size / 2` of a head. So the converter `convert_hf_to_gguf.py` reorders the rows of q and k
//! (`LlamaModel.permute`); [`unpermute`] puts them back.

use heddle_gguf::{Gguf, GgufError, Value};
use serde_json::{Value as Json, json};

/// Tensors outside of blocks: ggml's name and Hugging Face's.
const TENSORS: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Tensors of a block.
const OF_A_BLOCK: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// ggml's name of the input embeddings.
pub const EMBEDDING: &str = "token_embd.weight";
/// ggml's name of the output embeddings; a file without them uses the input embeddings.
pub const OUTPUT: &str = "output.weight";

/// Hugging Face's name of a tensor: `model.layers.3.mlp.up_proj.weight` for `blk.3.ffn_up.weight`; names that LLaMAs do
/// not have stay as they are.
pub fn published(name: &str) -> String {
    translated(name).unwrap_or_else(|| name.to_owned())
}

fn translated(name: &str) -> Option<String> {
    let (stem, ending) = name.rsplit_once('.').filter(|(_, ending)| matches!(*ending, "weight" | "bias"))?;
    let find = |table: &[(&str, &'static str)], wanted: &str| {
        table.iter().find(|(ggml, _)| *ggml == wanted).map(|(_, theirs)| *theirs)
    };
    match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((block, tensor)) => {
            Some(format!("model.layers.{block}.{}.{ending}", find(&OF_A_BLOCK, tensor)?))
        }
        None => Some(format!("{}.{ending}", find(&TENSORS, stem)?)),
    }
}

/// What the fields of a LLaMA say.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
    /// Number of blocks.
    pub blocks: u64,
    /// Size of the residual stream.
    pub width: u64,
    /// Attention heads.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Epsilon of the norms.
    pub eps: f64,
}

/// A file whose fields are no LLaMA's.
#[derive(Debug, thiserror::Error)]
pub enum NoLlama {
    /// A field.
    #[error(transparent)]
    Field(#[from] GgufError),
    /// Another architecture.
    #[error("the file holds a model of the architecture `{0}`; `llama` is read")]
    Architecture(String),
    /// Rows that do not divide into heads.
    #[error("`{name}` has {rows} rows, which are no {heads} heads of even size")]
    Heads {
        /// The tensor.
        name: String,
        /// Its rows.
        rows: usize,
        /// Its heads.
        heads: u64,
    },
}

impl Llama {
    /// Reads the fields.
    pub fn read(file: &Gguf<'_>) -> Result<Self, NoLlama> {
        let architecture = file.needed("general.architecture", "text", Value::as_text)?;
        if architecture != "llama" {
            return Err(NoLlama::Architecture(architecture.to_owned()));
        }
        let count = |name: &str| file.needed(&format!("llama.{name}"), "a count", Value::as_u64);
        let number = |name: &str| file.needed(&format!("llama.{name}"), "a number", Value::as_f64);
        let heads = count("attention.head_count")?;
        let default = |error: GgufError, value| match error {
            GgufError::NoField(_) => Ok(value),
            other => Err(other),
        };
        Ok(Self {
            blocks: count("block_count")?,
            width: count("embedding_length")?,
            heads,
            kv_heads: count("attention.head_count_kv").or_else(|error| default(error, heads))?,
            rope_base: match number("rope.freq_base") {
                Err(GgufError::NoField(_)) => 10_000.0,
                read => read?,
            },
            eps: number("attention.layer_norm_rms_epsilon")?,
        })
    }

    /// The same under the names of a `config.json`.
    pub fn config(&self) -> Json {
        json!({
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "rope_theta": self.rope_base,
            "rms_norm_eps": self.eps,
        })
    }

    /// The elements of a tensor of this many rows as Hugging Face orders them.
    pub fn in_order(&self, name: &str, rows: usize, elements: Vec<f32>) -> Result<Vec<f32>, NoLlama> {
        let heads = match name.split('.').nth(2) {
            Some("attn_q") => self.heads,
            Some("attn_k") => self.kv_heads,
            _ => return Ok(elements),
        };
        let wrong = || NoLlama::Heads { name: name.to_owned(), rows, heads };
        let count = usize::try_from(heads).ok().filter(|&heads| heads > 0).ok_or_else(wrong)?;
        if rows == 0 || !rows.is_multiple_of(count.saturating_mul(2)) {
            return Err(wrong());
        }
        Ok(unpermute(&elements, rows / count, elements.len() / rows))
    }
}

/// Rows of heads of `size`: those that lie in pairs go into two halves.
fn unpermute(elements: &[f32], size: usize, width: usize) -> Vec<f32> {
    let mut ordered = Vec::with_capacity(elements.len());
    for head in elements.chunks_exact(size * width) {
        for half in 0..2 {
            for pair in head.chunks_exact(2 * width) {
                ordered.extend_from_slice(&pair[half * width..(half + 1) * width]);
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_llama_and_no_others() {
        let check = |ggml: &str, expected: &str| assert_eq!(published(ggml), expected);
        check("token_embd.weight", "model.embed_tokens.weight");
        check("output_norm.weight", "model.norm.weight");
        check("output.weight", "lm_head.weight");
        check("blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight");
        check("blk.0.attn_output.bias", "model.layers.0.self_attn.o_proj.bias");
        check("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight");
        check("rope_freqs.weight", "rope_freqs.weight");
        check("blk.0.attn_rot_embd", "blk.0.attn_rot_embd");
    }

    /// The converter's `w.reshape(heads, 2, size / 2, width).swapaxes(1, 2).reshape(w.shape)`.
    fn permute(elements: &[f32], heads: usize, size: usize, width: usize) -> Vec<f32> {
        let row = |head: usize, half: usize, place: usize| {
            let start = (head * size + half * (size / 2) + place) * width;
            elements[start..start + width].to_vec()
        };
        let order = (0..heads).flat_map(|h| (0..size / 2).flat_map(move |p| (0..2).map(move |s| (h, s, p))));
        order.flat_map(|(head, half, place)| row(head, half, place)).collect()
    }

    #[test]
    fn rows_of_q_and_k_come_back_from_the_converters_order() {
        let elements: Vec<f32> = (0..48).map(|i| i as f32).collect();
        let llama = Llama { blocks: 1, width: 4, heads: 2, kv_heads: 1, rope_base: 1e4, eps: 1e-5 };
        let check = |name: &str, heads: usize| {
            let stored = permute(&elements, heads, 12 / heads, 4);
            assert_ne!(stored, elements);
            assert_eq!(llama.in_order(name, 12, stored).ok(), Some(elements.clone()), "{name}");
        };
        check("blk.0.attn_q.weight", 2);
        check("blk.0.attn_k.weight", 1);
        assert_eq!(llama.in_order("blk.0.attn_v.weight", 12, elements.clone()).ok(), Some(elements.clone()));
        let error = llama.in_order("blk.0.attn_q.weight", 6, elements).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("`blk.0.attn_q.weight` has 6 rows, which are no 2 heads of even size".to_owned())
        );
    }
}
