//! `data.dedup`: a plugin's hashes say which records are duplicates.

use std::collections::HashSet;

use heddle_graph::{
    config::Reader,
    graph::{Arity, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use heddle_plugin::{Answer, Keys, World};

use super::{
    calls::{Answered, Calls, Kept},
    settings::{OnError, Plugged},
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
    model::Models,
    nodes::{
        Node,
        data::{Records, Sieve, other_records_in, records_in, sieve_ports},
    },
};

/// The kind.
pub struct Dedup;

struct Plug {
    plugged: Plugged,
}

impl Kind<dyn Node, Models> for Dedup {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.dedup",
            version: 1,
            summary: "keeps the first of the records that share a hash of a plugin's",
            details: "The plugin is a component of the world `dedup-plugin`: it gives every record any number of hashes (one for \
                      equality, the bands of a sketch for likeness). A record that shares one with an earlier record that stayed is dropped, for \
                      the reason `duplicate`; one that shares one with a record under `against`, for `in-other-set`. A record \
                      without hashes stays. Takes about 20 bytes a hash.",
            example: "[nodes.unique]\nkind = \"data.dedup\"\nin = \"pairs\"\nplugin = \"embedded:plugins/phash-duplicates.wasm\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Plug { plugged: Plugged::read(r, World::Dedup) })
    }
}

impl NodeSpec for Plug {
    fn inputs(&self) -> Vec<InPort> {
        let mut ports = records_in("records of which the first of each group stays");
        ports.push(other_records_in("against", Arity::Optional, "records whose like may not stay"));
        ports
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(sieve_ports(inputs))
    }
}

impl Node for Plug {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let mut others: HashSet<u64> = HashSet::new();
        if let Some(against) = cx.optional("against") {
            let records = Records::read(against)?;
            self.hashes(cx, &records, |(_, keys)| {
                others.extend(keys.into_iter().flat_map(|keys| keys.0.hashes));
                Ok(())
            })?;
        }
        let records = Records::read(cx.input("records")?)?;
        let name = self.plugged.plugin()?.description().name.clone();
        let mut sieve = Sieve::new(cx, &name, records.manifest.schema(), &records.manifest.footer)?;
        let mut seen: HashSet<u64> = HashSet::new();
        let on_error = self.plugged.on_error;
        self.hashes(cx, &records, |(chunk, keys)| {
            let reasons: Vec<Option<&str>> = match (keys, on_error) {
                (Some(keys), _) => {
                    keys.0.of_records().map(|hashes| reason(hashes, &others, &mut seen)).collect()
                }
                (None, OnError::Keep) => vec![None; chunk.num_rows()],
                (None, _) => vec![Some("plugin-failed"); chunk.num_rows()],
            };
            sieve.write(&chunk, &reasons)
        })?;
        sieve.finish()
    }
}

impl Plug {
    fn hashes(
        &self,
        cx: &RunContext<'_>,
        records: &Records,
        each: impl FnMut(Answered<Hashes>) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        Calls::new(cx, &self.plugged, records)?.run(
            |session, batch| {
                let Answer { value, said, fuel } = session.dedup(batch)?;
                Ok(Answer { value: Hashes(value), said, fuel })
            },
            each,
        )
    }
}

/// Why a record with these hashes goes; if it stays, its hashes are seen.
fn reason(hashes: &[u64], others: &HashSet<u64>, seen: &mut HashSet<u64>) -> Option<&'static str> {
    if hashes.iter().any(|hash| others.contains(hash)) {
        return Some("in-other-set");
    }
    if hashes.iter().any(|hash| seen.contains(hash)) {
        return Some("duplicate");
    }
    seen.extend(hashes);
    None
}

/// The hashes of a chunk; kept as the rows' ends and then all hashes, little-endian.
struct Hashes(Keys);

impl Kept for Hashes {
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        let Keys { rows, hashes } = &self.0;
        let rows = rows.iter().flat_map(|end| end.to_le_bytes());
        Ok(rows.chain(hashes.iter().flat_map(|hash| hash.to_le_bytes())).collect())
    }

    fn from_bytes(bytes: &[u8], records: usize) -> Option<Self> {
        let (rows, hashes) = bytes.split_at_checked(4 * (records + 1))?;
        let (rows, hashes) = (rows.as_chunks::<4>().0, hashes.as_chunks::<8>());
        let rows: Vec<u32> = rows.iter().map(|end| u32::from_le_bytes(*end)).collect();
        let keys = Keys { rows, hashes: hashes.0.iter().map(|hash| u64::from_le_bytes(*hash)).collect() };
        let whole = hashes.1.is_empty() && heddle_plugin::answer::keys(&keys, records).is_ok();
        whole.then_some(Self(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_chain_stays() {
        let (others, mut seen) = (HashSet::from([9]), HashSet::new());
        let mut ask = |hashes: &[u64]| reason(hashes, &others, &mut seen);
        assert_eq!(ask(&[1, 2]), None);
        assert_eq!(ask(&[2, 3]), Some("duplicate"));
        // The hash 3 is of a record that went.
        assert_eq!(ask(&[3]), None);
        assert_eq!(ask(&[4, 9]), Some("in-other-set"));
        assert_eq!((ask(&[]), ask(&[])), (None, None));
    }

    #[test]
    fn kept_hashes_read_back_or_count_as_absent() {
        let keys = Keys { rows: vec![0, 2, 2, 3], hashes: vec![1, u64::MAX, 7] };
        let bytes = Hashes(keys.clone()).to_bytes().expect("numbers have bytes");
        assert_eq!(Hashes::from_bytes(&bytes, 3).map(|hashes| hashes.0), Some(keys));
        for (damaged, records) in
            [(&bytes[..bytes.len() - 1], 3), (&bytes[..], 2), (&bytes[..], 9), (&[][..], 0)]
        {
            assert!(Hashes::from_bytes(damaged, records).is_none());
        }
    }
}
