//! A folder of files as one shard: its listing, with the digest of every file.
//!
//! A path enters, a [`Folder`] leaves. Links are followed; a loop of links, a file that cannot be read and a name that
//! is not UTF-8 are listed as broken, and the rest is used.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use walkdir::WalkDir;

use crate::digest::{Digest, FieldHasher};

/// A file below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Path below the folder, with forward slashes.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
}

/// A file or folder that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFile {
    /// Path below the folder.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// The files below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it lies.
    pub root: PathBuf,
    /// Files, sorted by path; hidden ones (`.name`) are left out.
    pub files: Vec<FolderFile>,
    /// What cannot be used, sorted by path.
    pub broken: Vec<BrokenFile>,
}

impl Folder {
    /// Lists a folder and hashes its files, on all threads of the current rayon pool.
    ///
    /// # Errors
    /// If the folder itself cannot be read.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::read_dir(root)?;
        let (mut paths, mut broken) = (Vec::new(), Vec::new());
        let visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
        };
        for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => match below(root, entry.path()) {
                    Some(path) => paths.push(path),
                    None => broken.push(BrokenFile {
                        path: entry.path().strip_prefix(root).unwrap_or(root).to_string_lossy().into_owned(),
                        message: "the name is not UTF-8".into(),
                    }),
                },
                Ok(_) => {}
                Err(error) => broken.push(broken_entry(root, &error)),
            }
        }
        paths.sort_unstable();
        let hashed: Vec<Result<FolderFile, BrokenFile>> =
            paths.into_par_iter().map(|path| hash(root, path)).collect();
        let mut files = Vec::with_capacity(hashed.len());
        for file in hashed {
            match file {
                Ok(file) => files.push(file),
                Err(file) => broken.push(file),
            }
        }
        broken.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root: root.to_owned(), files, broken })
    }

    /// Digest over all paths and contents; what is broken counts by its path.
    pub fn digest(&self) -> Digest {
        let hasher = FieldHasher::new("heddle folder 1");
        let hasher = self.files.iter().fold(hasher, |h, f| h.field(f.path.as_bytes()).field(&f.digest));
        self.broken.iter().fold(hasher, |h, f| h.field(f.path.as_bytes()).field(b"broken")).finish()
    }

    /// The file at a path below the folder.
    pub fn file(&self, path: &str) -> Option<&FolderFile> {
        let place = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(place)
    }
}

fn below(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> =
        path.strip_prefix(root).ok()?.components().map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
}

fn broken_entry(root: &Path, error: &walkdir::Error) -> BrokenFile {
    let path = error.path().and_then(|path| path.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    let message = match error.loop_ancestor() {
        Some(_) => "a link that leads back to a folder above it".into(),
        None => error.io_error().map_or_else(|| error.to_string(), ToString::to_string),
    };
    BrokenFile { path: path.to_string_lossy().into_owned(), message }
}

fn hash(root: &Path, path: String) -> Result<FolderFile, BrokenFile> {
    let digest = |file: &Path| -> io::Result<(u64, Digest)> {
        let mut hasher = blake3::Hasher::new();
        let len = io::copy(&mut File::open(file)?, &mut hasher)?;
        Ok((len, *hasher.finalize().as_bytes()))
    };
    match digest(&root.join(&path)) {
        Ok((len, digest)) => Ok(FolderFile { path, len, digest }),
        Err(error) => Err(BrokenFile { path, message: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_by_path_and_the_digest_covers_names_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for (name, bytes) in [("b/2.txt", "two"), ("a.txt", "one"), (".hidden", "no")] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a.txt", "b/2.txt"]);
        assert_eq!(folder.file("b/2.txt").unwrap().digest, crate::digest::of(b"two"));
        let before = folder.digest();
        std::fs::rename(dir.path().join("a.txt"), dir.path().join("c.txt")).unwrap();
        assert_ne!(Folder::open(dir.path()).unwrap().digest(), before);
    }

    #[cfg(unix)]
    #[test]
    fn loops_of_links_and_dangling_links_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        std::fs::write(dir.path().join("a.txt"), "one").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.files.len(), 1);
        let broken: Vec<&str> = folder.broken.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(broken, ["dangling", "loop"]);
        assert!(folder.broken[1].message.contains("leads back"), "{}", folder.broken[1].message);
    }

    #[test]
    fn an_empty_folder_has_no_files_and_a_file_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(folder.files.is_empty() && folder.broken.is_empty());
        let file = dir.path().join("a.txt");
        std::fs::write(&file, "one").unwrap();
        assert!(Folder::open(&file).is_err());
    }

    /// A process's memory opens, also for root, and has nothing to read at its start.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_rest_is_used() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("b.png")).unwrap();
        std::fs::write(dir.path().join("a.txt"), "one").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.txt"]);
        let broken: Vec<(&str, &str)> =
            folder.broken.iter().map(|file| (file.path.as_str(), file.message.as_str())).collect();
        assert_eq!(broken, [("b.png", "Input/output error (os error 5)")]);
    }
}
