//! `data.llava`: conversations about pictures.

use heddle_data::sources::llava;
use heddle_graph::{config::Reader, graph::KindSpec};

use super::{
    pictures::{Opened, read_pictures},
    source::{Format, Sink},
};
use crate::exec::{NodeError, RunContext};

/// The format.
pub struct Llava;

impl Format for Llava {
    const SPEC: KindSpec = KindSpec {
        name: "data.llava",
        version: 1,
        summary: "conversations about pictures, as LLaVA writes them",
        details: "A JSON list of `{ id, image, conversations = [{ from, value }] }`, turns alternating between `human` and `gpt`. The key \
                  is the entry's id, all that it has but `image` are columns. Entries without a picture are passed over; \
                  entries of another form or with a missing picture are skipped, up to `max-bad` of them. The list is held in memory.",
        example: "[nodes.dialogues]\nkind = \"data.llava\"\nconversations = \"llava_instruct_150k.json\"\nfolder = \"train2017\"\n",
    };

    fn read(r: &mut Reader<'_>) -> Self {
        let _ = r.file("conversations", "the JSON list").required();
        read_pictures(r);
        Self
    }

    fn feed(&self, cx: &RunContext<'_>, sink: &mut Sink<'_>) -> Result<(), NodeError> {
        let opened = Opened::open(cx, sink)?;
        let (pictures, bytes) = (opened.pictures()?, cx.file("conversations")?);
        let found = llava(&bytes, "conversations", &pictures);
        sink.take(
            found.map_err(|error| NodeError::Other(format!("the conversations are not LLaVA's: {error}")))?,
        )
    }
}
