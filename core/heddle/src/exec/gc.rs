//! What the cache holds that something still names, and what goes when it holds too much.
//!
//! ```text
//! traces ───────▶ artifacts          chunks of rows ──▶ keys, rows
//! checkpoints ──▶ their payloads     pins ────────────▶ traces, artifacts, chunks of runs
//! ```
//!
//! | what | when it goes |
//! |---|---|
//! | a payload that nothing of the above names | always |
//! | a value that names what is gone: `latest`, `row-use`, a checkpoint of a stage that is done | always |
//! | an artifact, a chunk of rows | over budget, cheapest to compute again for its bytes first |
//! | a checkpoint | over budget, after all others: what it has cost is not known |
//! | what a pinned run used, or whoever is to be [spared](Spared) | never |
//!
//! An artifact costs the seconds of its trace, shared among the trace's artifacts by bytes; several traces may give one artifact, which
//! then costs all of theirs. It takes its traces with it, and what only they name.
//!
//! Values go before payloads, so that nothing ever names what is gone. See [`Cache::retain`](heddle_cache::Cache::retain) for the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use heddle_cache::{Cache, Freed, RowChunk};
use heddle_graph::{digest::Digest, plan::Trace};
use serde_json::Value as Json;

use super::store::{Pin, Store, StoreError};

/// What must stay although the budget is exceeded.
#[derive(Debug, Clone, Default)]
pub struct Spared {
    /// Keys of traces: with their artifacts, and the chunks that these nodes used.
    pub keys: BTreeSet<Digest>,
    /// Artifacts, by digest.
    pub artifacts: BTreeSet<Digest>,
    /// All checkpoints.
    pub checkpoints: bool,
}

impl Spared {
    /// What a run used.
    pub fn run(pin: &Pin) -> Self {
        let (keys, artifacts) = (pin.keys.clone(), pin.artifacts.clone());
        Self { keys, artifacts, checkpoints: true }
    }
}

/// What kind of thing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The output of a node.
    Artifact,
    /// So many rows of a frozen part.
    Rows(u64),
    /// Where a stopped stage would have gone on.
    Checkpoint,
}

/// One thing that goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    /// What it is.
    pub sort: Sort,
    /// For people: `stage1.weights`, or a digest.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What it takes to compute it again, where that is known.
    pub seconds: Option<f64>,
}

/// What will go, and what stays.
#[derive(Debug, Default)]
pub struct Sweep {
    /// What was useful and exceeds the budget, in the order in which it goes.
    pub gone: Vec<Gone>,
    /// Payloads that nothing names.
    pub garbage: u64,
    /// Bytes of those payloads.
    pub garbage_bytes: u64,
    /// Bytes in packs that stay.
    pub left: u64,
    keep: HashSet<Digest>,
    chunks: Vec<RowChunk>,
    /// Keys of values, by space.
    values: BTreeMap<&'static str, Vec<Vec<u8>>>,
}

/// A thing that a budget may take.
struct Candidate {
    gone: Gone,
    what: What,
}

enum What {
    Artifact(Digest),
    Chunk(RowChunk),
    Checkpoint(Vec<u8>, Vec<Digest>),
}

/// Everything that names payloads, and the payloads.
struct Census<'a> {
    store: &'a Store,
    sizes: HashMap<Digest, u64>,
    traces: HashMap<Digest, Trace>,
    /// Which traces give an artifact.
    makers: BTreeMap<Digest, Vec<Digest>>,
    /// How many traces, chunks, checkpoints and pins name a payload.
    names: HashMap<Digest, u32>,
    left: u64,
    sweep: Sweep,
}

impl Store {
    /// Finds what nothing names, and what goes so that at most `budget` bytes stay in the packs.
    ///
    /// # Errors
    /// If the cache does not read.
    pub fn sweep(&self, budget: Option<u64>, spared: &Spared) -> Result<Sweep, StoreError> {
        let mut census = Census::take(self)?;
        let candidates = census.candidates(spared)?;
        census.evict(candidates, budget);
        census.finish()
    }

    /// Removes what a sweep found. Nothing may have been stored in between.
    ///
    /// # Errors
    /// If the cache does not write.
    pub fn remove(&self, sweep: &Sweep) -> Result<Freed, StoreError> {
        let cache = self.cache();
        for (space, keys) in &sweep.values {
            cache.remove_many(space, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        if !sweep.chunks.is_empty() {
            RowChunk::forget(cache, &sweep.chunks)?;
        }
        Ok(cache.retain(&sweep.keep)?)
    }
}

impl<'a> Census<'a> {
    /// Reads all traces.
    fn take(store: &'a Store) -> Result<Self, StoreError> {
        let sizes = store.cache().payloads()?.into_iter().collect();
        let (mut traces, mut broken) = (HashMap::new(), Vec::new());
        for entry in store.cache().entries("trace") {
            let (key, value) = entry?;
            let trace = serde_json::from_slice::<Trace>(&value).ok();
            match trace.map(|trace| (trace.parts.digest(), trace)) {
                Some((digest, trace)) if *digest.as_bytes() == *key => {
                    traces.insert(digest, trace);
                }
                _ => broken.push(key),
            }
        }
        let mut makers: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (key, trace) in &traces {
            let outputs: BTreeSet<Digest> = trace.outputs.values().copied().collect();
            outputs.into_iter().for_each(|output| makers.entry(output).or_default().push(*key));
        }
        let names = makers.iter().map(|(output, makers)| (*output, makers.len() as u32)).collect();
        let sweep = Sweep { values: BTreeMap::from([("trace", broken)]), ..Sweep::default() };
        Ok(Self { store, sizes, traces, makers, names, left: 0, sweep })
    }

    fn in_pack(&self, digest: &Digest) -> u64 {
        self.sizes.get(digest).map_or(0, |len| Cache::bytes_in_pack(*len))
    }

    fn name(&mut self, digest: Digest) {
        *self.names.entry(digest).or_default() += 1;
    }

    /// One name of a payload less; with the last, it goes.
    fn unname(&mut self, digest: &Digest) {
        if let Some(count) = self.names.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(digest);
                self.left -= self.in_pack(digest);
            }
        }
    }

    fn drop_value(&mut self, space: &'static str, key: Vec<u8>) {
        self.sweep.values.entry(space).or_default().push(key);
    }

    /// Counts names, and gives what may go.
    fn candidates(&mut self, spared: &Spared) -> Result<Vec<Candidate>, StoreError> {
        let (mut keys, mut held) = (spared.keys.clone(), spared.artifacts.clone());
        for (_, pin) in self.store.pins()? {
            keys.extend(pin.keys);
            held.extend(pin.artifacts);
        }
        let kept = keys.iter().filter_map(|key| self.traces.get(key));
        held.extend(kept.flat_map(|trace| trace.outputs.values()));
        held.iter().for_each(|digest| self.name(*digest));
        let mut rows: BTreeSet<(Digest, Digest)> = BTreeSet::new();
        for key in &keys {
            rows.extend(self.store.rows_of(key)?);
        }

        let mut candidates = self.artifacts(&held);
        for chunk in RowChunk::all(self.store.cache())? {
            if ![chunk.keys, chunk.rows].iter().all(|digest| self.sizes.contains_key(digest)) {
                self.sweep.chunks.push(chunk);
                continue;
            }
            [chunk.keys, chunk.rows].into_iter().for_each(|digest| self.name(digest));
            if !rows.contains(&(chunk.set, chunk.keys)) {
                candidates.push(self.chunk(chunk));
            }
        }
        candidates.extend(self.checkpoints(spared.checkpoints)?);
        self.left = self.names.keys().map(|digest| self.in_pack(digest)).sum();
        let unnamed = self.sizes.iter().filter(|(digest, _)| !self.names.contains_key(digest));
        (self.sweep.garbage, self.sweep.garbage_bytes) =
            unnamed.fold((0, 0), |(count, bytes), (_, len)| (count + 1, bytes + len));
        Ok(candidates)
    }

    fn artifacts(&self, held: &BTreeSet<Digest>) -> Vec<Candidate> {
        let share = |digest: &Digest, maker: &Digest| {
            let trace = &self.traces[maker];
            let all: BTreeSet<&Digest> = trace.outputs.values().collect();
            let all: u64 = all.into_iter().map(|output| self.in_pack(output)).sum();
            trace.seconds * self.in_pack(digest) as f64 / all.max(1) as f64
        };
        let may_go = self
            .makers
            .iter()
            .filter(|(digest, _)| !held.contains(*digest) && self.sizes.contains_key(*digest));
        may_go
            .map(|(digest, makers)| {
                let seconds = makers.iter().map(|maker| share(digest, maker)).sum();
                // Of several names that of the latest run.
                let latest =
                    makers.iter().map(|maker| &self.traces[maker]).max_by_key(|trace| trace.finished_unix);
                let port = |trace: &Trace| {
                    let port = trace.outputs.iter().find(|(_, output)| *output == digest);
                    port.map(|(port, _)| format!("{}.{port}", trace.node))
                };
                let name = latest.and_then(port).unwrap_or_else(|| digest.short());
                let gone =
                    Gone { sort: Sort::Artifact, name, bytes: self.sizes[digest], seconds: Some(seconds) };
                Candidate { gone, what: What::Artifact(*digest) }
            })
            .collect()
    }

    fn chunk(&self, chunk: RowChunk) -> Candidate {
        let [keys, rows] = [chunk.keys, chunk.rows].map(|digest| self.sizes[&digest]);
        let sort = Sort::Rows(RowChunk::count(keys));
        let name = format!("rows of {}", chunk.set.short());
        Candidate {
            gone: Gone { sort, name, bytes: keys + rows, seconds: Some(chunk.seconds) },
            what: What::Chunk(chunk),
        }
    }

    /// Those of stages that are done are waste.
    fn checkpoints(&mut self, spare: bool) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        for entry in self.store.cache().entries("checkpoint") {
            let (key, value) = entry?;
            let stage = key.first_chunk::<32>().map(|key| Digest::from_bytes(*key));
            let names = serde_json::from_slice(&value).map(|json| digests_in(&json)).unwrap_or_default();
            let whole = !names.is_empty() && names.iter().all(|digest| self.sizes.contains_key(digest));
            if !whole || stage.is_none_or(|stage| self.traces.contains_key(&stage)) {
                self.drop_value("checkpoint", key);
                continue;
            }
            names.iter().for_each(|digest| self.name(*digest));
            if !spare {
                let bytes = names.iter().map(|digest| self.sizes[digest]).sum();
                let name = format!("checkpoint {}", stage.map(|stage| stage.short()).unwrap_or_default());
                let gone = Gone { sort: Sort::Checkpoint, name, bytes, seconds: None };
                candidates.push(Candidate { gone, what: What::Checkpoint(key, names) });
            }
        }
        Ok(candidates)
    }

    /// Drops candidates, those first that are computed again in the shortest time for their bytes.
    fn evict(&mut self, mut candidates: Vec<Candidate>, budget: Option<u64>) {
        let Some(budget) = budget else { return };
        let rate =
            |gone: &Gone| gone.seconds.map_or(f64::INFINITY, |seconds| seconds / gone.bytes.max(1) as f64);
        // Of equals the larger ones first: fewer have to go.
        candidates.sort_by(|a, b| {
            let (a, b) = (&a.gone, &b.gone);
            rate(a).total_cmp(&rate(b)).then(b.bytes.cmp(&a.bytes)).then_with(|| a.name.cmp(&b.name))
        });
        let mut order = Vec::new();
        let mut artifacts: HashMap<Digest, Gone> = HashMap::new();
        for Candidate { gone, what } in candidates {
            if let What::Artifact(digest) = &what {
                artifacts.insert(*digest, gone.clone());
            }
            order.push((gone, what));
        }
        for (gone, what) in order {
            if self.left <= budget {
                break;
            }
            match what {
                // It may have gone with another artifact of its trace.
                What::Artifact(digest) if !artifacts.contains_key(&digest) => {}
                What::Artifact(digest) => {
                    for maker in self.makers.get(&digest).cloned().unwrap_or_default() {
                        let orphans = self.drop_trace(&maker);
                        self.sweep.gone.extend(orphans.iter().filter_map(|orphan| artifacts.remove(orphan)));
                    }
                }
                What::Chunk(chunk) => {
                    [chunk.keys, chunk.rows].iter().for_each(|digest| self.unname(digest));
                    self.sweep.chunks.push(chunk);
                    self.sweep.gone.push(gone);
                }
                What::Checkpoint(key, names) => {
                    names.iter().for_each(|digest| self.unname(digest));
                    self.drop_value("checkpoint", key);
                    self.sweep.gone.push(gone);
                }
            }
        }
    }

    /// Forgets a trace; gives the artifacts that no trace gives any more.
    fn drop_trace(&mut self, key: &Digest) -> Vec<Digest> {
        let Some(trace) = self.traces.remove(key) else { return Vec::new() };
        self.drop_value("trace", key.as_bytes().to_vec());
        let mut outputs: Vec<Digest> = trace.outputs.into_values().collect();
        outputs.sort_unstable();
        outputs.dedup();
        outputs.retain(|output| {
            self.unname(output);
            let makers = self.makers.entry(*output).or_default();
            makers.retain(|maker| maker != key);
            makers.is_empty()
        });
        outputs
    }

    /// What is left over is dropped.
    fn finish(mut self) -> Result<Sweep, StoreError> {
        let entries = |space| self.store.cache().entries(space).collect::<Result<Vec<_>, _>>();
        let (latest, used) = (entries("latest")?, entries("row-use")?);
        let known = |key: &[u8]| {
            key.first_chunk::<32>().is_some_and(|key| self.traces.contains_key(&Digest::from_bytes(*key)))
        };
        let stale_latest: Vec<_> =
            latest.into_iter().filter(|(_, key)| !known(key)).map(|(name, _)| name).collect();
        let stale_used: Vec<_> =
            used.into_iter().filter(|(key, _)| !known(key)).map(|(key, _)| key).collect();
        stale_latest.into_iter().for_each(|key| self.drop_value("latest", key));
        stale_used.into_iter().for_each(|key| self.drop_value("row-use", key));
        let Self { names, sizes, mut sweep, left, .. } = self;
        sweep.values.retain(|_, keys| !keys.is_empty());
        sweep.left = left;
        sweep.keep = names.into_keys().filter(|digest| sizes.contains_key(digest)).collect();
        Ok(sweep)
    }
}

/// The digests that stand anywhere in a value.
fn digests_in(value: &Json) -> Vec<Digest> {
    match value {
        Json::String(text) => text.parse().ok().into_iter().collect(),
        Json::Array(values) => values.iter().flat_map(digests_in).collect(),
        Json::Object(values) => values.values().flat_map(digests_in).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use heddle_cache::{RowSet, Wait};
    use heddle_graph::plan::{KeyParts, Known};
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::exec::ChunkName;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(dir.path(), "test", Wait::No).expect("free and writable");
        (dir, store)
    }

    fn payload(seed: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| seed.wrapping_mul(31).wrapping_add(i as u8)).chain([seed]).collect()
    }

    /// A node that gave these payloads.
    fn ran(store: &Store, node: &str, seconds: f64, outputs: &[Vec<u8>]) -> Digest {
        let parts = KeyParts {
            kind: "test".into(),
            version: 1,
            config: json!({ "node": node }),
            model: None,
            seed: None,
            numerics: None,
            files: BTreeMap::new(),
            inputs: BTreeMap::new(),
        };
        let outputs =
            outputs.iter().enumerate().map(|(i, bytes)| (i.to_string(), bytes.clone().into())).collect();
        let trace = Trace { node: node.into(), parts, outputs: BTreeMap::new(), seconds, finished_unix: 0 };
        store.keep(trace, &outputs, true).expect("kept").parts.digest()
    }

    fn swept(store: &Store, budget: Option<u64>) -> Sweep {
        let sweep = store.sweep(budget, &Spared::default()).expect("readable");
        store.remove(&sweep).expect("removed");
        sweep
    }

    fn names(sweep: &Sweep) -> Vec<&str> {
        sweep.gone.iter().map(|gone| gone.name.as_str()).collect()
    }

    #[test]
    fn what_is_cheapest_for_its_bytes_goes_first() {
        let (_dir, store) = open();
        ran(&store, "dear", 100.0, &[payload(1, 1000)]);
        ran(&store, "cheap", 1.0, &[payload(2, 1000)]);
        ran(&store, "small", 1.0, &[payload(3, 100)]);
        // The same bytes from two nodes: they cost both.
        ran(&store, "twice", 1.0, &[payload(4, 1000)]);
        ran(&store, "again", 1.0, &[payload(4, 1000)]);
        let garbage = store.cache().put(b"nobody names this").expect("stored");
        let all = swept(&store, None);
        assert_eq!((all.gone.len(), all.garbage, all.garbage_bytes), (0, 1, 17));
        assert!(!store.has(&garbage));
        let sweep = swept(&store, Some(all.left - 1));
        assert_eq!(names(&sweep), ["cheap.0"]);
        assert_eq!(sweep.gone[0].seconds, Some(1.0));
        assert!(store.latest("cheap", "test").is_none() && store.latest("dear", "test").is_some());
        let sweep = swept(&store, Some(sweep.left - 1));
        assert_eq!(sweep.gone[0].seconds, Some(2.0), "{sweep:?}");
        assert!(store.latest("twice", "test").is_none() && store.latest("again", "test").is_none());
        assert_eq!(names(&swept(&store, Some(1200))), ["small.0"]);
        assert_eq!(names(&swept(&store, Some(0))), ["dear.0"]);
    }

    #[test]
    fn an_artifact_takes_its_trace_and_what_only_that_names() {
        let (_dir, store) = open();
        let [shared, own, other] = [1, 2, 3].map(|seed| payload(seed, 500));
        ran(&store, "a", 1.0, &[shared.clone(), own.clone()]);
        ran(&store, "b", 9.0, &[shared.clone(), other]);
        let before = swept(&store, None).left;
        let sweep = swept(&store, Some(before - 1));
        assert_eq!(names(&sweep), ["a.1"]);
        assert!(store.has(&Digest::of(&shared)) && !store.has(&Digest::of(&own)));
        assert!(store.latest("b", "test").is_some());
    }

    #[test]
    fn checkpoints_go_last_and_those_of_finished_stages_first() {
        let (_dir, store) = open();
        let done = ran(&store, "done", 5.0, &[payload(1, 100)]);
        let stopped = Digest::of(b"key of a stopped stage");
        for (key, seed) in [(done, 2), (stopped, 3)] {
            let digest = store.cache().put(&payload(seed, 300)).expect("stored");
            let value = json!({ "progress": { "step": 3 }, "parameters": digest, "ema": null }).to_string();
            store.cache().set("checkpoint", key.as_bytes(), value.as_bytes()).expect("set");
        }
        let sweep = swept(&store, None);
        assert_eq!((sweep.garbage, sweep.gone.len()), (1, 0));
        assert!(store.cache().value("checkpoint", done.as_bytes()).expect("readable").is_none());
        assert!(store.cache().value("checkpoint", stopped.as_bytes()).expect("readable").is_some());
        let sweep = swept(&store, Some(0));
        assert_eq!(
            sweep.gone.iter().map(|gone| gone.sort).collect::<Vec<_>>(),
            [Sort::Artifact, Sort::Checkpoint]
        );
        assert_eq!((sweep.left, store.cache().usage().expect("readable").payloads), (0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever there is, is pinned and is allowed: what stays is whole, what is pinned stays, and the budget holds where it can.
        #[test]
        fn nothing_that_stays_lacks_anything(
            nodes in vec((vec((0u8..8, 0usize..600), 0..4), 0u16..100, any::<bool>()), 0..8),
            chunks in vec((0u8..3, 0u8..6, 1usize..9, 0u16..100), 0..6),
            unnamed in vec(8u8..12, 0..3),
            budget in proptest::option::of(0u64..6000),
        ) {
            let (_dir, store) = open();
            let (mut pin, mut all) = (Pin { file: "a.toml".into(), keys: BTreeSet::new(), artifacts: BTreeSet::new() }, Vec::new());
            for (i, (outputs, seconds, pinned)) in nodes.iter().enumerate() {
                let outputs: Vec<Vec<u8>> = outputs.iter().map(|(seed, len)| payload(*seed, *len)).collect();
                let key = ran(&store, &i.to_string(), f64::from(*seconds), &outputs);
                all.push(key);
                if *pinned {
                    pin.keys.insert(key);
                }
            }
            for (set, first, count, seconds) in &chunks {
                let keys: Vec<Digest> = (0..*count).map(|i| Digest::of(&[*first, i as u8])).collect();
                let mut rows = RowSet::open(store.cache(), Digest::of(&[*set]), 16).expect("the cache works");
                rows.insert(&keys, &payload(*first, 16 * count - 1), f64::from(*seconds)).expect("the cache works");
                if *set == 0 && let Some(key) = pin.keys.first() {
                    store.note_rows(key, [rows.chunks_of(keys)]).expect("the cache works");
                }
            }
            for seed in unnamed {
                store.cache().put(&payload(seed, 700)).expect("the cache works");
            }
            store.pin("run", &pin).expect("the cache works");
            let pinned_rows: BTreeSet<ChunkName> =
                pin.keys.iter().flat_map(|key| store.rows_of(key).expect("the cache works")).collect();
            let dry = store.sweep(budget, &Spared::default()).expect("the cache works");
            let before = store.cache().usage().expect("the cache works");
            let freed = store.remove(&dry).expect("the cache works");
            let after = store.cache().payloads().expect("the cache works");
            prop_assert_eq!(before.payloads - freed.payloads, after.len() as u64);
            let left: u64 = after.iter().map(|(_, len)| Cache::bytes_in_pack(*len)).sum();
            prop_assert_eq!(left, dry.left);

            let mut named: BTreeSet<Digest> = BTreeSet::new();
            for key in &all {
                let trace = store.trace(key);
                prop_assert!(trace.is_some() || !pin.keys.contains(key) && budget.is_some());
                for output in trace.into_iter().flat_map(|trace| trace.outputs.into_values()) {
                    prop_assert!(store.artifact(&output).expect("the cache works").is_some());
                    named.insert(output);
                }
            }
            let chunks = RowChunk::all(store.cache()).expect("the cache works");
            prop_assert!(pinned_rows.iter().all(|name| chunks.iter().any(|chunk| (chunk.set, chunk.keys) == *name)));
            for chunk in chunks {
                prop_assert!(store.has(&chunk.keys) && store.has(&chunk.rows));
                named.extend([chunk.keys, chunk.rows]);
            }
            prop_assert!(after.iter().all(|(digest, _)| named.contains(digest)));
            if let Some(budget) = budget && left > budget {
                let mut held: BTreeSet<Digest> =
                    pin.keys.iter().filter_map(|key| store.trace(key)).flat_map(|trace| trace.outputs.into_values()).collect();
                let chunks = RowChunk::all(store.cache()).expect("the cache works").into_iter();
                held.extend(chunks.filter(|chunk| pinned_rows.contains(&(chunk.set, chunk.keys))).flat_map(|chunk| [chunk.keys, chunk.rows]));
                prop_assert!(after.iter().all(|(digest, _)| held.contains(digest)));
            }
            let again = store.sweep(budget, &Spared::default()).expect("the cache works");
            prop_assert!(again.gone.is_empty() && again.garbage == 0, "{:?}", again);
        }
    }
}
