//! `weights.huggingface`: a model folder as published.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use heddle_data::{Folder, digest};
use heddle_graph::{
    config::Reader,
    digest::Digest,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::parameter::folder::{CONFIG, FolderError, WeightsFolder};

use super::{
    artifact,
    config::PublishedConfig,
    fit::{Chosen, Offer, Offers, choose, insert, list, tie},
    unused::Unused,
};
use crate::{
    exec::{LibraryError, NodeError, Outputs, RunContext},
    model::{ModelGraph, Models, Prefixes},
    nodes::Node,
};

/// The kind.
pub struct HuggingFace;

struct Published {
    graph: Option<Arc<ModelGraph>>,
    rename: Prefixes,
    unused: Unused,
}

impl Kind<dyn Node, Models> for HuggingFace {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "weights.huggingface",
            version: 1,
            summary: "reads the weights of a model folder as published on Hugging Face",
            details: "The folder has `model.safetensors`, or shards with `model.safetensors.index.json`. Every parameter \
                      of `graph` has to be there under its published name (`published` of the model's nodes), with its shape; \
                      elements keep their type (F64, F32, F16 or BF16) and have to be finite. A training stage or a part of \
                      one starts from the result: `weights = { vit = \"pretrained/vit\" }`. Where `config.json` is there too, \
                      it must not contradict the graph in what shapes do not tell (heads, epsilons, rotary base), and where it \
                      says `tie_word_embeddings`, `lm_head.weight` is the embedding. Pickle files (`.bin`, `.pth`) are not \
                      read. Without `graph` all tensors pass, for tools that know them by name; parts cannot be taken then.",
            example: "[nodes.pretrained]\nkind = \"weights.huggingface\"\nfolder = \"InternVL-14B-224px\"\n\
                      graph = \"../graphs/internvl-c.toml\"\nrename = { vision_model = \"\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let _ = r.folder("folder", "the model's folder").required();
        let graph =
            models.get(r.graph("graph", "the model graph whose parameters are read; default: every tensor"));
        let rename = r.map(
            "rename",
            "prefixes of names in the files, and what stands in their place among the graph's published names; whole \
             segments, the longest match wins",
        );
        Box::new(Published { graph, rename: Prefixes::new(rename), unused: Unused::read(r) })
    }
}

impl NodeSpec for Published {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("weights", PortType::plain(Class::Weights))])
    }
}

impl Node for Published {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.graph.as_ref()
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let file = cx.files("folder").first();
        let file = file.ok_or_else(|| NodeError::Other("the node names no folder".into()))?;
        let shard = cx.library.whole_shard(&file.digest, "folder")?;
        let listing = shard.folder().ok_or_else(|| NodeError::Other("the folder was not listed".into()))?;
        let folder = open(listing)?;
        let config = read_config(listing)?;
        if let (Some(config), Some(graph)) = (&config, &self.graph) {
            config.refuse_contradictions("`config.json`", graph)?;
        }
        let ties = config.is_some_and(|config| config.ties_embeddings());
        let Chosen { tensors, unused } =
            choose(self.graph.as_deref(), self.offers(&folder, ties)?).map_err(NodeError::data)?;
        self.unused.apply(cx, &unused)?;
        if !folder.unlisted().is_empty() {
            cx.progress.note(format!("the index does not list {}", list(folder.unlisted())));
        }
        cx.progress.note(artifact::summary(&tensors));
        let missing = |key: &str| NodeError::Other(format!("`{key}` is gone"));
        artifact::write(cx, self.graph.as_deref(), &tensors, |offer| {
            folder.data(&offer.key).map(Cow::Borrowed).ok_or_else(|| missing(&offer.key))
        })
    }
}

impl Published {
    /// The folder's tensors under the names that the graph may know.
    fn offers(&self, folder: &WeightsFolder, ties: bool) -> Result<Offers, NodeError> {
        let rename = |key: &str| self.rename.replace(key).unwrap_or_else(|| key.to_owned());
        let mut offers = Offers::new();
        for (key, head) in folder.tensors().filter(|(key, _)| !is_computed(key)) {
            insert(&mut offers, rename(key), Offer { key: key.to_owned(), head: head.clone() })?;
        }
        if ties && self.graph.is_some() {
            for (key, _) in folder.tensors() {
                if let Some(prefix) = key.strip_suffix("model.embed_tokens.weight") {
                    let output = rename(&format!("{prefix}lm_head.weight"));
                    tie(self.graph.as_deref(), &mut offers, &rename(key), output);
                }
            }
        }
        Ok(offers)
    }
}

/// Whether a tensor follows from the config: tables of rotary frequencies in old checkpoints.
fn is_computed(key: &str) -> bool {
    key.ends_with("rotary_emb.inv_freq")
}

/// Opens the files and compares them with what was hashed when they were listed.
fn open(listing: &Folder) -> Result<WeightsFolder, NodeError> {
    let names: BTreeSet<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
    let folder = WeightsFolder::open(&listing.root, &names).map_err(|error| explain(error, listing))?;
    for (name, bytes) in folder.files() {
        check(listing, name, bytes)?;
    }
    Ok(folder)
}

fn check(listing: &Folder, name: &str, bytes: &[u8]) -> Result<(), NodeError> {
    let listed = listing.file(name).map(|file| file.digest);
    if listed == Some(digest::of(bytes)) {
        return Ok(());
    }
    let digest = Digest::from_bytes(listed.unwrap_or_default());
    Err(LibraryError::Unknown { name: name.to_owned(), digest }.into())
}

/// What is there instead of weights that heddle reads.
fn explain(error: FolderError, listing: &Folder) -> NodeError {
    if !matches!(error, FolderError::NoWeights) {
        return NodeError::data(error);
    }
    let is_pickle = |name: &str| [".bin", ".pth", ".pt"].iter().any(|ending| name.ends_with(ending));
    let pickle = listing.files.iter().find(|file| is_pickle(&file.path));
    if let Some(broken) = listing.broken.iter().find(|broken| broken.path.ends_with(".safetensors")) {
        return NodeError::Other(format!("`{}` cannot be read: {}", broken.path, broken.message));
    }
    match pickle {
        Some(file) => NodeError::Other(pickle_help(&file.path)),
        None => {
            let names: Vec<String> = listing.files.iter().map(|file| file.path.clone()).collect();
            let there = if names.is_empty() { "nothing".to_owned() } else { list(&names) };
            NodeError::Other(format!("{error}; the folder has {there}"))
        }
    }
}

fn pickle_help(file: &str) -> String {
    format!(
        "heddle does not read pickle (`{file}`), which can run code; convert it once with Python's packages torch and safetensors:\n  \
         import torch, safetensors.torch\n  \
         weights = torch.load(\"{file}\", map_location=\"cpu\", weights_only=True)\n  \
         safetensors.torch.save_file({{k: v.clone().contiguous() for k, v in weights.items()}}, \"model.safetensors\")"
    )
}

fn read_config(listing: &Folder) -> Result<Option<PublishedConfig>, NodeError> {
    if listing.file(CONFIG).is_none() {
        return Ok(None);
    }
    let failed = |reason: String| NodeError::Other(format!("cannot read `{CONFIG}`: {reason}"));
    let bytes = std::fs::read(listing.root.join(CONFIG)).map_err(|error| failed(error.to_string()))?;
    check(listing, CONFIG, &bytes)?;
    PublishedConfig::parse(&bytes).map(Some).map_err(failed)
}
