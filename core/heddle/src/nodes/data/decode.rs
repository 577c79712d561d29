//! `data.decode`: looks at every image once.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, FieldRef};
use heddle_data::{
    Record, Shards,
    image::{DecodeError, DecodeLimits, decode, phash},
    manifest::Added,
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
            version: 2,
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
        let added = Added::new(manifest.schema(), fields());
        let mut sieve = Sieve::new(cx, "decode", &added.schema, &manifest.footer)?;
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
            sieve.write(&added.batch(&batch, &columns(&seen))?, &reasons)?;
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

/// What is found, as columns.
fn fields() -> Vec<FieldRef> {
    let field = |name: &str, ty| Arc::new(Field::new(name, ty, true));
    vec![
        field("width", DataType::UInt32),
        field("height", DataType::UInt32),
        field("phash", DataType::UInt64),
    ]
}

fn columns(seen: &[Result<Seen, &str>]) -> [ArrayRef; 3] {
    let side = |axis: usize| -> ArrayRef {
        Arc::new(seen.iter().map(|one| one.as_ref().ok().map(|one| one.size[axis])).collect::<UInt32Array>())
    };
    let phash: UInt64Array = seen.iter().map(|one| one.as_ref().ok().map(|one| one.phash)).collect();
    [side(0), side(1), Arc::new(phash)]
}
