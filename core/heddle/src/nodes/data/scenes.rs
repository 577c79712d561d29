//! `data.scenes`: composes scenes of pictures of single things.

use std::{collections::BTreeMap, io::Cursor};

use heddle_data::{
    Footer, Part, Record, RowWriter, ShardInfo, Shards, digest,
    image::{DecodeLimits, PNG, decode},
    scenes::{self, MOST_CELLS, Pool, Scene, SceneOptions},
    sources::MASK,
};
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use rayon::prelude::*;

use super::{
    Records, Settings,
    image::read_image,
    records_in,
    shard_writer::{Layout, ShardWriter},
    source::records_port,
};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Scenes;

struct Compose {
    count: u64,
    source: String,
    /// Everything but the seed.
    options: SceneOptions,
    settings: Settings,
}

/// Name of the shard that it makes.
const SHARD: &str = "scenes.tar";

/// The extension of the picture.
const PICTURE: &str = "png";

/// Scenes that are painted before they are written.
const CHUNK: usize = 256;

impl Kind<dyn Node, Models> for Scenes {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.scenes",
            version: 1,
            summary: "scenes of several emoji, with masks, captions, questions and dialogues",
            details: "Records need an image, `subgroup` (of the emoji pack: it decides among 25 classes), and a name in `en` and every \
                      other language; `cp`, `group` and `keywords.en` are used where they are. Things lie in the cells of a `grid` on a canvas of two \
                      colours; classes are drawn first, so that they are balanced. A scene's picture is a PNG, its mask the part \
                      `mask.png` (class by pixel: 0 background, 255 at soft edges). Captions: five in English (how many, where, other words, groups, \
                      names) and one in each other language, which is also the column of that language. `objects` says what is where, \
                      `conversations` is a dialogue in LLaVA's form, `questions` has all questions as `{ kind, question, answer }` \
                      and, of the pair about existence, `setting` (POPE's `random`, `popular`, `adversarial`). `split` is that of the \
                      records, if they have one in common. Scene i depends on the seed, `salt` and the records, not on `count`. \
                      Pictures and masks lie in a tar (port `shard`).",
            example: "[nodes.scenes]\nkind = \"data.scenes\"\nin = \"pairs\"\ncount = 2000\nimage = { size = 96 }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let count = r.field("count", "how many scenes").min(1).max(10_000_000).required();
        let source =
            r.field("source", "name of the data set, by which reports count").or("scenes".to_owned());
        Box::new(Compose {
            count,
            source,
            options: read_options(r),
            settings: Settings {
                image: r.table("image", "how pictures become tensors", read_image),
                max_bad: 0,
            },
        })
    }
}

fn read_options(r: &mut Reader<'_>) -> SceneOptions {
    let canvas: u32 =
        r.field("canvas", "side of the pictures in pixels; things grow with it").min(16).max(3072).or(96);
    let grid = r
        .field("grid", "rows and columns of cells; the canvas is a multiple of it")
        .min(1)
        .max(MOST_CELLS)
        .or(3);
    if !canvas.is_multiple_of(grid) {
        r.error("canvas", format!("{canvas} pixels do not divide into {grid} cells"), None);
    }
    let objects: Vec<u32> = r
        .field("objects", "fewest and most things; at the most one a cell")
        .or(vec![1, (grid * grid).min(5)]);
    let objects = match objects[..] {
        [least, most] if 1 <= least && least <= most && most <= grid * grid => [least, most],
        _ => {
            let expected = format!("expected two numbers from 1 to {}, the smaller first", grid * grid);
            r.error("objects", expected, None);
            [1, 1]
        }
    };
    let languages: Vec<String> = r
        .field("languages", "languages of captions: columns with a thing's name")
        .or(["en", "zh", "ja", "ar", "it"].map(str::to_owned).into());
    let turns = r.field("turns", "most rounds of a dialogue").min(1).max(1000).or(8);
    let answer_prompt = r
        .field("answer-prompt", "what stands behind every question with a short answer")
        .or(scenes::SHORT_ANSWER.to_owned());
    let salt = r.field("salt", "another salt, other scenes").or(String::new());
    SceneOptions { canvas, grid, objects, languages, turns, answer_prompt, seed: 0, salt }
}

impl NodeSpec for Compose {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records of single things, such as the emoji pack's")
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![records_port(&self.settings), OutPort::new("shard", PortType::plain(Class::Shard))])
    }
}

impl Node for Compose {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&records.manifest)?;
        let pool = Pool::new(records.collect()?, &self.options.languages).map_err(NodeError::data)?;
        let scenes = scenes::Scenes::new(pool, SceneOptions { seed: cx.seed, ..self.options.clone() });
        let (of, came) = (scenes.pool().len(), records.manifest.len());
        cx.progress.note(format!("{} scenes of {of} pictures among {came} records", self.count));
        let studio = Studio { scenes, shards, canvas: self.options.canvas };
        // The pictures first: records name their shard by its digest.
        let (shard, parts) = self.paint(cx, &studio)?;
        let records = self.rows(cx, &studio.scenes, *shard.as_bytes(), parts)?;
        Ok(Outputs::from([
            ("records".to_owned(), Output::Kept(records)),
            ("shard".to_owned(), Output::Kept(shard)),
        ]))
    }
}

/// Picture and mask of a scene: as files, and then as members of the shard.
type Pair<T> = [T; 2];

impl Compose {
    fn key(&self, index: u64) -> String {
        format!("{}-{index:06}", self.source)
    }

    /// Writes the shard; where in it the scenes' parts are.
    fn paint(
        &self,
        cx: &RunContext<'_>,
        studio: &Studio,
    ) -> Result<(heddle_graph::digest::Digest, Vec<Pair<Part>>), NodeError> {
        let (mut tar, mut layout, mut parts) = (ShardWriter::new(cx)?, Layout::default(), Vec::new());
        for start in (0..self.count).step_by(CHUNK) {
            cx.check_cancelled()?;
            let chunk: Vec<u64> = (start..self.count.min(start + CHUNK as u64)).collect();
            let files: Vec<Result<Pair<Vec<u8>>, NodeError>> =
                chunk.par_iter().map(|index| studio.files(*index)).collect();
            // The first scene that fails is named, whichever thread met one first.
            let files: Vec<Pair<Vec<u8>>> = files.into_iter().collect::<Result<_, NodeError>>()?;
            for (index, [picture, mask]) in chunk.into_iter().zip(files) {
                let from = digest::of(self.key(index).as_bytes());
                tar.append(&from, PICTURE, &picture)?;
                tar.append(&from, MASK, &mask)?;
                parts.push([layout.next([0; 32], &picture), layout.next([0; 32], &mask)]);
            }
        }
        Ok((tar.finish()?, parts))
    }

    /// Writes the manifest.
    fn rows(
        &self,
        cx: &RunContext<'_>,
        scenes: &scenes::Scenes,
        shard: [u8; 32],
        parts: Vec<Pair<Part>>,
    ) -> Result<heddle_graph::digest::Digest, NodeError> {
        let mut footer = Footer::default();
        self.settings.put(&mut footer)?;
        let mut rows = RowWriter::new(footer);
        rows.shard(ShardInfo { name: SHARD.to_owned(), digest: shard });
        for (index, [picture, mask]) in (0..).zip(parts) {
            let described = scenes.describe(&scenes.plan(index));
            let mut columns = described.columns;
            if let Some(split) = scenes.pool().split() {
                columns.insert("split".to_owned(), split.into());
            }
            let here = |part: Part| Part { shard, ..part };
            let parts = BTreeMap::from([(PICTURE.to_owned(), here(picture)), (MASK.to_owned(), here(mask))]);
            rows.push(Record {
                source: self.source.clone(),
                captions: described.captions,
                size: Some([self.options.canvas; 2]),
                ..Record::new(self.key(index), shard, parts, columns)
            })?;
        }
        Ok(rows.finish(cx.writer()?)?.finish()?)
    }
}

/// Where scenes are painted.
struct Studio {
    scenes: scenes::Scenes,
    shards: Shards,
    canvas: u32,
}

impl Studio {
    /// Picture and mask of a scene as PNG files.
    fn files(&self, index: u64) -> Result<Pair<Vec<u8>>, NodeError> {
        let scene = self.scenes.plan(index);
        let painting = scenes::paint(&scene, self.canvas, &self.pictures(&scene)?);
        let mut files = [Vec::new(), Vec::new()];
        painting.picture.write_to(&mut Cursor::new(&mut files[0]), PNG).map_err(NodeError::data)?;
        painting.mask.write_to(&mut Cursor::new(&mut files[1]), PNG).map_err(NodeError::data)?;
        Ok(files)
    }

    fn pictures(&self, scene: &Scene) -> Result<Vec<heddle_data::image::Rgba8>, NodeError> {
        let picture = |object: &scenes::Object| {
            let sprite = self.scenes.pool().sprite(object.sprite);
            let bytes = self.shards.bytes(&sprite.part).map_err(NodeError::data)?;
            decode(&bytes, &DecodeLimits::default())
                .map_err(|error| NodeError::Other(format!("record `{}`: {error}", sprite.key)))
        };
        scene.objects.iter().map(picture).collect()
    }
}
