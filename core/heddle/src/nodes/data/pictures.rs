//! The pictures that an annotation file names: a folder of them, or tar shards.

use std::sync::Arc;

use heddle_data::{
    Folder, Shard,
    sources::{FOLDER, Pictures},
};
use heddle_graph::config::Reader;

use super::source::Sink;
use crate::exec::{NodeError, RunContext};

/// Reads where they are: under `folder` or `shards`.
pub fn read_pictures(r: &mut Reader<'_>) {
    let shards = r.has("shards");
    let folder = r.has("folder");
    let _ = r.folder("folder", "folder that the pictures' paths are below").optional();
    let _ = r.files("shards", "tar shards with the pictures, in place of `folder`").optional();
    if folder == shards && !r.is_documenting() {
        let help = "`folder = \"images\"`, or `shards = \"images-*.tar\"`";
        r.error("folder", "exactly one of `folder` and `shards` says where the pictures are", Some(help));
    }
}

/// The opened folder or shards.
pub struct Opened {
    folder: Option<Arc<Shard>>,
    shards: Vec<Shard>,
}

impl Opened {
    /// Opens them, and names them to the sink.
    pub fn open(cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<Self, NodeError> {
        let folder = if cx.files("folder").is_empty() { None } else { Some(folder(cx, "folder", sink)?) };
        let mut shards = Vec::new();
        for file in cx.files("shards") {
            let name = file.name.as_deref().unwrap_or("shard");
            shards.push((*cx.library.shard(&file.digest, name)?).clone());
        }
        shards.iter().for_each(|shard| sink.shard(shard));
        Ok(Self { folder, shards })
    }

    /// The pictures by path.
    pub fn pictures(&self) -> Result<Pictures<'_>, NodeError> {
        match &self.folder {
            Some(shard) => Ok(Pictures::in_folder(listing(shard)?, shard.digest)),
            None => Ok(Pictures::in_shards(&self.shards)),
        }
    }
}

/// The folder of pictures that a field names, listed and named to the sink.
pub fn folder(cx: &RunContext<'_>, field: &str, sink: &mut Sink<'_>) -> Result<Arc<Shard>, NodeError> {
    let file = cx.files(field).first();
    let file = file.ok_or_else(|| NodeError::Other(format!("the node names no folder under `{field}`")))?;
    let shard = cx.library.whole_shard(&file.digest, FOLDER)?;
    // A folder's own name is no part of the data.
    sink.shard(&(*shard).clone().named(FOLDER));
    Ok(shard)
}

/// The listing of a folder.
pub fn listing(shard: &Shard) -> Result<&Folder, NodeError> {
    shard.folder().ok_or_else(|| NodeError::Other("the folder was not listed".into()))
}
