//! Shards: the files that hold records' bytes, known by the digest of their content.
//!
//! A path or an embedded name enters, [`Shard`] leaves; [`Shards`] finds bytes again at run time. A `.tar`, a
//! `.tar.gz` of it and the embedded copy have one digest, so moving or packing data changes no key.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use memmap2::Mmap;

use crate::{
    digest::{self, Digest},
    emoji,
    folder::Folder,
    record::Part,
};

/// A shard that cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file cannot be opened, mapped or decompressed.
    #[error("cannot read shard `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The binary embeds no such file.
    #[error("no embedded file is called `{0}`")]
    NotEmbedded(String),
    /// An embedded file is damaged.
    #[error("the embedded file `{name}` is damaged")]
    Damaged {
        /// Its name.
        name: String,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// A part names a shard that was not inserted.
    #[error("no shard with digest {} is open", digest::to_hex(.0))]
    Unknown(Digest),
    /// The shard does not hold the bytes that were scanned.
    #[error("shard `{0}` no longer holds the bytes that were scanned")]
    Changed(String),
}

/// An open shard; clones share its bytes.
#[derive(Clone)]
pub struct Shard {
    /// The file's name without folders, and without `.gz` where it was compressed.
    pub name: String,
    /// BLAKE3 of the decompressed bytes; of a folder, [`Folder::digest`].
    pub digest: Digest,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Folder(Arc<Folder>),
    /// A folder that was listed by an earlier run; its files are checked one by one.
    FolderAt(PathBuf),
}

impl Shard {
    /// Opens a shard: maps a `.tar`, decompresses a `.tar.gz` or `.tgz`.
    ///
    /// # Errors
    /// [`ShardError::Read`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ShardError> {
        let path = path.as_ref();
        let read = |source| ShardError::Read { path: path.to_owned(), source };
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            return Ok(Self::from_folder(Folder::open(path).map_err(read)?));
        }
        match tar_name(&file_name) {
            Some(name) => Ok(Self::from_bytes(name, Arc::new(decompress(path).map_err(read)?))),
            None => Ok(Self::from_bytes(file_name, Arc::new(map(path).map_err(read)?))),
        }
    }

    /// Opens a shard whose digest is known from an earlier look at the same file: it is not read whole again. Every
    /// part is still checked when its bytes are asked for.
    ///
    /// # Errors
    /// [`ShardError::Read`].
    pub fn open_known(path: impl AsRef<Path>, digest: Digest) -> Result<Self, ShardError> {
        let path = path.as_ref();
        let read = |source| ShardError::Read { path: path.to_owned(), source };
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (name, content) = if path.is_dir() {
            (file_name, Content::FolderAt(path.to_owned()))
        } else {
            match tar_name(&file_name) {
                Some(name) => (name, Content::Bytes(Arc::new(decompress(path).map_err(read)?))),
                None => (file_name, Content::Bytes(Arc::new(map(path).map_err(read)?))),
            }
        };
        Ok(Self { name, digest, content })
    }

    /// A shard over bytes whose digest is known: those of an artifact.
    pub fn known_bytes(
        name: impl Into<String>,
        digest: Digest,
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    ) -> Self {
        Self { name: name.into(), digest, content: Content::Bytes(bytes) }
    }

    /// The same shard under another name.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Whether this is a folder of which only the place is known.
    pub fn is_unlisted_folder(&self) -> bool {
        matches!(self.content, Content::FolderAt(_))
    }

    /// A folder as a shard.
    pub fn from_folder(folder: Folder) -> Self {
        let name =
            folder.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, digest: folder.digest(), content: Content::Folder(Arc::new(folder)) }
    }

    /// Opens a file of the embedded emoji pack, such as `train-0000.tar`.
    ///
    /// # Errors
    /// [`ShardError::NotEmbedded`], [`ShardError::Damaged`].
    pub fn embedded(name: &str) -> Result<Self, ShardError> {
        let file = emoji::find(name).ok_or_else(|| ShardError::NotEmbedded(name.to_owned()))?;
        let bytes = file.bytes().map_err(|source| ShardError::Damaged { name: name.to_owned(), source })?;
        Ok(Self::from_bytes(name.to_owned(), Arc::new(bytes)))
    }

    /// A shard over bytes in memory.
    pub fn from_bytes(name: impl Into<String>, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let digest = digest::of((*bytes).as_ref());
        Self { name: name.into(), digest, content: Content::Bytes(bytes) }
    }

    /// The decompressed bytes; none of a folder.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.content {
            Content::Bytes(bytes) => (**bytes).as_ref(),
            Content::Folder(_) | Content::FolderAt(_) => &[],
        }
    }

    /// The listing, if this is a folder that was listed.
    pub fn folder(&self) -> Option<&Folder> {
        match &self.content {
            Content::Folder(folder) => Some(folder),
            Content::Bytes(_) | Content::FolderAt(_) => None,
        }
    }

    /// The part's bytes, whatever they are; `None` if they are not there.
    fn part(&self, part: &Part) -> Option<Cow<'_, [u8]>> {
        let root = match &self.content {
            Content::Bytes(bytes) => {
                let (start, len) = (usize::try_from(part.offset).ok()?, usize::try_from(part.len).ok()?);
                return (**bytes).as_ref().get(start..start.checked_add(len)?).map(Cow::Borrowed);
            }
            Content::Folder(folder) => &folder.root,
            Content::FolderAt(root) => root,
        };
        if part.path.is_empty() || part.path.split('/').any(|step| matches!(step, "" | "." | "..")) {
            return None;
        }
        let file = File::open(root.join(&part.path)).ok()?;
        let mut bytes = Vec::new();
        file.take(part.len.checked_add(1)?).read_to_end(&mut bytes).ok()?;
        Some(Cow::Owned(bytes))
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = digest::to_hex(&self.digest);
        f.debug_struct("Shard").field("name", &self.name).field("digest", &digest).finish_non_exhaustive()
    }
}

/// The name of the tar inside a compressed one; `None` for a file that is not compressed.
fn tar_name(file_name: &str) -> Option<String> {
    let lower = file_name.to_ascii_lowercase();
    let stem = |suffix: &str| lower.ends_with(suffix).then(|| &file_name[..file_name.len() - suffix.len()]);
    stem(".tar.gz").or_else(|| stem(".tgz")).map(|stem| format!("{stem}.tar"))
}

/// Decompresses into a temporary file, so that a shard larger than memory can be read.
fn decompress(path: &Path) -> io::Result<Mmap> {
    let mut file = tempfile::tempfile()?;
    // A gzip file may consist of several members; all of them count.
    io::copy(&mut MultiGzDecoder::new(File::open(path)?), &mut file)?;
    // SAFETY: the file has no name, so nobody else can change it.
    unsafe { Mmap::map(&file) }
}

fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read only. A file that another process rewrites meanwhile changes under us; shards are
    // written once, and `Shards::bytes` compares each part with its digest before anyone uses it.
    unsafe { Mmap::map(&file) }
}

/// Finds the bytes of parts at run time.
#[derive(Debug, Clone, Default)]
pub struct Shards(HashMap<Digest, Shard>);

impl Shards {
    /// No shard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a shard's bytes available; inserting it again changes nothing.
    pub fn insert(&mut self, shard: Shard) {
        self.0.entry(shard.digest).or_insert(shard);
    }

    /// The shard of this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Shard> {
        self.0.get(digest)
    }

    /// The part's bytes, checked against its digest.
    ///
    /// # Errors
    /// [`ShardError::Unknown`] if its shard was not inserted, [`ShardError::Changed`] if the bytes are others.
    pub fn bytes(&self, part: &Part) -> Result<Cow<'_, [u8]>, ShardError> {
        let shard = self.get(&part.shard).ok_or(ShardError::Unknown(part.shard))?;
        shard
            .part(part)
            .filter(|bytes| digest::of(bytes) == part.digest)
            .ok_or_else(|| ShardError::Changed(shard.name.clone()))
    }
}

impl FromIterator<Shard> for Shards {
    fn from_iter<I: IntoIterator<Item = Shard>>(shards: I) -> Self {
        Self(shards.into_iter().map(|shard| (shard.digest, shard)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    #[test]
    fn a_tar_and_its_gzip_are_one_shard() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("a-0000.tar"), dir.path().join("a-0000.tar.gz"));
        std::fs::write(&plain, b"some bytes").unwrap();
        let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::best());
        encoder.write_all(b"some bytes").unwrap();
        encoder.finish().unwrap();
        let (plain, packed) = (Shard::open(&plain).unwrap(), Shard::open(&packed).unwrap());
        assert_eq!((&plain.name, plain.digest), (&packed.name, packed.digest));
        assert_eq!(plain.as_bytes(), packed.as_bytes());
    }

    #[test]
    fn a_missing_file_and_a_torn_gzip_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let torn = dir.path().join("torn.tgz");
        std::fs::write(&torn, [0x1f, 0x8b, 8, 0]).unwrap();
        assert!(matches!(Shard::open(dir.path().join("none.tar")), Err(ShardError::Read { .. })));
        assert!(matches!(Shard::open(torn), Err(ShardError::Read { .. })));
        assert!(matches!(Shard::embedded("none.tar"), Err(ShardError::NotEmbedded(_))));
    }

    /// A process's memory opens, also for root, and can neither be read from its start nor mapped.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.tar", "a.tar.gz"] {
            let path = dir.path().join(name);
            std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
            let error = Shard::open(&path).unwrap_err();
            assert!(matches!(error, ShardError::Read { .. }) && error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn bytes_are_checked() {
        let shard = Shard::from_bytes("a.tar", Arc::new(b"0123456789".to_vec()));
        let path = String::new();
        let part = Part { shard: shard.digest, path, offset: 2, len: 3, digest: digest::of(b"234") };
        let mut shards = Shards::new();
        assert!(matches!(shards.bytes(&part), Err(ShardError::Unknown(_))));
        shards.insert(shard);
        assert_eq!(*shards.bytes(&part).unwrap(), *b"234");
        let wrong = |offset, len| Part { offset, len, ..part.clone() };
        for part in [wrong(3, 3), wrong(9, 3), wrong(u64::MAX, 3), wrong(2, u64::MAX)] {
            assert!(matches!(shards.bytes(&part), Err(ShardError::Changed(_))));
        }
    }
}
