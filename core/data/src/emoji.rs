//! The emoji pack that travels in the binary (feature `emoji`, on by default).
//!
//! 1,229 concepts in up to eight drawing styles, 64x64 pixels, named in five languages, as webdataset shards.
//! `assets/emoji/LICENSES.md` says who made them. Without the feature the list is empty.

use std::io::{self, Read};

use flate2::read::GzDecoder;

/// A file of the pack.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its name once written out: `train-0000.tar`, `concepts.jsonl`, `LICENSES.md`.
    pub name: &'static str,
    /// The bytes as embedded: shards and tables gzipped, licences as they are (so that the repository shows them).
    pub stored: &'static [u8],
}

impl Embedded {
    /// The file's bytes, decompressed.
    ///
    /// # Errors
    /// Only if the embedded gzip stream is damaged.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        if !self.stored.starts_with(GZIP_MAGIC) {
            return Ok(self.stored.to_vec());
        }
        let mut bytes = Vec::new();
        GzDecoder::new(self.stored).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

#[cfg(feature = "emoji")]
macro_rules! pack {
    ($($name:literal $(+ $suffix:literal)?),* $(,)?) => {
        &[$(Embedded {
            name: $name,
            stored: include_bytes!(concat!("../assets/emoji/", $name $(, $suffix)?)),
        }),*]
    };
}

#[cfg(feature = "emoji")]
static FILES: &[Embedded] = pack![
    "LICENSE-APACHE-2.0.txt",
    "LICENSE-CC-BY-SA-4.0.txt",
    "LICENSES.md",
    "concepts.jsonl" + ".gz",
    "shift-fxemoji-0000.tar" + ".gz",
    "shift-noto-v1-0000.tar" + ".gz",
    "shift-openmoji-0000.tar" + ".gz",
    "shift-openmoji-line-0000.tar" + ".gz",
    "test-id-0000.tar" + ".gz",
    "test-novel-0000.tar" + ".gz",
    "train-0000.tar" + ".gz",
    "train-0001.tar" + ".gz",
    "train-0002.tar" + ".gz",
    "val-0000.tar" + ".gz",
];

#[cfg(not(feature = "emoji"))]
static FILES: &[Embedded] = &[];

/// The pack's files, sorted by name.
pub fn files() -> &'static [Embedded] {
    FILES
}

/// The file of this name.
pub fn find(name: &str) -> Option<&'static Embedded> {
    FILES.iter().find(|file| file.name == name)
}

#[cfg(all(test, feature = "emoji"))]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_unique_and_every_file_opens() {
        assert!(files().is_sorted_by(|a, b| a.name < b.name));
        for file in files() {
            let bytes = file.bytes().unwrap();
            assert!(!bytes.starts_with(GZIP_MAGIC) && !bytes.is_empty(), "{}", file.name);
        }
    }

    #[test]
    fn files_are_found_by_name() {
        assert_eq!(
            find("concepts.jsonl").unwrap().bytes().unwrap().iter().filter(|b| **b == b'\n').count(),
            1229
        );
        assert!(find("train-0009.tar").is_none());
    }
}
