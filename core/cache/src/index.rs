//! [`Index`]: the sled database of a cache, and how its damage is told apart from a refusal of the system.
//!
//! Every access goes through [`Index::ask`]. sled 0.34 answers some damage with an error and some with a panic;
//! both end here: the index is marked, later reads find nothing, later writes fail, and the next open rebuilds it.
//! The text of a caught panic still reaches standard error: the panic hook belongs to the program.
//! What the keys and values mean is for [`crate::locations`] and [`crate::values`].

use std::{
    ffi::OsStr,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::error::CacheError;

/// Memory that sled may use to keep pages.
const SLED_CACHE_BYTES: u64 = 32 << 20;
/// sled lets go of its own lock a moment after its last handle is dropped; how often, 10 ms apart, we try again.
const SLED_LOCK_TRIES: usize = 200;

/// An open sled database that never panics at its users.
#[derive(Debug)]
pub(crate) struct Index {
    dir: PathBuf,
    /// `None` only while dropping.
    db: Option<sled::Db>,
    damaged: AtomicBool,
}

/// Why sled did not answer.
enum Refusal {
    /// Its files are not what it wrote; the text is for the log.
    Damage(String),
    /// The system said no.
    System(io::Error),
}

impl Index {
    /// Opens or makes the database in `dir`. A damaged one is moved aside to `DIR.damaged-N` and a new one is made;
    /// its lack of entries then tells the caller to read the packs.
    pub(crate) fn open(dir: &Path) -> Result<Self, CacheError> {
        let mark = mark_path(dir);
        if mark.exists() {
            move_aside(dir, "it was found damaged in use")?;
        }
        let db = match open_sled(dir) {
            Err(Refusal::Damage(why)) => reopen_damaged(dir, &why)?,
            db => db,
        };
        let db = db.map_err(|refusal| refusal.into_error("open the cache index", dir))?;
        Ok(Self { dir: dir.to_owned(), db: Some(db), damaged: AtomicBool::new(false) })
    }

    /// Asks sled; `None` if the answer is lost to damage.
    pub(crate) fn ask<T>(
        &self,
        action: &'static str,
        question: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<Option<T>, CacheError> {
        if self.damaged.load(Ordering::Acquire) {
            return Ok(None);
        }
        let db = self.db.as_ref().expect("taken only by drop");
        match guarded(|| question(db)) {
            Ok(answer) => Ok(Some(answer)),
            Err(Refusal::Damage(why)) => {
                self.mark_damaged(&why);
                Ok(None)
            }
            Err(system) => Err(system.into_error(action, &self.dir)),
        }
    }

    /// Refuses an index that is known to be damaged.
    pub(crate) fn check(&self) -> Result<(), CacheError> {
        let damaged = self.damaged.load(Ordering::Acquire);
        if damaged { Err(CacheError::IndexDamaged(self.dir.clone())) } else { Ok(()) }
    }

    /// Asks sled for a change, which damage makes fail.
    pub(crate) fn change<T>(
        &self,
        action: &'static str,
        question: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, CacheError> {
        let answer = self.ask(action, question)?;
        answer.ok_or_else(|| CacheError::IndexDamaged(self.dir.clone()))
    }

    /// Puts everything that was changed on disk.
    pub(crate) fn flush(&self) -> Result<(), CacheError> {
        self.change("sync the cache index", |db| db.flush()).map(drop)
    }

    /// Bytes that the database takes on disk.
    pub(crate) fn bytes_on_disk(&self) -> Result<u64, CacheError> {
        Ok(self.ask("read the size of", sled::Db::size_on_disk)?.unwrap_or(0))
    }

    /// Stops using sled, and tells the next open to rebuild.
    fn mark_damaged(&self, why: &str) {
        if !self.damaged.swap(true, Ordering::AcqRel) {
            let dir = self.dir.display();
            tracing::warn!("the cache index {dir} is damaged ({why}); it is rebuilt at the next start");
            if let Err(error) = fs::write(mark_path(&self.dir), why) {
                tracing::warn!("failed to mark {dir} as damaged: {error}");
            }
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.check().is_ok() {
            match guarded(|| db.flush()) {
                Ok(_) => {}
                Err(Refusal::Damage(why)) => self.mark_damaged(&why),
                Err(Refusal::System(error)) => {
                    tracing::warn!("failed to sync the cache index {}: {error}", self.dir.display());
                }
            }
        }
        if self.check().is_ok() {
            // All that matters is flushed; a panic in sled's own clean-up changes nothing.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
        } else {
            // sled writes when it is dropped, and may panic again: its memory is given up instead.
            std::mem::forget(db);
        }
    }
}

/// The folders that earlier damage left beside the index.
pub(crate) fn damaged_dirs(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let dir = dir.to_owned();
    (1..).map(move |n| dir.with_extension(format!("damaged-{n}"))).take_while(|path| path.exists())
}

/// Calls sled, taking its panics for damage.
fn guarded<T>(question: impl FnOnce() -> sled::Result<T>) -> Result<T, Refusal> {
    match catch_unwind(AssertUnwindSafe(question)) {
        Ok(answer) => answer.map_err(Refusal::from),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Refusal::Damage(text.unwrap_or("sled panicked").to_owned()))
        }
    }
}

fn open_sled(dir: &Path) -> Result<sled::Db, Refusal> {
    // Set as its own default is not: no thread that flushes by the clock.
    let config = sled::Config::new().path(dir).cache_capacity(SLED_CACHE_BYTES).flush_every_ms(None);
    for _ in 1..SLED_LOCK_TRIES {
        match guarded(|| config.open()) {
            Err(Refusal::System(error)) if is_sled_lock(&error) => thread::sleep(Duration::from_millis(10)),
            answer => return answer,
        }
    }
    guarded(|| config.open())
}

/// Opens what did not open, with the help of its log alone, or else anew.
fn reopen_damaged(dir: &Path, why: &str) -> Result<Result<sled::Db, Refusal>, CacheError> {
    tracing::warn!("the cache index {} is damaged ({why}); trying with its log alone", dir.display());
    remove_derived(dir);
    // Whatever stands in the way now: an attempt that panicked may even have left sled's own lock behind.
    if let Ok(db) = open_sled(dir) {
        return Ok(Ok(db));
    }
    move_aside(dir, why)?;
    Ok(open_sled(dir))
}

/// The kind and text that sled 0.34 gives to a database which is still open.
fn is_sled_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

impl From<sled::Error> for Refusal {
    fn from(error: sled::Error) -> Self {
        use io::ErrorKind::{
            InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, Other, UnexpectedEof,
        };
        match error {
            // These speak of the files' shape; all other kinds (a full disk, permissions) come from the system. The
            // kind is all there is to go by: sled drops the error number when it repeats an earlier error.
            sled::Error::Io(error) => match error.kind() {
                Other if is_sled_lock(&error) => Self::System(error),
                InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound | Other
                | UnexpectedEof => Self::Damage(error.to_string()),
                _ => Self::System(error),
            },
            damage => Self::Damage(damage.to_string()),
        }
    }
}

impl Refusal {
    fn into_error(self, action: &'static str, dir: &Path) -> CacheError {
        match self {
            Self::System(source) => CacheError::io(action, dir)(source),
            Self::Damage(_) => CacheError::IndexDamaged(dir.to_owned()),
        }
    }
}

/// Exists while the index is known to be damaged.
fn mark_path(dir: &Path) -> PathBuf {
    dir.with_extension("suspect")
}

/// Renames the database out of the way, so that nothing that could still be saved is lost.
fn move_aside(dir: &Path, why: &str) -> Result<(), CacheError> {
    let taken = damaged_dirs(dir).count();
    let aside = dir.with_extension(format!("damaged-{}", taken + 1));
    tracing::warn!(
        "the cache index {} is damaged ({why}); moved to {}, rebuilding from the pack files",
        dir.display(),
        aside.display()
    );
    match fs::rename(dir, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CacheError::io("move aside", dir)(error));
        }
        _ => {}
    }
    let mark = mark_path(dir);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io("remove", &mark)(error)),
        _ => Ok(()),
    }
}

/// Removes what sled can make again from its log and its settings: the snapshots, which only save it time, and the
/// note of its settings, which are always [`open_sled`]'s. What cannot be removed makes the next open fail, which
/// is handled.
fn remove_derived(dir: &Path) {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let derived = |name: &OsStr| name == "conf" || name.to_string_lossy().starts_with("snap.");
    for file in files.filter(|file| derived(&file.file_name())) {
        if let Err(error) = fs::remove_file(file.path()) {
            tracing::warn!("failed to remove {}: {error}", file.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(trouble: fn(&sled::Db) -> sled::Result<()>) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let dir = dir.path().join("index");
        let index = Index::open(&dir).expect("a new index");
        index.change("write", |db| db.insert("key", "value")).expect("a sound index");
        assert_eq!(index.ask("read", trouble).expect("damage is no error"), None);
        assert_eq!(index.ask("read", |db| db.get("key")).expect("damage is no error"), None);
        let refused = index.change("write", |db| db.insert("key", "other")).expect_err("damaged");
        assert!(refused.to_string().contains("start again"), "{refused}");
        drop(index);
        let rebuilt = Index::open(&dir).expect("a new index");
        assert_eq!(rebuilt.ask("read", |db| db.get("key")).expect("sound"), Some(None));
        assert_eq!(damaged_dirs(&dir).count(), 1);
        assert!(!mark_path(&dir).exists());
    }

    #[test]
    fn an_error_of_sled_in_use_makes_misses_then_a_new_index() {
        check(|_| Err(sled::Error::Corruption { at: None, bt: () }));
    }

    #[test]
    fn a_panic_of_sled_in_use_makes_misses_then_a_new_index() {
        check(|_| panic!("as sled does"));
    }

    #[test]
    fn a_refusal_of_the_system_is_an_error_and_no_damage() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let index = Index::open(&dir.path().join("index")).expect("a new index");
        let full = || sled::Error::Io(io::Error::from_raw_os_error(28));
        let error = index.ask("write", |_| Err::<(), _>(full())).expect_err("the disk is full");
        assert!(error.to_string().contains("failed to write"), "{error}");
        assert!(!mark_path(&index.dir).exists());
    }
}
