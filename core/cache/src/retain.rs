//! [`retain`]: drops all payloads but some, and gives their place on disk back.
//!
//! ```text
//! index forgets the dead ──▶ for each pack with dead bytes: copy the living to another pack, sync, index ──▶ unlink the old pack
//! ```
//!
//! Wherever this stops, every living payload lies in a pack that the index names, or that the next open finds. What may be left is
//! waste: a payload that lies in two packs, or dead ones of a pack that was to be removed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
};

use heddle_graph::digest::Digest;

use crate::{
    append::{Source, Tail},
    error::CacheError,
    format::{HEADER_BYTES, Location, pack_header},
    index::Index,
    locations,
    pack::{Packs, map_file},
};

/// What [`Cache::retain`](crate::Cache::retain) has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Payloads that were dropped.
    pub payloads: u64,
    /// Bytes of those payloads.
    pub payload_bytes: u64,
    /// Bytes by which the pack files have shrunk.
    pub pack_bytes: u64,
}

/// What is at hand while nobody else writes.
pub(crate) struct Work<'a> {
    pub(crate) packs: &'a Packs,
    pub(crate) index: &'a Index,
    pub(crate) tail: &'a mut Tail,
    /// A pack gets no entry behind this length.
    pub(crate) limit: u64,
}

/// Drops every payload that is not in `keep`; `moved` hears of those that lie elsewhere now or nowhere, `step` after each change on
/// disk.
pub(crate) fn retain(
    mut work: Work<'_>,
    keep: &HashSet<Digest>,
    moved: &mut dyn FnMut(&Digest),
    step: &mut dyn FnMut(),
) -> Result<Freed, CacheError> {
    let before = lengths(work.packs)?;
    let (living, dead): (Vec<_>, Vec<_>) =
        locations::all(work.index)?.into_iter().partition(|(digest, _)| keep.contains(digest));
    let mut freed = Freed {
        payloads: dead.len() as u64,
        payload_bytes: dead.iter().map(|(_, location)| location.len).sum(),
        pack_bytes: 0,
    };
    dead.iter().for_each(|(digest, _)| moved(digest));
    locations::forget_all(work.index, &dead)?;
    work.index.flush()?;
    step();
    let mut by_pack: HashMap<u32, Vec<(Digest, Location)>> = HashMap::new();
    for (digest, location) in living {
        by_pack.entry(location.pack).or_default().push((digest, location));
    }
    let mut wasteful = Vec::new();
    for (&pack, &len) in &before {
        let mut living = by_pack.remove(&pack).unwrap_or_default();
        let used: u64 =
            living.iter().map(|(_, location)| location.end() - location.offset + HEADER_BYTES).sum();
        if len == HEADER_BYTES + used || !is_ours(work.packs, pack)? {
            continue;
        }
        living.sort_unstable_by_key(|(_, location)| *location);
        // All of them, before anything is copied: a copy must not go to a pack that is removed after it.
        work.leave(pack)?;
        wasteful.push((pack, living));
    }
    for (pack, living) in wasteful {
        work.copy(&living, moved, step)?;
        let path = work.packs.path(pack);
        work.packs.forget_pack(pack);
        fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
        step();
        locations::set_end(work.index, pack, None)?;
    }
    work.index.flush()?;
    step();
    let after: u64 = lengths(work.packs)?.values().sum();
    freed.pack_bytes = before.values().sum::<u64>().saturating_sub(after);
    Ok(freed)
}

impl Work<'_> {
    /// Makes sure that nothing is written to `pack` any more.
    fn leave(&mut self, pack: u32) -> Result<(), CacheError> {
        if self.tail.is_open(pack) { self.tail.retire(self.packs) } else { Ok(()) }
    }

    /// Copies payloads to the open pack, or a new one, and then names them there. A damaged one is dropped.
    fn copy(
        &mut self,
        living: &[(Digest, Location)],
        moved: &mut dyn FnMut(&Digest),
        step: &mut dyn FnMut(),
    ) -> Result<(), CacheError> {
        for (digest, location) in living {
            moved(digest);
            match self.packs.read(location)?.filter(|payload| Digest::of(payload) == *digest) {
                Some(payload) => {
                    self.tail.append(self.packs, digest, Source::Bytes(&payload), self.limit)?;
                }
                None => {
                    let pack = self.packs.path(location.pack);
                    let (pack, offset) = (pack.display(), location.offset);
                    tracing::warn!(
                        "the cache's pack file {pack} is damaged at byte {offset}; dropping {digest}"
                    );
                    locations::forget(self.index, digest, location)?;
                }
            }
        }
        step();
        let entries = self.tail.sync(self.packs)?;
        step();
        locations::record(self.index, &entries)?;
        step();
        self.index.flush()?;
        step();
        Ok(())
    }
}

/// Whether a pack has our header: what is foreign is left alone.
fn is_ours(packs: &Packs, pack: u32) -> Result<bool, CacheError> {
    let header = map_file(&packs.path(pack), HEADER_BYTES)?;
    Ok(header.is_some_and(|header| *header == pack_header(pack)))
}

/// The lengths of all packs.
fn lengths(packs: &Packs) -> Result<BTreeMap<u32, u64>, CacheError> {
    let length = |pack| {
        let path = packs.path(pack);
        let metadata = path.metadata().map_err(CacheError::io("read the size of", &path))?;
        Ok((pack, metadata.len()))
    };
    packs.list()?.into_iter().map(length).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Cache, Holder, Wait, append::Appender};

    fn open(dir: &Path) -> Cache {
        let holder = Holder { pid: 1, what: "test".into(), since_unix: 0 };
        Cache::open(dir, &holder, Wait::No).expect("free and writable")
    }

    fn payload(i: u8) -> Vec<u8> {
        vec![i; 50 + 40 * usize::from(i)]
    }

    fn copy_dir(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("writable");
        for entry in fs::read_dir(from).expect("a folder") {
            let path = entry.expect("readable").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                copy_dir(&path, &target)
            } else {
                fs::copy(&path, &target).map(drop).expect("writable")
            }
        }
    }

    /// Several packs lose some of their payloads at once, the one that is being written among them: what stays of the first is copied,
    /// and must not go with the last.
    #[test]
    fn every_pack_may_have_dead_payloads() {
        for count in 1..24 {
            for step in 1..5 {
                let dir = tempfile::tempdir().expect("a temporary folder");
                let packs = Packs::new(dir.path().to_owned());
                let index = Index::open(&dir.path().join("index")).expect("a new index");
                let appender = Appender::new(&packs, None, 0, 1024).expect("nothing to open");
                let payloads: Vec<Vec<u8>> = (0..count).map(|i| vec![i; 100]).collect();
                for bytes in &payloads {
                    let item = vec![(Digest::of(bytes), Source::Bytes(bytes))];
                    let ticket = appender.append(&packs, item).expect("written");
                    appender.commit(&packs, &index, ticket).expect("synced");
                }
                let keep: HashSet<Digest> =
                    payloads.iter().step_by(step).map(|bytes| Digest::of(bytes)).collect();
                appender
                    .exclusive(&packs, &index, |tail, limit| {
                        let work = Work { packs: &packs, index: &index, tail, limit };
                        retain(work, &keep, &mut |_| {}, &mut || {})
                    })
                    .expect("retained");
                for bytes in &payloads {
                    let found = locations::find(&index, &Digest::of(bytes)).expect("readable");
                    let found =
                        found.map(|location| packs.read(&location).expect("readable").expect("covered"));
                    let kept = keep.contains(&Digest::of(bytes)).then_some(bytes.as_slice());
                    assert_eq!(found.as_deref(), kept, "{count} payloads, one in {step} kept");
                }
            }
        }
    }

    /// A process that is killed between two steps leaves the folder as it is then: every such state holds what was to be kept.
    #[test]
    fn stopped_anywhere_it_has_lost_nothing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = open(dir.path());
        for i in 0..12 {
            cache.put(&payload(i)).expect("stored");
        }
        let keep: HashSet<Digest> = (0..12).filter(|i| i % 3 != 0).map(|i| Digest::of(&payload(i))).collect();
        let mut states = Vec::new();
        let freed = cache.retain_watched(&keep, &mut || {
            let state = tempfile::tempdir().expect("a temporary folder");
            copy_dir(dir.path(), state.path());
            states.push(state);
        });
        assert_eq!(freed.expect("retained").payloads, 4);
        assert!(states.len() >= 7, "{} states", states.len());
        for state in &states {
            for lost_index in [false, true] {
                let copy = tempfile::tempdir().expect("a temporary folder");
                copy_dir(state.path(), copy.path());
                if lost_index {
                    fs::remove_dir_all(copy.path().join("v1/index")).expect("removable");
                }
                let cache = open(copy.path());
                let whole = |cache: &Cache| {
                    for i in (0..12).filter(|i| i % 3 != 0) {
                        let found = cache.get(&Digest::of(&payload(i))).expect("readable");
                        assert_eq!(*found.expect("kept"), *payload(i));
                    }
                };
                whole(&cache);
                assert!(cache.verify(&mut |_, _| ()).expect("readable").is_empty());
                cache.retain(&keep).expect("retained");
                assert_eq!(cache.usage().expect("readable").payloads, 8);
                cache.put(b"new").expect("stored");
                drop(cache);
                let cache = open(copy.path());
                whole(&cache);
                assert!(cache.contains(&Digest::of(b"new")).expect("readable"));
            }
        }
    }
}
