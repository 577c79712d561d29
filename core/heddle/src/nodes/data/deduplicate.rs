//! `data.deduplicate`: keeps the first of every group of equal or similar images.

use std::collections::HashMap;

use arrow_array::{Array, RecordBatch, UInt64Array, cast::AsArray};
use heddle_data::Manifest;
use heddle_graph::{
    config::Reader,
    graph::{Arity, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{Near, Records, Sieve, other_records_in, records_in, sieve_ports};
use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Deduplicate;

/// What makes two records duplicates.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Image,
    Record,
    Phash,
}

struct Unique {
    by: By,
    distance: u32,
}

impl Kind<dyn Node, Models> for Deduplicate {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.deduplicate",
            version: 1,
            summary: "keeps the first of every group of equal or similar images",
            details: "`by = \"image\"` compares the bytes of images, `\"record\"` those of all parts, `\"phash\"` the perceptual \
                      hashes that `data.decode` found: two that differ in at most `distance` of 64 bits are near duplicates. \
                      Records of the set under `against` are not given out, and no record stays that equals one of them: so \
                      are test images taken out of training sets. Reports call it `deduplicate-image`, and so on. Reasons: `duplicate`, `near-duplicate`, `in-other-set`. \
                      Takes 40 bytes a record, by hashes 16 more for every bit of distance.",
            example: "[nodes.unique]\nkind = \"data.deduplicate\"\nin = { records = \"pairs\", against = \"heldout\" }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let by = r
            .choice(
                "by",
                "what makes two records duplicates",
                &[
                    ("image", By::Image, "equal bytes of the image"),
                    ("record", By::Record, "equal bytes of all parts"),
                    ("phash", By::Phash, "perceptual hashes within `distance`"),
                ],
            )
            .or("image");
        let distance = r.field("distance", "bits in which perceptual hashes may differ").max(15).or(3);
        if by != By::Phash && r.has("distance") {
            r.error("distance", "`distance` is of perceptual hashes", Some("set `by = \"phash\"`"));
        }
        Box::new(Unique { by, distance })
    }
}

impl NodeSpec for Unique {
    fn inputs(&self) -> Vec<InPort> {
        let mut ports = records_in("records of which the first of each group stays");
        ports.push(other_records_in("against", Arity::Optional, "records whose images may not stay"));
        ports
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(sieve_ports(inputs))
    }
}

impl Node for Unique {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let mut seen = Seen::new(self);
        if let Some(against) = cx.optional("against") {
            let Records { manifest, .. } = Records::read(against)?;
            for batch in manifest.batches() {
                seen.look(&manifest, &batch?)?;
            }
        }
        let others = seen.close();
        let rule = match self.by {
            By::Image => "deduplicate-image",
            By::Record => "deduplicate-record",
            By::Phash => "deduplicate-phash",
        };
        let mut sieve = Sieve::new(cx, rule, manifest.schema(), &manifest.footer)?;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let found = seen.look(&manifest, &batch)?;
            let reason = |found: Option<Found>| {
                found.map(|found| match found {
                    Found { at, .. } if at < others => "in-other-set",
                    Found { exact: true, .. } => "duplicate",
                    Found { .. } => "near-duplicate",
                })
            };
            sieve.write(&batch, &found.into_iter().map(reason).collect::<Vec<_>>())?;
        }
        sieve.finish()
    }
}

/// An earlier record that a record equals.
struct Found {
    /// Its place among those that were taken in.
    at: u32,
    exact: bool,
}

/// What was taken in so far.
struct Seen {
    by: By,
    digests: HashMap<[u8; 32], u32>,
    near: Near,
    count: u32,
}

impl Seen {
    fn new(settings: &Unique) -> Self {
        Self { by: settings.by, digests: HashMap::new(), near: Near::new(settings.distance), count: 0 }
    }

    /// Ends the other set; its records have places below this.
    fn close(&self) -> u32 {
        self.count
    }

    /// For every record the earlier one that it equals; those that equal none are taken in.
    fn look(&mut self, manifest: &Manifest, batch: &RecordBatch) -> Result<Vec<Option<Found>>, NodeError> {
        match self.by {
            By::Phash => {
                let hashes: &UInt64Array = batch
                    .column_by_name("phash")
                    .and_then(|column| column.as_primitive_opt())
                    .ok_or_else(|| {
                        NodeError::Other("the records have no column `phash`; `data.decode` finds it".into())
                    })?;
                Ok((0..batch.num_rows()).map(|row| self.hash(hashes, row)).collect())
            }
            By::Image | By::Record => {
                let records = manifest.records_of(batch)?;
                let digest = |record: &heddle_data::Record| match (self.by, record.image()) {
                    (By::Image, Some(part)) => part.digest,
                    _ => record.digest,
                };
                let digests: Vec<[u8; 32]> = records.iter().map(digest).collect();
                Ok(digests.into_iter().map(|digest| self.digest(digest)).collect())
            }
        }
    }

    fn digest(&mut self, digest: [u8; 32]) -> Option<Found> {
        let next = self.count;
        let at = *self.digests.entry(digest).or_insert(next);
        if at == next {
            self.count += 1;
            return None;
        }
        Some(Found { at, exact: true })
    }

    fn hash(&mut self, hashes: &UInt64Array, row: usize) -> Option<Found> {
        if hashes.is_null(row) {
            return None;
        }
        let hash = hashes.value(row);
        match self.near.find(hash) {
            Some(at) => Some(Found { at, exact: false }),
            None => {
                self.near.add(hash);
                self.count += 1;
                None
            }
        }
    }
}
