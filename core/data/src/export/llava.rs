//! LLaVA conversations: `conversations.json` and a folder of pictures.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Export, ExportError, Item, Names, own_columns, write, write_json};

/// Records that have a column `conversations`, as `data.llava` reads it, with their pictures under `images/`. Holds the
/// conversations.
pub struct Llava {
    folder: PathBuf,
    names: Names,
    entries: Vec<Value>,
}

impl Llava {
    /// `conversations.json` and `images/` below `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), names: Names::default(), entries: Vec::new() }
    }
}

impl Export for Llava {
    fn record(&mut self, item: &Item<'_>) -> Result<(), ExportError> {
        let (extension, bytes) = item.image()?;
        let mut entry = own_columns(item.record);
        match entry.get("conversations") {
            Some(Value::Array(_)) => {}
            None | Some(Value::Null) => return Err(item.missing("has no column `conversations`")),
            Some(other) => {
                return Err(ExportError::Column {
                    key: item.record.key.clone(),
                    column: "conversations".to_owned(),
                    found: other.to_string(),
                    wanted: "a list of turns `{ from, value }`",
                });
            }
        }
        let name = format!("{}.{extension}", self.names.name(item.record));
        write(&self.folder.join("images").join(&name), bytes)?;
        entry.entry("id").or_insert_with(|| item.record.key.as_str().into());
        entry.insert("image".to_owned(), name.into());
        self.entries.push(Value::Object(entry));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        write_json(&self.folder.join("conversations.json"), &Value::Array(self.entries))
    }
}
