//! Class folders: `CLASS/picture.png`, as torchvision's `ImageFolder` reads them.

use std::path::{Path, PathBuf};

use super::{Export, ExportError, Item, Names, names::component, write};

/// A folder for each class. Holds the keys.
pub struct ClassFolders {
    folder: PathBuf,
    column: String,
    names: Names,
}

impl ClassFolders {
    /// Folders below `folder`, each named by what `column` says.
    pub fn new(folder: &Path, column: &str) -> Self {
        Self { folder: folder.to_owned(), column: column.to_owned(), names: Names::default() }
    }
}

impl Export for ClassFolders {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, bytes) = item.image()?;
        let class = component(&item.text(&self.column)?);
        let name = self.names.below(&class, item.record);
        write(&self.folder.join(format!("{name}.{extension}")), bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        Ok(())
    }
}
