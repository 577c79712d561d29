//! Reading: every tensor of a published folder, in place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use safetensors::{SafeTensorError, SafeTensors, tensor::TensorInfo};

use super::{
    super::{TensorHead, WeightsError, WeightsFile},
    INDEX, WHOLE,
    index::Index,
};

/// Why a folder of weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Neither a whole model nor an index of shards is there.
    #[error("there is neither `model.safetensors` nor `model.safetensors.index.json`")]
    NoWeights,
    /// A file could not be read, or is no safetensors file; a shard that was cut short is none.
    #[error("`{file}`: {error}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        error: WeightsError,
    },
    /// The index does not read.
    #[error("`model.safetensors.index.json`: {0}")]
    Index(String),
    /// The index names a shard that is not there.
    #[error("the index names the shard `{0}`, which is not there")]
    NoShard(String),
    /// The index names a tensor that its shard does not have.
    #[error("the index says that `{key}` is in `{shard}`, but it is not")]
    NoTensor {
        /// The tensor.
        key: String,
        /// The shard.
        shard: String,
    },
}

/// The weights of a published folder, mapped into memory.
#[derive(Debug)]
pub struct WeightsFolder {
    files: Vec<(String, WeightsFile)>,
    tensors: BTreeMap<String, Place>,
    unlisted: Vec<String>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    head: TensorHead,
    file: usize,
    at: Range<usize>,
}

impl WeightsFolder {
    /// Opens `model.safetensors`, else the shards that the index names. `files` are the names that may be opened.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(root: &Path, files: &BTreeSet<&str>) -> Result<Self, FolderError> {
        if files.contains(WHOLE) {
            let mut folder = Self { files: Vec::new(), tensors: BTreeMap::new(), unlisted: Vec::new() };
            let tensors = folder.add(root, WHOLE)?;
            folder.tensors.extend(tensors);
            return Ok(folder);
        }
        if !files.contains(INDEX) {
            return Err(FolderError::NoWeights);
        }
        let bytes = std::fs::read(root.join(INDEX)).map_err(|error| FolderError::Index(error.to_string()))?;
        Self::open_shards(root, files, Index::parse(&bytes).map_err(FolderError::Index)?)
    }

    fn open_shards(root: &Path, files: &BTreeSet<&str>, index: Index) -> Result<Self, FolderError> {
        let mut folder = Self { files: Vec::new(), tensors: BTreeMap::new(), unlisted: Vec::new() };
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, shard) in index.0 {
            shards.entry(shard).or_default().push(key);
        }
        for (shard, keys) in shards {
            if !files.contains(shard.as_str()) {
                return Err(FolderError::NoShard(shard));
            }
            let mut tensors = folder.add(root, &shard)?;
            for key in keys {
                let Some(place) = tensors.remove(&key) else {
                    return Err(FolderError::NoTensor { key, shard });
                };
                folder.tensors.insert(key, place);
            }
            folder.unlisted.extend(tensors.into_keys());
        }
        Ok(folder)
    }

    /// Maps a file and reads its header.
    fn add(&mut self, root: &Path, name: &str) -> Result<BTreeMap<String, Place>, FolderError> {
        let path: PathBuf = root.join(name);
        let failed = |error| FolderError::File { file: name.to_owned(), error };
        let opened = WeightsFile::open(&path).map_err(failed)?;
        let tensors = places(opened.bytes(), self.files.len()).map_err(failed)?;
        self.files.push((name.to_owned(), opened));
        Ok(tensors)
    }

    /// Names and bytes of the files that were opened.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, file)| (name.as_str(), file.bytes()))
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorHead)> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), &place.head))
    }

    /// The bytes of a tensor.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        let place = self.tensors.get(name)?;
        self.files.get(place.file)?.1.bytes().get(place.at.clone())
    }

    /// Tensors of shards that the index does not list; they are not among [`tensors`](Self::tensors).
    pub fn unlisted(&self) -> &[String] {
        &self.unlisted
    }
}

/// The tensors of a safetensors file, which is the one of this number.
fn places(bytes: &[u8], file: usize) -> Result<BTreeMap<String, Place>, WeightsError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        WeightsError::Format(match error {
            SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
                "the file ends elsewhere than its header says; was it cut short while it was copied?"
                    .to_owned()
            }
            other => other.to_string(),
        })
    })?;
    let start = 8 + header;
    let place = |(name, info): (String, &TensorInfo)| {
        let (from, to) = info.data_offsets;
        let head = TensorHead { dtype: info.dtype, shape: info.shape.clone() };
        (name, Place { head, file, at: start + from..start + to })
    };
    Ok(metadata.tensors().into_iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::FolderTensor, super::write_folder, *};

    /// Three tensors in two shards.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let tensors: Vec<(&str, [u8; 8])> = vec![("a", [1; 8]), ("b", [2; 8]), ("c", [3; 8])];
        let tensors =
            tensors.iter().map(|(name, data)| (*name, FolderTensor { head: TensorHead::f32([2]), data }));
        write_folder(dir.path(), &tensors.collect(), 16).unwrap();
        dir
    }

    fn open(dir: &Path) -> Result<WeightsFolder, FolderError> {
        let names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        WeightsFolder::open(dir, &names.iter().map(String::as_str).collect())
    }

    fn error(dir: &Path) -> String {
        open(dir).unwrap_err().to_string()
    }

    #[test]
    fn shards_are_read_through_their_index() {
        let dir = folder();
        let folder = open(dir.path()).unwrap();
        assert_eq!(folder.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(folder.data("b"), Some(&[2_u8; 8][..]));
        assert_eq!((folder.data("d"), folder.files().count(), folder.unlisted().len()), (None, 2, 0));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let dir = folder();
        let index = dir.path().join(INDEX);
        let text = std::fs::read_to_string(&index).unwrap();
        std::fs::write(&index, text.replace("\"a\"", "\"d\"")).unwrap();
        let expected = "the index says that `d` is in `model-00001-of-00002.safetensors`, but it is not";
        assert_eq!(error(dir.path()), expected);
        // The last of two equal keys counts, so `a` is in no shard now.
        std::fs::write(&index, text.replace("\"a\"", "\"b\"")).unwrap();
        assert_eq!(open(dir.path()).unwrap().unlisted(), ["a"]);

        std::fs::write(&index, &text).unwrap();
        let second = dir.path().join("model-00002-of-00002.safetensors");
        let bytes = std::fs::read(&second).unwrap();
        std::fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
        assert!(error(dir.path()).starts_with("`model-00002-of-00002.safetensors`: not a safetensors file"));
        std::fs::remove_file(&second).unwrap();
        let expected = "the index names the shard `model-00002-of-00002.safetensors`, which is not there";
        assert_eq!(error(dir.path()), expected);
        std::fs::remove_file(&index).unwrap();
        assert!(matches!(open(dir.path()), Err(FolderError::NoWeights)));
    }
}
