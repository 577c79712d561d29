//! `weights.gguf`: a LLaMA in one GGUF file.

use std::{borrow::Cow, sync::Arc};

use heddle_gguf::Gguf;
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::parameter::TensorHead;

use super::{
    artifact,
    config::PublishedConfig,
    fit::{Chosen, Offer, Offers, choose, insert, tie},
    ggml::{EMBEDDING, Llama, OUTPUT, published},
    unused::Unused,
};
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::{ModelGraph, Models, Prefixes},
    nodes::{Node, gguf},
};

/// The kind.
pub struct LlamaFile;

struct Stored {
    graph: Option<Arc<ModelGraph>>,
    rename: Prefixes,
    unused: Unused,
}

impl Kind<dyn Node, Models> for LlamaFile {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "weights.gguf",
            version: 1,
            summary: "reads the weights of a LLaMA from a GGUF file",
            details: "One file of the architecture `llama`, as llama.cpp's converter writes it. Elements (F32, F16, BF16, Q4_0, \
                      Q4_1, Q8_0) become F32, as ggml computes them. Tensors get Hugging Face's names \
                      (`model.layers.0.self_attn.q_proj.weight`), and the rows of q and k the order of the half-split rotary \
                      form, which the converter had changed. A file without output embeddings ties them: `lm_head.weight` is \
                      then a copy of the input embeddings, where the graph has one. Heads, epsilon and rotary base must not \
                      contradict the graph; `graph`, `rename` and `unused` are those of `weights.huggingface`.",
            example: "[nodes.pretrained]\nkind = \"weights.gguf\"\nfile = \"smollm2.gguf\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let _ = r.file("file", "the GGUF file").required();
        let graph =
            models.get(r.graph("graph", "the model graph whose parameters are read; default: every tensor"));
        let rename = r.map(
            "rename",
            "prefixes of Hugging Face's names, and what stands in their place among the graph's published names; whole \
             segments, the longest match wins",
        );
        Box::new(Stored { graph, rename: Prefixes::new(rename), unused: Unused::read(r) })
    }
}

impl NodeSpec for Stored {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("weights", PortType::plain(Class::Weights))])
    }
}

impl Node for Stored {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.graph.as_ref()
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let shard = gguf::open(cx)?;
        let file = gguf::parse(&shard)?;
        let llama = Llama::read(&file).map_err(NodeError::data)?;
        cx.progress.note(describe(&llama));
        let graph = self.graph.as_deref();
        if let Some(graph) = graph {
            PublishedConfig::new(llama.config()).refuse_contradictions("the file", graph)?;
        }
        let Chosen { tensors, unused } = choose(graph, self.offers(&file)?).map_err(NodeError::data)?;
        self.unused.apply(cx, &unused)?;
        cx.progress.note(artifact::summary(&tensors));
        artifact::write(cx, graph, &tensors, |offer| Ok(Cow::Owned(elements(&file, &llama, offer)?)))
    }
}

impl Stored {
    /// The file's tensors under the names that the graph may know.
    fn offers(&self, file: &Gguf<'_>) -> Result<Offers, NodeError> {
        let rename = |key: &str| {
            let name = published(key);
            self.rename.replace(&name).unwrap_or(name)
        };
        let mut offers = Offers::new();
        for (key, info) in file.tensors() {
            let offer = Offer { key: key.to_owned(), head: TensorHead::f32(info.shape.clone()) };
            insert(&mut offers, rename(key), offer)?;
        }
        if file.tensor(OUTPUT).is_none() {
            tie(self.graph.as_deref(), &mut offers, &rename(EMBEDDING), rename(OUTPUT));
        }
        Ok(offers)
    }
}

/// The bytes of a tensor as `f32`, its rows in Hugging Face's order.
fn elements(file: &Gguf<'_>, llama: &Llama, offer: &Offer) -> Result<Vec<u8>, NodeError> {
    let values = file.dequantize(&offer.key).map_err(NodeError::data)?;
    let rows = offer.head.shape.first().copied().unwrap_or(1);
    let values = llama.in_order(&offer.key, rows, values).map_err(NodeError::data)?;
    Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
}

fn describe(llama: &Llama) -> String {
    let Llama { blocks, width, heads, kv_heads, rope_base, eps } = llama;
    format!(
        "llama: {blocks} blocks of width {width}, {heads} heads, {kv_heads} of keys and values, rotary base {rope_base}, epsilon {:e}",
        // A field of single precision: its shortest digits.
        *eps as f32
    )
}
