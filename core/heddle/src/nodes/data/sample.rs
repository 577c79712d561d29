//! `data.sample`: a part of the records, drawn by a seed.

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use heddle_data::{Manifest, ManifestError, ManifestWriter};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{By, Records, records_in, same_records};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Sample;

struct Draw {
    count: Option<usize>,
    share: Option<f64>,
    by: By,
}

impl Kind<dyn Node, Models> for Sample {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.sample",
            version: 1,
            summary: "draws a part of the records, by count or share",
            details: "Without replacement, in the order of the records. What is drawn follows from the seed and from a hash of what \
                      `by` names: a smaller sample is part of a larger one, and records that come later change it as little as \
                      can be. `share` draws each record by itself, so that its count is the share but for chance; `count` is exact, and takes 8 \
                      bytes a record.",
            example: "[nodes.few]\nkind = \"data.sample\"\nin = \"pairs\"\ncount = 1000\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let count = r.field("count", "so many records; all, if there are fewer").min(1).optional();
        let share = r.field("share", "each record with this probability").range(0.0..=1.0).optional();
        if !r.is_documenting() && r.has("count") == r.has("share") {
            let help = "`count = 1000`, or `share = 0.1`";
            r.error("count", "exactly one of `count` and `share` says how many", Some(help));
        }
        Box::new(Draw { count, share, by: By::read(r, "key") })
    }
}

impl NodeSpec for Draw {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that are drawn from")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for Draw {
    fn uses_seed(&self) -> bool {
        true
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let mut hashes = Vec::with_capacity(manifest.len());
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            hashes.extend(self.hashes(cx, &manifest, &batch?)?);
        }
        let chosen = match (self.count, self.share) {
            (Some(count), _) => smallest(&hashes, count),
            // The share of all hashes; 2^64 as a float is exact.
            (None, share) => {
                let bound = share.unwrap_or(1.0) * 2.0_f64.powi(64);
                hashes.iter().map(|hash| (*hash as f64) < bound).collect()
            }
        };
        let mut out =
            ManifestWriter::new(cx.writer()?, manifest.schema().clone(), (*manifest.footer).clone())?;
        let mut chosen = chosen.into_iter();
        for batch in manifest.batches() {
            let batch = batch?;
            let keep: BooleanArray = chosen.by_ref().take(batch.num_rows()).map(Some).collect();
            out.write(filter_record_batch(&batch, &keep).map_err(ManifestError::from)?)?;
        }
        cx.progress.note(format!("{} of {} records drawn", out.rows(), manifest.len()));
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

impl Draw {
    fn hashes(
        &self,
        cx: &RunContext<'_>,
        manifest: &Manifest,
        batch: &arrow_array::RecordBatch,
    ) -> Result<Vec<u64>, NodeError> {
        let salt = format!("sample {}", cx.seed);
        manifest.records_of(batch)?.iter().map(|record| self.by.hash(record, &salt)).collect()
    }
}

/// Which of these are among the `count` smallest; of equal ones the first.
pub fn smallest(hashes: &[u64], count: usize) -> Vec<bool> {
    let mut order: Vec<u32> = (0..hashes.len() as u32).collect();
    if count < order.len() {
        order.select_nth_unstable_by_key(count, |place| (hashes[*place as usize], *place));
        order.truncate(count);
    }
    let mut chosen = vec![false; hashes.len()];
    order.into_iter().for_each(|place| chosen[place as usize] = true);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A smaller sample is part of a larger one, and counts are exact.
        #[test]
        fn samples_are_nested(hashes in proptest::collection::vec(0_u64..20, 0..50), a in 0_usize..60, b in 0_usize..60) {
            let (few, many) = (smallest(&hashes, a.min(b)), smallest(&hashes, a.max(b)));
            prop_assert_eq!(few.iter().filter(|chosen| **chosen).count(), a.min(b).min(hashes.len()));
            prop_assert!(few.iter().zip(&many).all(|(few, many)| !few || *many));
        }
    }
}
