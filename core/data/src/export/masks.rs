//! Images and masks in two folders, as ADE20K's scene parsing set has them.

use std::path::{Path, PathBuf};

use super::{Export, ExportError, Item, Names, names::component, write};
use crate::sources::MASK;

/// `images/SPLIT/x.jpg` and `annotations/SPLIT/x.png`; records without a split lie in the two folders themselves. Holds the keys.
pub struct Masks {
    folder: PathBuf,
    names: Names,
}

impl Masks {
    /// The two folders below `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), names: Names::default() }
    }
}

impl Export for Masks {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, image) = item.image()?;
        let mask = item.parts.iter().find(|(name, _)| *name == MASK);
        let (_, mask) = mask.ok_or_else(|| item.missing(format!("has no mask (part `{MASK}`)")))?;
        let split = item.record.column("split").and_then(serde_json::Value::as_str).map(component);
        let name = match &split {
            Some(split) => self.names.below(split, item.record),
            None => self.names.name(item.record),
        };
        write(&self.folder.join("images").join(format!("{name}.{extension}")), image)?;
        write(&self.folder.join("annotations").join(format!("{name}.png")), mask)
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        Ok(())
    }
}
