//! Names of files from keys of records.

use std::collections::HashSet;

use crate::record::{IMAGE_EXTENSIONS, Record};

/// Gives every record a file name of its own, without extension.
#[derive(Debug, Default)]
pub struct Names {
    used: HashSet<String>,
}

impl Names {
    /// The record's key as a path below a folder: an image's extension at its end goes, dots in the last component and
    /// characters that some system does not allow become `_`, and a name that was given before gets a number.
    pub fn name(&mut self, record: &Record) -> String {
        self.unique(&plain(&record.key))
    }

    /// The same in one folder, as `folder/name`: if the key begins with that folder it is not said twice, and what other
    /// folders the key has are joined by `_`.
    pub fn below(&mut self, folder: &str, record: &Record) -> String {
        let key = plain(&record.key);
        let rest = key.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&key);
        self.unique(&format!("{folder}/{}", rest.replace('/', "_")))
    }

    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        // Systems whose names ignore case would take one file for the other.
        while !self.used.insert(name.to_lowercase()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }
}

/// One component of a path that every system allows.
pub fn component(text: &str) -> String {
    let allowed = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c };
    let text: String = text.chars().map(allowed).collect();
    if text.is_empty() || text.chars().all(|c| c == '.') { "_".to_owned() } else { text }
}

fn plain(key: &str) -> String {
    let mut components: Vec<String> =
        key.split('/').filter(|one| !one.is_empty() && *one != ".").map(component).collect();
    let last = components.pop().unwrap_or_else(|| "_".to_owned());
    let stem = match last.rsplit_once('.') {
        Some((stem, extension)) if is_image(extension) && !stem.is_empty() => stem,
        _ => &last,
    };
    components.push(stem.replace('.', "_"));
    components.join("/")
}

fn is_image(extension: &str) -> bool {
    IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}
