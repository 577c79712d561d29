//! COCO captions: `captions.json` and a folder of pictures.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Export, ExportError, Item, Names, write, write_json};
use crate::image::size_of;

/// Pictures under `images/`, numbered in order from 1; so are their captions. Holds the annotations.
pub struct Coco {
    folder: PathBuf,
    names: Names,
    images: Vec<Value>,
    annotations: Vec<Value>,
    language: Option<String>,
}

impl Coco {
    /// `captions.json` and `images/` below `folder`; with a language, only captions of it are written.
    pub fn new(folder: &Path, language: Option<&str>) -> Self {
        Self {
            folder: folder.to_owned(),
            names: Names::default(),
            images: Vec::new(),
            annotations: Vec::new(),
            language: language.map(str::to_owned),
        }
    }
}

impl Export for Coco {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, bytes) = item.image()?;
        let wanted = |language: &Option<String>| self.language.is_none() || *language == self.language;
        let texts = item.record.captions.iter().filter(|caption| wanted(&caption.language));
        let texts: Vec<&str> = texts.map(|caption| caption.text.as_str()).collect();
        if texts.is_empty() {
            let language = self.language.as_ref().map(|name| format!(" in `{name}`")).unwrap_or_default();
            return Err(item.missing(format!("has no caption{language}")));
        }
        let [width, height] = match item.record.size {
            Some(size) => size,
            None => size_of(bytes).ok_or_else(|| item.missing("has an image whose size cannot be read"))?,
        };
        let name = format!("{}.{extension}", self.names.name(item.record));
        write(&self.folder.join("images").join(&name), bytes)?;
        let id = self.images.len() as u64 + 1;
        for text in texts {
            let annotation =
                json!({ "id": self.annotations.len() as u64 + 1, "image_id": id, "caption": text });
            self.annotations.push(annotation);
        }
        self.images.push(json!({ "id": id, "file_name": name, "width": width, "height": height }));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        let all =
            json!({ "info": {}, "licenses": [], "images": self.images, "annotations": self.annotations });
        write_json(&self.folder.join("captions.json"), &all)
    }
}
