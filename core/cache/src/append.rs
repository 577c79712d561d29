//! [`Appender`]: the one writer of pack files.
//!
//! Payloads go in, tickets come out; a payload is stored once its ticket is committed. Appends are serialised;
//! a commit syncs and then indexes everything appended so far, so that threads which put at the same time share
//! one sync. Nothing is named in the index before its bytes are on disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use heddle_graph::digest::Digest;

use crate::{
    error::CacheError,
    format::{HEADER_BYTES, Location, entry_header, pack_header},
    index::Index,
    locations,
    pack::Packs,
};

/// A pack that has reached this length gets no further entries.
pub(crate) const PACK_LIMIT_BYTES: u64 = 1 << 30;
/// After this many bytes, and this many entries, the index is synced too, which bounds what a crash leaves to scan.
const INDEX_SYNC_BYTES: u64 = 64 << 20;
const INDEX_SYNC_ENTRIES: usize = 4096;

/// Appends to the packs of one folder.
#[derive(Debug)]
pub(crate) struct Appender {
    limit: u64,
    tail: Mutex<Tail>,
    committed: Mutex<Committed>,
}

/// The pack that is being written.
#[derive(Debug)]
pub(crate) struct Tail {
    open: Option<OpenPack>,
    /// Number of the next pack to make.
    next: u32,
    /// Written, but not yet synced and indexed.
    pending: Vec<(Digest, Location)>,
    /// How many entries were ever appended: the ticket of the latest.
    appended: u64,
    /// A sync failed: the system may have dropped bytes that a later sync would not miss.
    failed: bool,
}

#[derive(Debug)]
struct OpenPack {
    number: u32,
    file: Arc<File>,
    /// Where the next entry's header goes; bytes behind it are of no one.
    len: u64,
}

#[derive(Debug, Default)]
struct Committed {
    /// Every entry up to this ticket is synced and indexed.
    ticket: u64,
    /// Payload bytes since the index was last synced.
    bytes: u64,
    /// Entries since the index was last synced.
    entries: usize,
}

/// Says when an entry will be stored: see [`Appender::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Where the bytes of a payload come from.
pub(crate) enum Source<'a> {
    /// From memory.
    Bytes(&'a [u8]),
    /// The first `len` bytes of a file.
    File(&'a mut File, u64),
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }
}

impl Appender {
    /// Goes on after `last`, a pack and its length, if there is one fit for it; new packs count from `next`.
    pub(crate) fn new(
        packs: &Packs,
        last: Option<(u32, u64)>,
        next: u32,
        limit: u64,
    ) -> Result<Self, CacheError> {
        let open = match last {
            Some((number, len)) => Some(OpenPack { number, file: open_file(&packs.path(number))?, len }),
            None => None,
        };
        let tail = Mutex::new(Tail { open, next, pending: Vec::new(), appended: 0, failed: false });
        Ok(Self { limit, tail, committed: Mutex::default() })
    }

    /// Writes payloads, in order, without syncing them.
    pub(crate) fn append(&self, packs: &Packs, items: Vec<(Digest, Source)>) -> Result<Ticket, CacheError> {
        let mut tail = locked(&self.tail);
        for (digest, source) in items {
            tail.append(packs, &digest, source, self.limit)?;
        }
        Ok(Ticket(tail.appended))
    }

    /// Returns once everything up to `ticket` is on disk and in the index.
    pub(crate) fn commit(&self, packs: &Packs, index: &Index, ticket: Ticket) -> Result<(), CacheError> {
        let mut committed = locked(&self.committed);
        if committed.ticket >= ticket.0 {
            return Ok(());
        }
        let (entries, appended) = self.sync(packs)?;
        if let Err(error) = locations::record(index, &entries) {
            // They are on disk: a later commit may still name them.
            locked(&self.tail).pending.splice(0..0, entries);
            return Err(error);
        }
        committed.ticket = appended;
        committed.bytes += entries.iter().map(|(_, location)| location.len).sum::<u64>();
        committed.entries += entries.len();
        if committed.bytes >= INDEX_SYNC_BYTES || committed.entries >= INDEX_SYNC_ENTRIES {
            index.flush()?;
            (committed.bytes, committed.entries) = (0, 0);
        }
        Ok(())
    }

    /// Syncs everything appended so far, without holding off appends; gives what is now fit for the index, and the
    /// ticket that this reaches.
    fn sync(&self, packs: &Packs) -> Result<(Vec<(Digest, Location)>, u64), CacheError> {
        let mut tail = locked(&self.tail);
        tail.check(packs)?;
        let (entries, appended) = (mem::take(&mut tail.pending), tail.appended);
        let Some(OpenPack { number, ref file, len }) = tail.open else { return Ok((entries, appended)) };
        let file = Arc::clone(file);
        drop(tail);
        if let Err(error) = file.sync_data() {
            locked(&self.tail).failed = true;
            return Err(CacheError::io("sync", &packs.path(number))(error));
        }
        packs.publish(number, len);
        Ok((entries, appended))
    }

    /// Commits what was appended, and then does `work` with the tail while all writers are held off.
    pub(crate) fn exclusive<T>(
        &self,
        packs: &Packs,
        index: &Index,
        work: impl FnOnce(&mut Tail, u64) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let mut committed = locked(&self.committed);
        let mut tail = locked(&self.tail);
        let entries = tail.sync(packs)?;
        if let Err(error) = locations::record(index, &entries) {
            tail.pending.splice(0..0, entries);
            return Err(error);
        }
        committed.ticket = tail.appended;
        let done = work(&mut tail, self.limit);
        committed.ticket = tail.appended;
        done
    }

    /// Starts over in a new pack, holding off all writers while `remove` removes the old ones.
    pub(crate) fn start_over<T>(
        &self,
        remove: impl FnOnce() -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let _no_commit = locked(&self.committed);
        let mut tail = locked(&self.tail);
        tail.open = None;
        tail.pending.clear();
        remove()
    }
}

impl Tail {
    /// Refuses to go on after a failed sync.
    fn check(&self, packs: &Packs) -> Result<(), CacheError> {
        if self.failed { Err(CacheError::SyncFailed(packs.dir().to_owned())) } else { Ok(()) }
    }

    /// Whether this is the pack that is being written.
    pub(crate) fn is_open(&self, pack: u32) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == pack)
    }

    /// Syncs everything appended so far and gives what is now fit for the index. [`Appender::sync`] does it without holding off appends.
    pub(crate) fn sync(&mut self, packs: &Packs) -> Result<Vec<(Digest, Location)>, CacheError> {
        self.check(packs)?;
        if let Some(OpenPack { number, file, len }) = &self.open {
            if let Err(error) = file.sync_data() {
                self.failed = true;
                return Err(CacheError::io("sync", &packs.path(*number))(error));
            }
            packs.publish(*number, *len);
        }
        Ok(mem::take(&mut self.pending))
    }

    /// Leaves the open pack for good. Syncs it, since commits sync only the pack that is open.
    pub(crate) fn retire(&mut self, packs: &Packs) -> Result<(), CacheError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if let Err(error) = open.file.sync_data() {
            self.failed = true;
            return Err(CacheError::io("sync", &packs.path(open.number))(error));
        }
        packs.publish(open.number, open.len);
        Ok(())
    }

    /// Writes one entry, or leaves the pack as it was.
    pub(crate) fn append(
        &mut self,
        packs: &Packs,
        digest: &Digest,
        source: Source,
        limit: u64,
    ) -> Result<(), CacheError> {
        self.check(packs)?;
        let open = self.pack_for(packs, source.len(), limit)?;
        let path = packs.path(open.number);
        let too_long = || CacheError::io("append to", &path)(io::ErrorKind::FileTooLarge.into());
        let location = Location::after_header(open.number, open.len, source.len()).ok_or_else(too_long)?;
        if let Err(error) = write_entry(&open.file, open.len, digest, source, &location) {
            // Half an entry is cut off; where even that fails, the pack is left alone and the next open cuts it.
            if open.file.set_len(open.len).is_err() {
                self.retire(packs)?;
            }
            return Err(CacheError::io("append to", &path)(error));
        }
        open.len = location.end();
        self.pending.push((*digest, location));
        self.appended += 1;
        Ok(())
    }

    /// The open pack if `len` more bytes fit into it, or a new one.
    fn pack_for(&mut self, packs: &Packs, len: u64, limit: u64) -> Result<&mut OpenPack, CacheError> {
        let fits = |open: &OpenPack| {
            open.len == HEADER_BYTES || open.len.saturating_add(HEADER_BYTES).saturating_add(len) <= limit
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.retire(packs)?;
            let number = self.next;
            self.open = Some(OpenPack { number, file: create(packs, number)?, len: HEADER_BYTES });
            self.next = self.next.saturating_add(1);
        }
        Ok(self.open.as_mut().expect("made above if there was none"))
    }
}

/// Writes header, payload and padding of one entry at `at`.
fn write_entry(file: &File, at: u64, digest: &Digest, source: Source, location: &Location) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, file);
    out.seek(SeekFrom::Start(at))?;
    out.write_all(&entry_header(digest, location.len))?;
    match source {
        Source::Bytes(bytes) => out.write_all(bytes)?,
        Source::File(from, len) => {
            from.seek(SeekFrom::Start(0))?;
            let copied = io::copy(&mut io::Read::take(from, len), &mut out)?;
            if copied < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    let padding = location.end() - location.offset - location.len;
    io::copy(&mut io::Read::take(io::repeat(0), padding), &mut out)?;
    out.flush()
}

/// Makes pack `number` with its header, and its name, durable.
fn create(packs: &Packs, number: u32) -> Result<Arc<File>, CacheError> {
    let path = packs.path(number);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let mut file = file.map_err(CacheError::io("create", &path))?;
    let written = file.write_all(&pack_header(number)).and_then(|()| file.sync_all());
    written.map_err(CacheError::io("write", &path))?;
    sync_dir(packs.dir())?;
    Ok(Arc::new(file))
}

/// Makes the names in a folder durable; Windows neither needs it nor lets a folder be opened.
fn sync_dir(dir: &Path) -> Result<(), CacheError> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(CacheError::io("sync", dir))
}

fn open_file(path: &Path) -> Result<Arc<File>, CacheError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map(Arc::new).map_err(CacheError::io("open for writing", path))
}

/// A panic of another thread while it held the lock leaves nothing half done: lengths change last.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        packs: Packs,
        index: Index,
        appender: Appender,
    }

    fn bench(limit: u64) -> Bench {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let packs = Packs::new(dir.path().to_owned());
        let index = Index::open(&dir.path().join("index")).expect("a new index");
        let appender = Appender::new(&packs, None, 0, limit).expect("nothing to open");
        Bench { dir, packs, index, appender }
    }

    impl Bench {
        fn put(&self, bytes: &[u8]) -> Location {
            let digest = Digest::of(bytes);
            let ticket =
                self.appender.append(&self.packs, vec![(digest, Source::Bytes(bytes))]).expect("written");
            self.appender.commit(&self.packs, &self.index, ticket).expect("synced");
            self.find(bytes).expect("indexed")
        }

        fn find(&self, bytes: &[u8]) -> Option<Location> {
            let location = locations::find(&self.index, &Digest::of(bytes)).expect("readable")?;
            assert_eq!(*self.packs.read(&location).expect("readable").expect("covered"), *bytes);
            Some(location)
        }
    }

    #[test]
    fn a_full_pack_is_followed_by_another() {
        let bench = bench(512);
        let packs = [100, 100, 100, 2000, 1].map(|len| bench.put(&vec![len as u8; len]).pack);
        // Two entries of 192 bytes fill a pack of 512; one that is larger than a pack gets one for itself.
        assert_eq!(packs, [0, 0, 1, 2, 3]);
        assert_eq!(bench.packs.list().expect("readable"), [0, 1, 2, 3]);
    }

    #[test]
    fn a_roll_over_within_one_commit_loses_nothing() {
        let bench = bench(256);
        let payloads: Vec<Vec<u8>> = (0..10).map(|i| vec![i; 90]).collect();
        let items = payloads.iter().map(|bytes| (Digest::of(bytes), Source::Bytes(bytes))).collect();
        let ticket = bench.appender.append(&bench.packs, items).expect("written");
        assert!(payloads.iter().all(|bytes| bench.find(bytes).is_none()), "named before it was synced");
        bench.appender.commit(&bench.packs, &bench.index, ticket).expect("synced");
        assert!(payloads.iter().all(|bytes| bench.find(bytes).is_some()));
        assert_eq!(locations::ends(&bench.index).expect("readable").len(), 10);
    }

    #[test]
    fn one_commit_serves_all_who_wait() {
        let bench = bench(PACK_LIMIT_BYTES);
        let [first, second] = [b"first", b"other"].map(|bytes: &[u8; 5]| {
            let items = vec![(Digest::of(bytes), Source::Bytes(bytes))];
            bench.appender.append(&bench.packs, items).expect("written")
        });
        assert!(first < second);
        bench.appender.commit(&bench.packs, &bench.index, first).expect("synced");
        assert!(bench.find(b"first").is_some() && bench.find(b"other").is_some());
        bench.appender.commit(&bench.packs, &bench.index, second).expect("nothing left to do");
    }

    #[test]
    fn half_an_entry_is_cut_off() {
        let bench = bench(PACK_LIMIT_BYTES);
        let before = bench.put(b"before");
        let path = bench.dir.path().join("short");
        std::fs::write(&path, [1; 100_000]).expect("writable");
        let mut short = File::open(&path).expect("readable");
        let items = vec![(Digest::of(b"?"), Source::File(&mut short, 200_000))];
        let error = bench.appender.append(&bench.packs, items).expect_err("100,000 bytes are missing");
        assert!(error.to_string().contains("000000.pack"), "{error}");
        let len = bench.packs.path(0).metadata().expect("a pack").len();
        assert_eq!(len, before.end());
        assert_eq!(bench.put(b"after").offset, before.end() + HEADER_BYTES);
    }
}
