//! `data.coco`: pictures with COCO captions.

use heddle_data::sources::coco;
use heddle_graph::{config::Reader, graph::KindSpec};

use super::{
    pictures::{Opened, read_pictures},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct Coco {
    language: Option<String>,
}

impl Format for Coco {
    const SPEC: KindSpec = KindSpec {
        name: "data.coco",
        version: 1,
        summary: "pictures with COCO captions",
        details: "An annotation file (`captions_val2017.json`) and its pictures. A picture has its captions in the \
                  order of their ids, and the column `image_id`. Captions of pictures that are not listed, and pictures \
                  without a caption or a file, are skipped, up to `max-bad` of them. The annotations are held in memory.",
        example: "[nodes.pictures]\nkind = \"data.coco\"\nannotations = \"captions.json\"\nfolder = \"images\"\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.file("annotations", "the annotation file").required();
        read_pictures(r);
        Self { language: r.field("language", "language of the captions, as a BCP 47 tag").optional() }
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let opened = Opened::open(cx, sink)?;
        let (pictures, bytes) = (opened.pictures()?, cx.file("annotations")?);
        let found = coco(&bytes, "annotations", &pictures, self.language.as_deref());
        sink.take(
            found.map_err(|error| NodeError::Other(format!("the annotations are not COCO's: {error}")))?,
        )
    }
}
