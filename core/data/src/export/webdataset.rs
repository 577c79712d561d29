//! webdataset: tar shards of `key.png`, `key.json` and `key.txt`.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Export, ExportError, Item, Names, captions_json, create, own_columns};

/// A tar in the making: plain files with no time and no owner, so that the same records give the same bytes.
pub struct TarWriter {
    path: PathBuf,
    tar: tar::Builder<BufWriter<File>>,
}

impl TarWriter {
    /// Makes the file.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn create(path: &Path) -> Result<Self, ExportError> {
        Ok(Self { path: path.to_owned(), tar: tar::Builder::new(create(path)?) })
    }

    /// Appends a file.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let appended = self.tar.append_data(&mut header, name, bytes);
        appended.map_err(|error| ExportError::Io { path: self.path.clone(), error })
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn finish(self) -> Result<(), ExportError> {
        let Self { path, tar } = self;
        let ended = tar.into_inner().and_then(|mut file| std::io::Write::flush(&mut file));
        ended.map_err(|error| ExportError::Io { path, error })
    }
}

/// Shards `NAME-000000.tar` of so many records each. `key.json` has the columns, and the captions with their languages
/// under `captions`; `key.txt` is the first caption. Holds the keys.
pub struct WebDataset {
    folder: PathBuf,
    name: String,
    per_shard: u64,
    names: Names,
    shards: u64,
    open: Option<(TarWriter, u64)>,
}

impl WebDataset {
    /// Shards below `folder`.
    pub fn new(folder: &Path, name: &str, per_shard: u64) -> Self {
        let (folder, name) = (folder.to_owned(), name.to_owned());
        Self { folder, name, per_shard, names: Names::default(), shards: 0, open: None }
    }

    fn shard(&mut self) -> Result<&mut TarWriter, ExportError> {
        if self.open.as_ref().is_some_and(|(_, records)| *records >= self.per_shard) {
            self.close()?;
        }
        if self.open.is_none() {
            let path = self.folder.join(format!("{}-{:06}.tar", self.name, self.shards));
            self.shards += 1;
            self.open = Some((TarWriter::create(&path)?, 0));
        }
        let (tar, records) = self.open.as_mut().expect("opened above");
        *records += 1;
        Ok(tar)
    }

    fn close(&mut self) -> Result<(), ExportError> {
        self.open.take().map_or(Ok(()), |(tar, _)| tar.finish())
    }
}

impl Export for WebDataset {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let record = item.record;
        let key = self.names.name(record);
        let mut columns: Map<String, Value> = own_columns(record);
        if key != record.key {
            columns.insert("key".to_owned(), record.key.as_str().into());
        }
        if !record.captions.is_empty() {
            columns.insert("captions".to_owned(), captions_json(&record.captions));
        }
        // What the record was read from says the columns again.
        let texts = |name: &str| matches!(name, "json" | "txt" | "cls");
        let shard = self.shard()?;
        for (extension, bytes) in item.parts.iter().filter(|(name, _)| !texts(name)) {
            shard.append(&format!("{key}.{extension}"), bytes)?;
        }
        shard.append(&format!("{key}.json"), Value::Object(columns).to_string().as_bytes())?;
        if let Some(caption) = record.captions.first() {
            shard.append(&format!("{key}.txt"), caption.text.as_bytes())?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ExportError> {
        self.close()
    }
}
