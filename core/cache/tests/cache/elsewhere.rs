//! Rows whose chunks lie in another place, and reads that are checked every time.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use heddle_cache::{Cache, CacheError, Digest, Payload, RowChunk, RowSet, RowsElsewhere};

use crate::util::{files, noise, open, temp};

const ROW: usize = 16;

/// Another cache, with what was asked of it; what is asked for is brought into the first.
#[derive(Debug)]
struct Other {
    there: Cache,
    here: Cache,
    brought: Mutex<Vec<Digest>>,
    gone: Mutex<BTreeSet<Digest>>,
}

impl RowsElsewhere for Other {
    fn chunks(&self, set: &Digest) -> Vec<RowChunk> {
        RowChunk::of_set(&self.there, set).expect("readable")
    }

    fn payload(&self, digest: &Digest) -> Result<Option<Payload>, CacheError> {
        if let Some(found) = self.here.get(digest)? {
            return Ok(Some(found));
        }
        if self.gone.lock().expect("whole").contains(digest) {
            return Ok(None);
        }
        self.brought.lock().expect("whole").push(*digest);
        let found = self.there.get(digest)?;
        found.map_or(Ok(None), |found| self.here.get(&self.here.put(&found)?))
    }
}

fn keys(range: std::ops::Range<u64>) -> Vec<Digest> {
    range.map(|i| Digest::of(&i.to_le_bytes())).collect()
}

fn fill(cache: &Cache, set: Digest, range: std::ops::Range<u64>) {
    let mut rows = RowSet::open(cache, set, ROW).expect("readable");
    let bytes: Vec<u8> = range.clone().flat_map(|i| noise(i, ROW)).collect();
    rows.insert(&keys(range), &bytes, 1.0).expect("stored");
}

#[test]
fn chunks_come_when_a_row_of_them_is_read() {
    let (dir, far) = (temp(), temp());
    let (here, there) = (open(dir.path()), open(far.path()));
    let set = Digest::of(b"tokens");
    fill(&here, set, 0..4);
    fill(&there, set, 2..8);
    fill(&there, set, 8..12);
    let (brought, gone) = (Mutex::default(), Mutex::default());
    let other = Arc::new(Other { there, here: here.clone(), brought, gone });
    let rows = RowSet::open_over(&here, Some(other.clone()), set, ROW).expect("readable");
    assert_eq!(rows.len(), 12);
    let asked = |other: &Other| other.brought.lock().expect("whole").len();
    assert_eq!(asked(&other), 2, "the keys of two chunks");
    // What is here is read here.
    assert_eq!(rows.get(&keys(3..4)[0]).expect("works").as_deref(), Some(&*noise(3, ROW)));
    assert_eq!((asked(&other), RowChunk::of_set(&here, &set).expect("readable").len()), (2, 1));
    assert_eq!(rows.get(&keys(6..7)[0]).expect("works").as_deref(), Some(&*noise(6, ROW)));
    assert_eq!(rows.get(&keys(7..8)[0]).expect("works").as_deref(), Some(&*noise(7, ROW)));
    assert_eq!((asked(&other), RowChunk::of_set(&here, &set).expect("readable").len()), (3, 2));
    // The next one finds it here.
    drop(rows);
    let alone = RowSet::open(&here, set, ROW).expect("readable");
    assert_eq!(alone.len(), 8);
}

#[test]
fn a_chunk_that_cannot_be_had_is_missing() {
    let (dir, far) = (temp(), temp());
    let (here, there) = (open(dir.path()), open(far.path()));
    let set = Digest::of(b"tokens");
    fill(&there, set, 0..4);
    let chunk = RowChunk::of_set(&there, &set).expect("readable")[0];
    let gone = Mutex::new(BTreeSet::from([chunk.rows]));
    let other = Arc::new(Other { there, here: here.clone(), brought: Mutex::default(), gone });
    let rows = RowSet::open_over(&here, Some(other), set, ROW).expect("readable");
    assert_eq!(rows.missing(keys(0..4)).expect("works"), keys(0..4));
    assert_eq!(RowChunk::of_set(&here, &set).expect("readable"), []);
}

/// What changes on disk behind a payload that was read before: found at the next read, or not.
#[test]
fn every_read_is_checked_if_asked() {
    let dir = temp();
    let cache = open(dir.path());
    let set = Digest::of(b"tokens");
    fill(&cache, set, 0..4);
    let digest = cache.put(&noise(99, 300)).expect("stored");
    let rows = RowSet::open(&cache, set, ROW).expect("readable");
    let key = keys(2..3)[0];
    assert!(cache.get(&digest).expect("works").is_some() && rows.get(&key).expect("works").is_some());
    let pack = &files(&dir.path().join("v1/packs"))[0];
    let mut bytes = fs::read(pack).expect("readable");
    for wanted in [noise(99, 300), noise(2, ROW)] {
        let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("stored there");
        bytes[at] ^= 1;
    }
    fs::write(pack, bytes).expect("writable");
    assert!(cache.get(&digest).expect("works").is_some() && rows.get(&key).expect("works").is_some());
    cache.check_every_read();
    assert!(cache.get(&digest).expect("works").is_none());
    assert!(rows.get(&key).expect("works").is_none());
    assert!(!cache.contains(&digest).expect("works"), "it was dropped");
}
