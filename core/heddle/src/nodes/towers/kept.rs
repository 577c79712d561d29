//! What frozen parts of a model give for each record, kept in the cache.
//!
//! ```text
//! (source of a model graph, parameter bytes, preprocessing, numerics) ──▶ set of rows
//! (bytes of the picture, view)                                        ──▶ row
//! ```
//!
//! Neither a name, nor the file that a picture lies in, nor what else is in the data set counts: whoever computes the same of the
//! same picture finds it. A row is what the module gave, bit for bit.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::{Duration, Instant},
};

use heddle_cache::RowSet;
use heddle_data::{
    image::{Augment, ImageSpec},
    rng,
};
use heddle_graph::{
    config::Stored,
    digest::{Digest, DigestWriter},
    graph::{Class, Source},
};
use heddle_tensor::{Backend, HostTensor, Parameters, value::ValueKind};
use rand_chacha::ChaCha8Rng;

use super::stored::{self, TooLarge};
use crate::{
    device::Need,
    exec::{NodeError, RunContext},
    model::{Contents, ModelGraph},
};

/// Rows are written once so many bytes of them wait.
const CHUNK_BYTES: usize = 8 << 20;

/// So much computing may be lost by a crash: then what waits is written, however little, and made durable.
const SYNC_EVERY: Duration = Duration::from_secs(20);

/// Raise it when the same picture becomes other numbers.
const PICTURES: &str = "heddle pictures 1";

const VIEW_STREAM: u64 = 5;

/// How pictures become the numbers that a model sees.
#[derive(Debug, Clone, Copy)]
pub struct Looks<'a> {
    /// Size, resizing, normalisation.
    pub spec: &'a ImageSpec,
    /// If views are drawn: how, and the seed.
    pub views: Option<(&'a Augment, u64)>,
}

impl Looks<'_> {
    /// As plainly as evaluations see them.
    pub fn plain(spec: &ImageSpec) -> Looks<'_> {
        Looks { spec, views: None }
    }

    /// Random numbers of a view of a picture.
    pub fn random(seed: u64, image: &[u8; 32], view: u64) -> ChaCha8Rng {
        let [a, b, c, d, e, f, g, h, ..] = *image;
        rng(seed, &[VIEW_STREAM, u64::from_le_bytes([a, b, c, d, e, f, g, h]), view])
    }

    fn digest(&self) -> Result<Digest, NodeError> {
        let mut writer = DigestWriter::new(PICTURES);
        writer.str(&serde_json::to_string(self.spec).map_err(NodeError::data)?);
        if let Some((augment, seed)) = self.views {
            writer.str(&serde_json::to_string(augment).map_err(NodeError::data)?).u64(seed);
        }
        Ok(writer.finish())
    }
}

/// The row of a view of a picture.
pub fn row_key(image: &[u8; 32], view: u64) -> Digest {
    DigestWriter::new("heddle row 1").bytes(image).u64(view).finish()
}

/// Rows of some sources of a model graph.
pub struct Kept {
    sources: Vec<KeptSource>,
    /// Keys whose rows are not written yet.
    waiting: Vec<Digest>,
    /// Since when what waits is being computed.
    since: Instant,
    /// When what is written was last made durable.
    synced: Instant,
}

struct KeptSource {
    source: Source,
    /// For messages.
    name: String,
    kind: ValueKind,
    /// Of one record.
    shape: Vec<usize>,
    stored: Stored,
    rows: RowSet,
    waiting: Vec<u8>,
}

impl KeptSource {
    /// Values of a row.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Kept {
    /// Opens the rows of `sources` under their canonical ports; each has a known size.
    ///
    /// # Errors
    /// If the cache or the parameters do not read.
    pub fn open<B: Backend>(
        cx: &RunContext<'_>,
        model: &ModelGraph,
        parameters: &Parameters<B>,
        sources: &[Source],
        looks: &Looks<'_>,
        need: Need,
    ) -> Result<Self, NodeError> {
        let used = sources.iter().filter_map(|source| match source {
            Source::Node { id, .. } => Some(*id),
            Source::Input(_) => None,
        });
        let nodes = model.graph().upstream(&used.collect::<Vec<_>>());
        let mut digests: HashMap<String, Digest> = HashMap::new();
        for parameter in model.used_by_all(&nodes) {
            let values = parameters.to_host(&parameter.name)?;
            let mut writer = DigestWriter::new("heddle parameter 1");
            writer.bytes(bytemuck::cast_slice(&values));
            digests.insert(parameter.name, writer.finish());
        }
        // What is computed here never learns.
        let need = Need { learns: false, ..need };
        let numerics = format!("{} {}", cx.compute.numerics(need), need.precision);
        let pictures = looks.digest()?;
        let contents = Contents { parameter: &|name| digests.get(name).copied(), input: &|_| pictures };
        let open = |source: &Source| {
            let unknown = || NodeError::Other("a frozen output has no known size".to_owned());
            let shape = model.row_shape(source).ok_or_else(unknown)?;
            let kind = match model.type_of(source).map(|ty| ty.class) {
                Some(Class::Sequence) => ValueKind::Sequence,
                _ => ValueKind::Vector,
            };
            let identity = model.identity(source, &contents).ok_or_else(unknown)?;
            let stored = match source {
                Source::Node { id, .. } => model.graph().node(*id).stored,
                Source::Input(_) => Stored::F32,
            };
            let mut set = DigestWriter::new("heddle rows 1");
            set.digest(&identity).str(&numerics);
            if stored != Stored::F32 {
                set.str(stored.word());
            }
            let bytes = stored.bytes() * shape.iter().product::<usize>();
            let rows = cx.store.rows(set.finish(), bytes)?;
            let (source, name, waiting) = (source.clone(), model.source_name(source), Vec::new());
            Ok(KeptSource { source, name, kind, shape, stored, rows, waiting })
        };
        let sources = sources.iter().map(open).collect::<Result<_, NodeError>>()?;
        let now = Instant::now();
        Ok(Self { sources, waiting: Vec::new(), since: now, synced: now })
    }

    /// Whether all sources have a row of a key, as far as the index says.
    pub fn contains(&self, key: &Digest) -> bool {
        self.sources.iter().all(|kept| kept.rows.contains(key))
    }

    /// Of these keys, those that lack a row of some source, each once, in order.
    ///
    /// # Errors
    /// If the cache does not read.
    pub fn missing(&self, keys: &[Digest]) -> Result<Vec<Digest>, NodeError> {
        let mut missing: Vec<Digest> = Vec::new();
        for kept in &self.sources {
            missing.extend(kept.rows.missing(keys.iter().copied())?);
        }
        let mut left: HashSet<Digest> = missing.into_iter().collect();
        Ok(keys.iter().copied().filter(|key| left.remove(key)).collect())
    }

    /// The set that stands for all of them where turns are taken.
    pub fn first_set(&self) -> Option<Digest> {
        self.sources.iter().map(|kept| kept.rows.set()).min()
    }

    /// Finds what others have stored meanwhile.
    ///
    /// # Errors
    /// If the cache does not read.
    pub fn refresh(&mut self) -> Result<(), NodeError> {
        self.sources.iter_mut().try_for_each(|kept| Ok(kept.rows.refresh()?))
    }

    /// Computing begins: what it takes from here on is noted beside the rows.
    pub fn start(&mut self) {
        self.since = Instant::now();
    }

    /// Notes in the cache that the running node used the rows of these keys.
    ///
    /// # Errors
    /// If the cache does not write.
    pub fn note_used(&self, cx: &RunContext<'_>, keys: &[Digest]) -> Result<(), NodeError> {
        let chunks = self.sources.iter().map(|kept| kept.rows.chunks_of(keys.iter().copied()));
        cx.store.note_rows(&cx.key, chunks).map_err(NodeError::data)
    }

    /// Adds rows, in the order of the sources: `values` have one for each key. What waits is lost unless [`Kept::flush`] follows.
    ///
    /// # Errors
    /// If the cache does not write.
    pub fn add(&mut self, keys: &[Option<Digest>], values: &[HostTensor]) -> Result<(), NodeError> {
        for (kept, values) in self.sources.iter_mut().zip(values) {
            let rows = values.data.chunks_exact(kept.len().max(1)).zip(keys).filter(|(_, key)| key.is_some());
            for (row, _) in rows {
                stored::write(row, kept.stored, &mut kept.waiting)
                    .map_err(|value| kept_too_large(&kept.name, value))?;
            }
        }
        self.waiting.extend(keys.iter().flatten());
        let bytes: usize = self.sources.iter().map(|kept| kept.waiting.len()).sum();
        if self.synced.elapsed() >= SYNC_EVERY {
            return self.flush();
        }
        if bytes >= CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what waits; all is durable when it returns.
    ///
    /// # Errors
    /// If the cache does not write.
    pub fn flush(&mut self) -> Result<(), NodeError> {
        self.write()?;
        self.synced = Instant::now();
        // All lie in one cache.
        self.sources.first().map_or(Ok(()), |kept| Ok(kept.rows.sync()?))
    }

    fn write(&mut self) -> Result<(), NodeError> {
        let keys = mem::take(&mut self.waiting);
        let bytes: usize = self.sources.iter().map(|kept| kept.waiting.len()).sum();
        // Sources are computed together; each has its share by bytes.
        let a_byte = self.since.elapsed().as_secs_f64() / bytes.max(1) as f64;
        for kept in &mut self.sources {
            let rows = mem::take(&mut kept.waiting);
            kept.rows.insert(&keys, &rows, a_byte * rows.len() as f64)?;
        }
        self.since = Instant::now();
        Ok(())
    }

    /// The values of a batch, one for each source; zeros where there is no key.
    ///
    /// # Errors
    /// If a row is not there: it was checked before, so the cache was damaged meanwhile.
    pub fn batch(&self, keys: &[Option<Digest>]) -> Result<Vec<KeptValue>, NodeError> {
        let lost = || NodeError::Other("a kept row was damaged while it was in use; run again".to_owned());
        let of = |kept: &KeptSource| {
            let mut data: Vec<f32> = Vec::with_capacity(kept.len() * keys.len());
            for key in keys {
                match key {
                    Some(key) => {
                        let bytes = kept.rows.get(key)?.ok_or_else(lost)?;
                        stored::read(&bytes, kept.stored, &mut data);
                    }
                    None => data.resize(data.len() + kept.len(), 0.0),
                }
            }
            let shape = [&[keys.len()], &*kept.shape].concat();
            Ok(KeptValue { source: kept.source.clone(), kind: kept.kind, values: HostTensor { shape, data } })
        };
        self.sources.iter().map(of).collect()
    }

    /// Which sources, by their places, have a row of a key that is not what was computed: `values` of a batch, in which the record has
    /// a place.
    ///
    /// # Errors
    /// If the cache does not read.
    pub fn differing(
        &self,
        key: &Digest,
        place: usize,
        values: &[HostTensor],
    ) -> Result<Vec<usize>, NodeError> {
        let mut differing = Vec::new();
        for (at, (kept, values)) in self.sources.iter().zip(values).enumerate() {
            let Some(row) = kept.rows.get(key)? else { continue };
            let mut bytes = Vec::with_capacity(row.len());
            let values = &values.data[place * kept.len()..(place + 1) * kept.len()];
            if stored::write(values, kept.stored, &mut bytes).is_err() || *bytes != *row {
                differing.push(at);
            }
        }
        Ok(differing)
    }

    /// The sources.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().map(|kept| &kept.source)
    }
}

fn kept_too_large(name: &str, TooLarge(value): TooLarge) -> NodeError {
    NodeError::Other(format!(
        "`{name}` has the value {value}, which half precision does not reach; `store = \"bf16\"` reaches further than f16, f32 keeps all"
    ))
}

/// Rows of a batch.
pub struct KeptValue {
    /// What they are values of.
    pub source: Source,
    /// Vectors or sequences.
    pub kind: ValueKind,
    /// The rows.
    pub values: HostTensor,
}
