//! `data.coco`: pictures with COCO captions.

use heddle_data::sources::coco;
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
pub struct Coco;

struct Source {
    common: Common,
    language: Option<String>,
}

impl Kind<dyn Node, Models> for Coco {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.coco",
            version: 1,
            summary: "pictures with COCO captions",
            details: "An annotation file (`captions_val2017.json`) and the folder of its pictures. A picture has its captions in the \
                      order of their ids, and the column `image_id`. Captions of pictures that are not listed, and pictures \
                      without a caption or a file, are skipped, up to `max-bad` of them. The annotations are held in memory.",
            example: "[nodes.pictures]\nkind = \"data.coco\"\nannotations = \"captions.json\"\nfolder = \"images\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let _ = r.file("annotations", "the annotation file").required();
        let _ = r.folder("folder", "folder of the pictures").required();
        let language = r.field("language", "language of the captions, as a BCP 47 tag").optional();
        Box::new(Source { common: Common::read(r, "coco"), language })
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
        let annotations = cx.file("annotations")?;
        let found =
            coco(&annotations, "annotations", listing(&shard)?, shard.digest, self.language.as_deref());
        let found =
            found.map_err(|error| NodeError::Other(format!("the annotations are not COCO's: {error}")))?;
        let mut sink = self.common.sink(cx)?;
        sink.take(&shard, found)?;
        sink.finish()
    }
}
