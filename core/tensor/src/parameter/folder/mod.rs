//! A model's weights as a folder, as Hugging Face publishes them.
//!
//! ```text
//! model.safetensors                     all tensors, or
//! model-00001-of-00002.safetensors      shards of them
//! model-00002-of-00002.safetensors
//! model.safetensors.index.json          { "metadata": { "total_size": BYTES }, "weight_map": { NAME: SHARD } }
//! config.json                           what the model is; not read or written here
//! ```

mod index;
mod read;
mod write;

pub use read::{FolderError, WeightsFolder};
pub use write::{FolderTensor, write_folder};

/// The file of a model that is not split.
pub const WHOLE: &str = "model.safetensors";
/// The index of a model's shards.
pub const INDEX: &str = "model.safetensors.index.json";
/// What the model is, beside its weights.
pub const CONFIG: &str = "config.json";

/// The name of shard `place` (from 1) `of` so many.
fn shard_name(place: usize, of: usize) -> String {
    format!("model-{place:05}-of-{of:05}.safetensors")
}
