//! `data.masks`: images with segmentation masks.

use heddle_data::sources::masks;
use heddle_graph::{config::Reader, graph::KindSpec};

use super::{
    pictures::{folder, listing},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct Masks {
    images: String,
    masks: String,
}

impl Format for Masks {
    const SPEC: KindSpec = KindSpec {
        name: "data.masks",
        version: 1,
        summary: "images with segmentation masks, in two folders",
        details: "As ADE20K's scene parsing set: below `folder`, `images/training/x.jpg` with the mask `annotations/training/x.png`, \
                  whose values are classes. A record's parts are the image and `mask.png`; column `split` is the folder above \
                  the image. Images without a mask are skipped, up to `max-bad` of them.",
        example: "[nodes.scenes]\nkind = \"data.masks\"\nfolder = \"images\"\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.folder("folder", "folder that both are below").required();
        let images: String = r.field("images", "folder of the images below it").or("images".to_owned());
        let masks: String = r
            .field("masks", "folder of the masks below it, at the images' paths with `.png`")
            .or("annotations".to_owned());
        Self { images, masks }
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let shard = folder(cx, "folder", sink)?;
        let top = |path: &str| path.trim_start_matches("./").trim_end_matches('/').to_owned();
        sink.take(masks(listing(&shard)?, shard.digest, &top(&self.images), &top(&self.masks)))
    }
}
