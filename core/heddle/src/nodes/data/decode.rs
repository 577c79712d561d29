//! `data.decode`: looks at every image once.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use heddle_data::{
    Manifest, ManifestError, Record, Shards,
    image::{DecodeError, DecodeLimits, decode, phash},
};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use rayon::prelude::*;

use super::{Records, Sieve, records_in, sieve_ports};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Decode;

struct Look {
    max_pixels: u64,
}

impl Kind<dyn Node, Models> for Decode {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.decode",
            version: 1,
            summary: "drops images that do not decode; finds sizes and perceptual hashes",
            details: "Decodes every image on all threads. Records that stay get `width`, `height` and the column `phash`: 64 \
                      bits, the median hash of the low frequencies of a cosine transform; transparent pixels count as \
                      white. Reasons to drop: `no-image`, `bytes-missing`, `undecodable`, `empty`, and `too-large`, which is \
                      seen from the declared size before anything is decoded. Of animations the first frame counts.",
            example: "[nodes.looked_at]\nkind = \"data.decode\"\nin = \"pairs\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let base = DecodeLimits::default().max_pixels;
        Box::new(Look {
            max_pixels: r
                .field("max-pixels", "largest width times height that is decoded")
                .min(1)
                .max(base)
                .or(base),
        })
    }
}

impl NodeSpec for Look {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records whose images are decoded")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(sieve_ports(inputs))
    }
}

/// What an image turned out to be.
struct Seen {
    size: [u32; 2],
    phash: u64,
}

impl Node for Look {
    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&manifest)?;
        let schema = with_phash(&manifest);
        let mut sieve = Sieve::new(cx, "decode", &schema, &manifest.footer)?;
        let mut done = 0;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            cx.progress.set(done, manifest.len() as u64, "images");
            let batch = batch?;
            done += batch.num_rows() as u64;
            let records = manifest.records_of(&batch)?;
            let seen: Vec<Result<Seen, &str>> =
                records.par_iter().map(|record| self.look(record, &shards)).collect();
            let reasons: Vec<Option<&str>> = seen.iter().map(|one| one.as_ref().err().copied()).collect();
            sieve.write(&widen(&batch, &schema, &seen)?, &reasons)?;
        }
        sieve.finish()
    }
}

impl Look {
    fn look(&self, record: &Record, shards: &Shards) -> Result<Seen, &'static str> {
        let part = record.image().ok_or("no-image")?;
        let bytes = shards.bytes(part).map_err(|_| "bytes-missing")?;
        let limits = DecodeLimits { max_pixels: self.max_pixels };
        let image = decode(&bytes, &limits).map_err(|error| match error {
            DecodeError::TooLarge { .. } => "too-large",
            DecodeError::Empty => "empty",
            DecodeError::Format | DecodeError::Broken(_) => "undecodable",
        })?;
        Ok(Seen { size: [image.width(), image.height()], phash: phash(&image) })
    }
}

fn with_phash(manifest: &Manifest) -> SchemaRef {
    let others = manifest.schema().fields().iter().filter(|field| field.name() != "phash").cloned();
    let phash: FieldRef = Arc::new(Field::new("phash", DataType::UInt64, true));
    Arc::new(Schema::new(others.chain([phash]).collect::<Vec<_>>()))
}

fn widen(
    batch: &RecordBatch,
    schema: &SchemaRef,
    seen: &[Result<Seen, &str>],
) -> Result<RecordBatch, ManifestError> {
    let side = |axis: usize| -> ArrayRef {
        Arc::new(seen.iter().map(|one| one.as_ref().ok().map(|one| one.size[axis])).collect::<UInt32Array>())
    };
    let column = |field: &FieldRef| match field.name().as_str() {
        "width" => side(0),
        "height" => side(1),
        "phash" => {
            Arc::new(seen.iter().map(|one| one.as_ref().ok().map(|one| one.phash)).collect::<UInt64Array>())
        }
        name => batch.column_by_name(name).cloned().unwrap_or_else(|| {
            // All others are the batch's own.
            arrow_array::new_null_array(field.data_type(), batch.num_rows())
        }),
    };
    Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
}
