//! `data.mix`: several sets of records in one, in proportions.

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;
use heddle_data::{ManifestError, ManifestWriter, manifest::ROWS, manifest::Union};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use indexmap::IndexMap;

use super::{By, Several, gather::Gather, same_images, sample::smallest, several_records_in};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Mix;

/// What a set's share follows from, unless `shares` says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weights {
    Size,
    SquareRoot,
    Equal,
}

struct Blend {
    weights: Weights,
    shares: IndexMap<String, f64>,
    size: Option<usize>,
}

impl Kind<dyn Node, Models> for Mix {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.mix",
            version: 1,
            summary: "several sets of records in one, in proportions",
            details: "A set's share follows from its size, from the square root of it (small sets count for more), is the same for all, or is \
                      what `shares = { laion = 3, coco = 1 }` says by the labels under `in`. A set that owes more records than it \
                      has gives all of them as often as it takes, and of the rest, or where it owes fewer, those that the seed draws. \
                      Sets alternate evenly, each in its own order, so that every stretch of the result has the proportions of \
                      the whole. Columns go together as in `data.concat`. Takes 14 bytes a record.",
            example: "[nodes.mixed]\nkind = \"data.mix\"\nin = { records = { seen = \"pairs\", new = \"heldout\" } }\nweights = \"sqrt-size\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let weights = r
            .choice(
                "weights",
                "what the share of a set follows from",
                &[
                    ("size", Weights::Size, "its number of records"),
                    ("sqrt-size", Weights::SquareRoot, "the square root of it"),
                    ("equal", Weights::Equal, "nothing: all sets have the same"),
                ],
            )
            .or("sqrt-size");
        let shares: IndexMap<String, f64> =
            r.map("shares", "shares by the sets' labels, in place of `weights`; their sum does not matter");
        if r.has("weights") && r.has("shares") {
            r.error("weights", "`weights` and `shares` say the same thing", Some("leave out one of them"));
        }
        if let Some((name, share)) = shares.iter().find(|(_, share)| !(share.is_finite() && **share > 0.0)) {
            r.error("shares", format!("the share of `{name}` is {share}, not above 0"), None);
        }
        let size =
            r.field("size", "records of the result; default: those of all sets together").min(1).optional();
        Box::new(Blend { weights, shares, size })
    }
}

impl NodeSpec for Blend {
    fn inputs(&self) -> Vec<InPort> {
        several_records_in("sets of records, labelled where `shares` names them")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        same_images(inputs)
    }
}

impl Node for Blend {
    fn uses_seed(&self) -> bool {
        true
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let sets = Several::read(cx)?;
        let union = Union::new(&sets.named()).map_err(NodeError::data)?;
        let sizes: Vec<usize> = sets.sets.iter().map(|set| set.records.manifest.len()).collect();
        let names: Vec<&str> = sets.sets.iter().map(|set| set.name.as_str()).collect();
        let weights = self.weights(&names, &sizes)?;
        let quotas = quotas(&weights, self.size.unwrap_or_else(|| sizes.iter().sum()));
        let mut rows = Vec::with_capacity(quotas.len());
        for (set, quota) in sets.sets.iter().zip(&quotas) {
            cx.check_cancelled()?;
            rows.push(self.rows(cx, set, *quota)?);
        }
        let told = names.iter().zip(&sizes).zip(&quotas);
        let told: Vec<String> =
            told.map(|((name, size), quota)| format!("{name} {quota} (of {size})")).collect();
        cx.progress.note(told.join(", "));
        let mut out = ManifestWriter::new(cx.writer()?, union.schema.clone(), union.footer.clone())?;
        let order = alternate(&quotas);
        let mut next = vec![0_usize; quotas.len()];
        for some in order.chunks(ROWS) {
            cx.check_cancelled()?;
            let mut gather = Gather::default();
            let mut picks = Vec::with_capacity(some.len());
            for set in some {
                let set = usize::from(*set);
                let row = rows[set][next[set]] as usize;
                next[set] += 1;
                let open = |batch| union.batch(set, &sets.sets[set].records.manifest.batch(batch)?);
                picks.push(gather.place(set, row, open)?);
            }
            let batches: Vec<&RecordBatch> = gather.batches.iter().collect();
            out.write(interleave_record_batch(&batches, &picks).map_err(ManifestError::from)?)?;
        }
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

impl Blend {
    /// A weight for each set; sets without records have none.
    fn weights(&self, names: &[&str], sizes: &[usize]) -> Result<Vec<f64>, NodeError> {
        if names.len() > usize::from(u16::MAX) {
            return Err(NodeError::Other(format!("{} sets are too many", names.len())));
        }
        if let Some(unknown) = self.shares.keys().find(|name| !names.contains(&name.as_str())) {
            return Err(NodeError::Other(format!(
                "`shares` names `{unknown}`, which is no label of a set; there are {}",
                names.join(", ")
            )));
        }
        let weight = |(name, size): (&&str, &usize)| {
            let size_now = *size as f64;
            let weight = match (self.shares.is_empty(), self.weights) {
                (false, _) => *self
                    .shares
                    .get(*name)
                    .ok_or_else(|| NodeError::Other(format!("`shares` says nothing of the set `{name}`")))?,
                (true, Weights::Size) => size_now,
                (true, Weights::SquareRoot) => size_now.sqrt(),
                (true, Weights::Equal) => 1.0,
            };
            Ok(if *size == 0 { 0.0 } else { weight })
        };
        let weights: Vec<f64> = names.iter().zip(sizes).map(weight).collect::<Result<_, NodeError>>()?;
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(NodeError::Other("no set has a record".into()));
        }
        Ok(weights)
    }

    /// The rows that a set gives: all of them as often as it takes, and of the rest those that are drawn.
    fn rows(
        &self,
        cx: &RunContext<'_>,
        set: &super::several::Set,
        quota: usize,
    ) -> Result<Vec<u32>, NodeError> {
        let manifest = &set.records.manifest;
        let size = manifest.len();
        if u32::try_from(size).is_err() {
            return Err(NodeError::Other(format!(
                "`{}` has {size} records; `data.mix` takes 4 billion",
                set.name
            )));
        }
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut rows: Vec<u32> = Vec::with_capacity(quota);
        for _ in 0..quota / size {
            rows.extend(0..size as u32);
        }
        let rest = quota % size;
        if rest > 0 {
            let salt = format!("mix {}", cx.seed);
            let mut hashes = Vec::with_capacity(size);
            for record in manifest.records() {
                hashes.push(By::Key.hash(&record?, &salt)?);
            }
            let chosen = smallest(&hashes, rest);
            rows.extend((0..size as u32).filter(|row| chosen[*row as usize]));
        }
        Ok(rows)
    }
}

/// Whole numbers in these proportions that add up to `total`: the largest remainders are rounded up.
fn quotas(weights: &[f64], total: usize) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| weight / sum * total as f64).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|value| value.floor() as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|set| weights[*set] > 0.0).collect();
    order.sort_by(|a, b| {
        let rest = |set: usize| exact[set] - exact[set].floor();
        rest(*b).total_cmp(&rest(*a)).then(a.cmp(b))
    });
    let left = total.saturating_sub(quotas.iter().sum());
    order.iter().cycle().take(left).for_each(|set| quotas[*set] += 1);
    quotas
}

/// The order in which sets give records: always the one that is furthest behind its share.
fn alternate(quotas: &[usize]) -> Vec<u16> {
    let total: usize = quotas.iter().sum();
    let mut given = vec![0_usize; quotas.len()];
    let mut order = Vec::with_capacity(total);
    for place in 1..=total {
        // quota * place / total - given, without division: the largest debt, the first of equal ones.
        let debt = |set: usize| (quotas[set] * place) as i128 - (given[set] * total) as i128;
        let behind = (0..quotas.len())
            .filter(|set| given[*set] < quotas[*set])
            .max_by_key(|set| (debt(*set), usize::MAX - set));
        let Some(set) = behind else { break };
        given[set] += 1;
        order.push(set as u16);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn square_roots_lift_small_sets() {
        assert_eq!(quotas(&[10.0, 1.0], 110), [100, 10]);
        assert_eq!(quotas(&[100_f64.sqrt(), 1_f64.sqrt()], 101), [92, 9]);
        assert_eq!(alternate(&[4, 2, 0]), [0, 1, 0, 0, 1, 0]);
    }

    proptest! {
        /// Quotas add up, and every stretch from the start has the proportions of the whole, but for one record a set.
        #[test]
        fn every_stretch_has_the_proportions(weights in proptest::collection::vec(0.01_f64..10.0, 1..6), total in 1_usize..300) {
            let quotas = quotas(&weights, total);
            prop_assert_eq!(quotas.iter().sum::<usize>(), total);
            let order = alternate(&quotas);
            prop_assert_eq!(order.len(), total);
            let mut given = vec![0_usize; quotas.len()];
            for (place, set) in order.iter().enumerate() {
                given[usize::from(*set)] += 1;
                for (given, quota) in given.iter().zip(&quotas) {
                    let share = *quota as f64 * (place + 1) as f64 / total as f64;
                    prop_assert!((*given as f64 - share).abs() < weights.len() as f64, "{given} of {share}");
                }
            }
        }
    }
}
