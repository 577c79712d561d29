//! `data.dirt`: makes a known part of a clean data set dirty.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Cursor,
};

use heddle_data::{
    Part, Record, RowWriter, ShardInfo, Shards,
    dirt::{self, DIRT, Kind as DirtKind},
    image::{DecodeLimits, decode},
};
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};

use super::{
    Records, records_in, same_records,
    shard_writer::{Layout, ShardWriter},
};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Dirt;

struct Spoil {
    shares: Vec<(DirtKind, f64)>,
}

/// Name of the shard of images that it makes.
const SHARD: &str = "dirt.tar";

impl Kind<dyn Node, Models> for Dirt {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.dirt",
            version: 2,
            summary: "makes a known part of a clean data set dirty, to see what filters find",
            details: "Every record is spoilt in at most one way, drawn from the seed and its content; the column `dirt` says \
                      which, and clean records have none. Reports of filters behind it then say what each rule found. \
                      `duplicate` and `near-duplicate` are copies beside the record, all other kinds take its place. Images \
                      that are made lie in a tar of their own (port `shard`).",
            example: "[nodes.dirty]\nkind = \"data.dirt\"\nin = \"pairs\"\nshares = { noise = 0.03, tiny-image = 0.02 }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let shares = r.table("shares", "share of all records that is spoilt in each way", |r| {
            let mut one = |kind: DirtKind, help| {
                let share: f64 = r.field(kind.name(), help).range(0.0..=1.0).or(0.0);
                (kind, share)
            };
            vec![
                one(DirtKind::Noise, "captions of random letters"),
                one(DirtKind::Placeholder, "captions that stand in for one"),
                one(DirtKind::Boilerplate, "captions that a page says on every page"),
                one(DirtKind::Code, "captions of source code"),
                one(DirtKind::WrongLanguage, "captions under another language's name"),
                one(DirtKind::TooShort, "captions of one letter"),
                one(DirtKind::Offensive, "captions with a made-up word that stands for an offensive one"),
                one(DirtKind::TinyImage, "images of 8 x 8 pixels"),
                one(DirtKind::Duplicate, "copies under another key"),
                one(DirtKind::NearDuplicate, "copies with a slightly smaller image"),
            ]
        });
        if shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 {
            r.error("shares", "the shares add up to more than 1", None);
        }
        Box::new(Spoil { shares })
    }
}

impl NodeSpec for Spoil {
    fn inputs(&self) -> Vec<InPort> {
        records_in("clean records")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![
            OutPort::new("records", same_records(inputs)),
            OutPort::new("shard", PortType::plain(Class::Shard)),
        ])
    }
}

impl Node for Spoil {
    fn uses_seed(&self) -> bool {
        true
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&manifest)?;
        // The images first: records name their shard by its digest.
        let (mut tar, mut layout) = (ShardWriter::new(cx)?, Layout::default());
        // By the digest of the record that an image was made from.
        let mut parts: BTreeMap<[u8; 32], Part> = BTreeMap::new();
        for record in manifest.records() {
            cx.check_cancelled()?;
            let record = record?;
            if let Some((kind, _)) =
                dirt::draw(&record, &self.shares, cx.seed).filter(|(kind, _)| kind.has_image())
                && let Some(bytes) = spoilt_image(&record, kind, &shards)?
                && let Entry::Vacant(place) = parts.entry(record.digest)
            {
                tar.append(&record.digest, "png", &bytes)?;
                place.insert(layout.next([0; 32], &bytes));
            }
        }
        let shard = tar.finish()?;
        let info = ShardInfo { name: SHARD.to_owned(), digest: *shard.as_bytes() };
        let mut rows = RowWriter::new((*manifest.footer).clone());
        rows.shard(info);
        let mut spoilt: BTreeMap<&str, u64> = BTreeMap::new();
        for record in manifest.records() {
            let record = record?;
            let Some((kind, mut rng)) = dirt::draw(&record, &self.shares, cx.seed) else {
                rows.push(record)?;
                continue;
            };
            let image =
                parts.get(&record.digest).map(|part| Part { shard: *shard.as_bytes(), ..part.clone() });
            if kind.has_image() && image.is_none() {
                // Its image does not decode, so there is nothing to make a smaller one of.
                rows.push(record)?;
                continue;
            }
            *spoilt.entry(kind.name()).or_default() += 1;
            let captions = dirt::captions(kind, &record.captions, &mut rng);
            let mut dirty = match image {
                Some(part) => {
                    let parts = BTreeMap::from([("png".to_owned(), part)]);
                    let columns = record.columns.clone();
                    Record {
                        source: record.source.clone(),
                        ..Record::new(record.key.clone(), *shard.as_bytes(), parts, columns)
                    }
                }
                None => record.clone(),
            };
            // What was seen of its fields is written anew.
            for field in ["captions", "key", "width", "height"] {
                dirty.columns.remove(field);
            }
            dirty.captions = captions;
            dirty.columns.insert(DIRT.to_owned(), kind.name().into());
            if kind.is_copy() {
                dirty.key = format!("{}~{}", record.key, kind.name());
                rows.push(record)?;
            }
            rows.push(dirty)?;
        }
        let counts: Vec<String> = spoilt.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        cx.progress.note(format!("spoilt: {}", counts.join(", ")));
        let records = rows.finish(cx.writer()?)?.finish()?;
        Ok(Outputs::from([
            ("records".to_owned(), Output::Kept(records)),
            ("shard".to_owned(), Output::Kept(shard)),
        ]))
    }
}

/// The dirty image of a record as a PNG; none if its own does not decode.
fn spoilt_image(record: &Record, kind: DirtKind, shards: &Shards) -> Result<Option<Vec<u8>>, NodeError> {
    let Some(part) = record.image() else { return Ok(None) };
    let bytes = shards.bytes(part).map_err(NodeError::data)?;
    let Ok(image) = decode(&bytes, &DecodeLimits::default()) else { return Ok(None) };
    let mut png = Vec::new();
    let written = dirt::image(kind, &image).write_to(&mut Cursor::new(&mut png), heddle_data::image::PNG);
    written.map_err(NodeError::data)?;
    Ok(Some(png))
}
