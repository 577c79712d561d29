//! `data.class-folders`: pictures in a folder for each class.

use heddle_data::sources::class_folders;
use heddle_graph::{config::Reader, graph::KindSpec};

use super::{
    pictures::{folder, listing},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct ClassFolders;

impl Format for ClassFolders {
    const SPEC: KindSpec = KindSpec {
        name: "data.class-folders",
        version: 1,
        summary: "pictures in a folder for each class",
        details: "As torchvision's `ImageFolder`: `folder/CLASS/.../picture.jpg`, in the order of their paths. Column `class` is the \
                  folder's name, `label` its place among all names in order. Other files are passed over.",
        example: "[nodes.pictures]\nkind = \"data.class-folders\"\nfolder = \"images\"\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.folder("folder", "folder whose folders are the classes").required();
        Self
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let shard = folder(cx, "folder", sink)?;
        sink.take(class_folders(listing(&shard)?, shard.digest))
    }
}
