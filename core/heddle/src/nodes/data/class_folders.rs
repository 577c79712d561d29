//! `data.class-folders`: pictures in a folder for each class.

use heddle_data::sources::class_folders;
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{
    Common,
    source::{folder, listing},
};
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct ClassFolders;

struct Source {
    common: Common,
}

impl Kind<dyn Node, Models> for ClassFolders {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.class-folders",
            version: 1,
            summary: "pictures in a folder for each class",
            details: "As torchvision's `ImageFolder`: `folder/CLASS/.../picture.jpg`, in the order of their paths. Column `class` is the \
                      folder's name, `label` its place among all names in order. Other files are passed over.",
            example: "[nodes.pictures]\nkind = \"data.class-folders\"\nfolder = \"images\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.folder("folder", "folder whose folders are the classes").required();
        Box::new(Source { common: Common::read(r, "class-folders") })
    }
}

impl NodeSpec for Source {
    fn inputs(&self) -> Vec<InPort> {
        Vec::new()
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(self.common.outputs())
    }
}

impl Node for Source {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let shard = folder(cx, "folder")?;
        let mut sink = self.common.sink(cx)?;
        sink.take(&shard, class_folders(listing(&shard)?, shard.digest))?;
        sink.finish()
    }
}
