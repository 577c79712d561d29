//! [`Cache`]: the public face; each call is put together here from index, packs and writer.

use std::{
    collections::HashSet,
    fs, io, iter,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use heddle_graph::digest::Digest;

use crate::{
    append::{Appender, Source},
    error::CacheError,
    format::{ALIGN, HEADER_BYTES},
    index::{Index, damaged_dirs},
    locations,
    lock::{FolderLock, Holder, Wait},
    pack::Packs,
    payload::Payload,
    recover::reconcile,
    retain::{self, Freed, Work},
    usage::{self, Usage},
    values::{self, KeyValue},
    verify::{self, Damage},
    writer::PayloadWriter,
};

/// An open cache folder. Clones share it; it closes, and lets the next process in, with the last of them.
///
/// ```
/// use heddle_cache::{Cache, Holder, Wait};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let holder = Holder { pid: std::process::id(), what: "run quickstart.toml".into(), since_unix: 0 };
/// let cache = Cache::open(dir, &holder, Wait::No)?;
/// let digest = cache.put(b"features")?;
/// cache.set("trace", b"key of the node", digest.as_bytes())?;
/// assert_eq!(cache.get(&digest)?.as_deref(), Some(b"features".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cache(Arc<Store>);

/// The fields close in this order: the folder is free only once the index is closed.
#[derive(Debug)]
struct Store {
    appender: Appender,
    packs: Packs,
    index: Index,
    /// Payloads that were found right in this process.
    proven: RwLock<HashSet<Digest>>,
    /// Payloads are hashed although they are proven.
    paranoid: AtomicBool,
    index_dir: PathBuf,
    tmp_dir: PathBuf,
    next_tmp: AtomicU64,
    _lock: FolderLock,
}

impl Cache {
    /// Opens the cache in `dir`, making it if there is none, and repairing what a crash or a disk has done to it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Held`] if another process has it and `wait` is [`Wait::No`]; [`CacheError::Io`] if the folder
    /// cannot be used.
    pub fn open(dir: &Path, holder: &Holder, wait: Wait) -> Result<Self, CacheError> {
        make_dir(dir)?;
        let lock = FolderLock::acquire(dir, holder, wait)?;
        let v1 = dir.join("v1");
        let (packs_dir, tmp_dir, index_dir) = (v1.join("packs"), v1.join("tmp"), v1.join("index"));
        make_dir(&packs_dir)?;
        remove_dir(&tmp_dir)?;
        make_dir(&tmp_dir)?;
        let (packs, index, appender) = match open_parts(&packs_dir, &index_dir) {
            // Found only when it was used: it is marked now, so the second try makes a new one.
            Err(CacheError::IndexDamaged(_)) => open_parts(&packs_dir, &index_dir)?,
            parts => parts?,
        };
        Ok(Self(Arc::new(Store {
            appender,
            packs,
            index,
            proven: RwLock::default(),
            paranoid: AtomicBool::new(false),
            index_dir,
            tmp_dir,
            next_tmp: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// From now on, payloads are hashed at every read and not at the first one in a process: what the disk or another program does to
    /// a pack meanwhile is found when it is read next.
    pub fn check_every_read(&self) {
        self.0.paranoid.store(true, Ordering::Relaxed);
    }

    /// Whether payloads are hashed at every read.
    pub(crate) fn checks_every_read(&self) -> bool {
        self.0.paranoid.load(Ordering::Relaxed)
    }

    /// Stores a payload, unless it is there and right; durable when it returns.
    ///
    /// Threads that put at the same time share one sync of the disk; one thread with several payloads should use
    /// [`put_many`](Self::put_many).
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        let digest = Digest::of(bytes);
        if self.get(&digest)?.is_none() {
            self.store(vec![(digest, Source::Bytes(bytes))])?;
        }
        Ok(digest)
    }

    /// Stores payloads with one sync; gives their digests in the same order.
    pub fn put_many(&self, items: &[&[u8]]) -> Result<Vec<Digest>, CacheError> {
        let digests: Vec<Digest> = items.iter().map(|bytes| Digest::of(bytes)).collect();
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        for (digest, bytes) in digests.iter().zip(items) {
            if seen.insert(digest) && self.get(digest)?.is_none() {
                new.push((*digest, Source::Bytes(bytes)));
            }
        }
        if !new.is_empty() {
            self.store(new)?;
        }
        Ok(digests)
    }

    /// Stores a payload that need not fit in memory: write it, then call [`PayloadWriter::finish`].
    pub fn writer(&self) -> Result<PayloadWriter, CacheError> {
        Ok(PayloadWriter::new(self.clone()))
    }

    /// The payload with this digest, read in place; `None` if it is not there or is damaged.
    pub fn get(&self, digest: &Digest) -> Result<Option<Payload>, CacheError> {
        let Store { packs, index, proven, .. } = &*self.0;
        let Some(mut location) = locations::find(index, digest)? else { return Ok(None) };
        let mut payload = packs.read(&location)?;
        // Its pack may have been compacted between the two questions.
        while payload.is_none() {
            match locations::find(index, digest)? {
                Some(moved) if moved != location => location = moved,
                Some(_) => break,
                None => return Ok(None),
            }
            payload = packs.read(&location)?;
        }
        if let Some(payload) = payload {
            let is_proven = || proven.read().unwrap_or_else(PoisonError::into_inner).contains(digest);
            if !self.checks_every_read() && is_proven() {
                return Ok(Some(payload));
            }
            if Digest::of(&payload) == *digest {
                proven.write().unwrap_or_else(PoisonError::into_inner).insert(*digest);
                return Ok(Some(payload));
            }
        }
        let (pack, offset) = (packs.path(location.pack), location.offset);
        tracing::warn!(
            "the cache's pack file {} is damaged at byte {offset}; dropping {digest}",
            pack.display()
        );
        locations::forget(index, digest, &location)?;
        Ok(None)
    }

    /// Whether the index names this payload; does not look at its bytes.
    pub fn contains(&self, digest: &Digest) -> Result<bool, CacheError> {
        let location = locations::find(&self.0.index, digest)?;
        Ok(location.is_some_and(|location| self.0.packs.covers(&location)))
    }

    /// The length of the payload with this digest, if the index names it; does not look at its bytes.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, CacheError> {
        Ok(locations::find(&self.0.index, digest)?.map(|location| location.len))
    }

    /// Every payload that the index names, and its length, in the order of digests.
    pub fn payloads(&self) -> Result<Vec<(Digest, u64)>, CacheError> {
        let all = locations::all(&self.0.index)?;
        Ok(all.into_iter().map(|(digest, location)| (digest, location.len)).collect())
    }

    /// What a payload of this length takes in a pack file, with its header and padding.
    pub fn bytes_in_pack(len: u64) -> u64 {
        len.saturating_add(HEADER_BYTES).checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX)
    }

    /// Stores a small value under `key` in `space`, over any earlier one; durable when it returns.
    pub fn set(&self, space: &str, key: &[u8], value: &[u8]) -> Result<(), CacheError> {
        self.set_many(space, &[(key, value)])
    }

    /// Stores small values, all or none, with one sync.
    pub fn set_many(&self, space: &str, items: &[(&[u8], &[u8])]) -> Result<(), CacheError> {
        self.set_soon(space, items)?;
        self.sync()
    }

    /// Stores small values, all or none; they are durable after the next [`Cache::sync`], or any other change that is durable.
    pub fn set_soon(&self, space: &str, items: &[(&[u8], &[u8])]) -> Result<(), CacheError> {
        values::set(&self.0.index, space, items)
    }

    /// Makes everything durable that was stored.
    pub fn sync(&self) -> Result<(), CacheError> {
        self.0.index.flush()
    }

    /// The value under `key` in `space`; `None` if there is none or it is damaged.
    pub fn value(&self, space: &str, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        values::get(&self.0.index, space, key)
    }

    /// The keys and values of `space` in the order of keys. Changes made meanwhile may or may not show.
    pub fn entries(&self, space: &str) -> impl Iterator<Item = Result<KeyValue, CacheError>> + use<> {
        self.entries_under(space, &[])
    }

    /// Those of `space` whose keys are longer than `prefix` and begin with it.
    pub fn entries_under(
        &self,
        space: &str,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<KeyValue, CacheError>> + use<> {
        let (cache, space, prefix) = (self.clone(), space.to_owned(), prefix.to_owned());
        let mut last: Option<Vec<u8>> = Some(prefix.clone()).filter(|prefix| !prefix.is_empty());
        let mut failed = false;
        iter::from_fn(move || {
            if failed {
                return None;
            }
            let row = values::next(&cache.0.index, &space, last.as_deref()).transpose()?;
            match &row {
                Ok((key, _)) if !key.starts_with(&prefix) => return None,
                Ok((key, _)) => last = Some(key.clone()),
                Err(_) => failed = true,
            }
            Some(row)
        })
    }

    /// Removes the value under `key` in `space`, if there is one; durable when it returns.
    pub fn remove(&self, space: &str, key: &[u8]) -> Result<(), CacheError> {
        self.remove_many(space, &[key])
    }

    /// Removes the values under these keys, where there are any, all or none; durable when it returns.
    pub fn remove_many(&self, space: &str, keys: &[&[u8]]) -> Result<(), CacheError> {
        values::remove(&self.0.index, space, keys)?;
        self.0.index.flush()
    }

    /// Counts what is there and what it takes on disk; reads the whole index.
    pub fn usage(&self) -> Result<Usage, CacheError> {
        usage::measure(&self.0.packs, &self.0.index)
    }

    /// Reads and checks everything, whether it was read before or not; `progress` hears bytes done and in total.
    /// What is damaged is given back and dropped, so that it is a miss from now on.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<Damage>, CacheError> {
        let damages = verify::verify(&self.0.packs, &self.0.index, progress)?;
        let mut proven = self.0.proven.write().unwrap_or_else(PoisonError::into_inner);
        for damage in &damages {
            proven.remove(&damage.digest);
        }
        drop(proven);
        self.0.index.flush()?;
        Ok(damages)
    }

    /// Drops every payload that is not in `keep` and gives its place on disk back. Payloads that are held stay readable. Values stay
    /// as they are: remove those that name what is dropped first.
    ///
    /// Writers are held off meanwhile; what they store just before counts like everything else. The disk needs room for one more
    /// pack. Wherever this is stopped, no payload of `keep` is lost; the next call removes what was left over.
    pub fn retain(&self, keep: &HashSet<Digest>) -> Result<Freed, CacheError> {
        self.retain_watched(keep, &mut || {})
    }

    /// [`retain`](Self::retain), calling `step` after each change on disk.
    pub(crate) fn retain_watched(
        &self,
        keep: &HashSet<Digest>,
        step: &mut dyn FnMut(),
    ) -> Result<Freed, CacheError> {
        let Store { appender, packs, index, proven, .. } = &*self.0;
        appender.exclusive(packs, index, |tail, limit| {
            // A copy is hashed when it is first read, as everything is that was just written.
            let mut moved = |digest: &Digest| {
                proven.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
            };
            retain::retain(Work { packs, index, tail, limit }, keep, &mut moved, step)
        })
    }

    /// Removes everything and says what was there. Payloads that are still held stay readable, and their bytes take
    /// space until they are dropped.
    pub fn clear(&self) -> Result<Usage, CacheError> {
        let Store { appender, packs, index, proven, index_dir, .. } = &*self.0;
        appender.start_over(|| {
            let freed = self.usage()?;
            // The index first: a crash in between leaves packs that are found again, not entries without a pack.
            locations::clear(index)?;
            values::clear(index)?;
            index.flush()?;
            proven.write().unwrap_or_else(PoisonError::into_inner).clear();
            let files = packs.list()?;
            packs.forget();
            for path in files.into_iter().map(|pack| packs.path(pack)) {
                fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
            }
            damaged_dirs(index_dir).collect::<Vec<_>>().iter().try_for_each(|dir| remove_dir(dir))?;
            Ok(freed)
        })
    }

    /// Appends, syncs and indexes payloads.
    pub(crate) fn store(&self, items: Vec<(Digest, Source)>) -> Result<(), CacheError> {
        let Store { appender, packs, index, .. } = &*self.0;
        let ticket = appender.append(packs, items)?;
        appender.commit(packs, index, ticket)
    }

    /// A name under `tmp/` that nobody has.
    pub(crate) fn next_tmp_path(&self) -> PathBuf {
        let number = self.0.next_tmp.fetch_add(1, Ordering::Relaxed);
        self.0.tmp_dir.join(format!("{number}.payload"))
    }
}

/// Opens index and packs, and makes them agree.
fn open_parts(packs_dir: &Path, index_dir: &Path) -> Result<(Packs, Index, Appender), CacheError> {
    let index = Index::open(index_dir)?;
    let packs = Packs::new(packs_dir.to_owned());
    let appender = reconcile(&packs, &index)?;
    index.check()?;
    Ok((packs, index, appender))
}

fn make_dir(dir: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(dir).map_err(CacheError::io("create the folder", dir))
}

/// Removes a folder with all that is in it, if it is there.
fn remove_dir(dir: &Path) -> Result<(), CacheError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::io("remove the folder", dir)(error))
        }
        _ => Ok(()),
    }
}
