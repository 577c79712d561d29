//! [`MapLoader`]: files in memory, for tests and for checking text that is nowhere on disk.

use std::collections::BTreeMap;

use crate::{paths, source::Load};

/// Files by resolved path.
#[derive(Debug, Clone, Default)]
pub struct MapLoader {
    files: BTreeMap<String, Vec<u8>>,
}

impl MapLoader {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), bytes.into());
        self
    }
}

impl Load for MapLoader {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }

    fn resolve(&self, base_file: &str, path: &str) -> String {
        paths::resolve(base_file, path)
    }

    fn is_folder(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.files.keys().any(|known| known.starts_with(&inside))
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        let globs = paths::expand_braces(pattern).unwrap_or_default();
        let found = |glob: &String| {
            self.files.keys().filter(|path| paths::glob_matches(glob, path)).cloned().collect()
        };
        let mut files: Vec<String> = globs.iter().flat_map(|glob| -> Vec<String> { found(glob) }).collect();
        files.sort();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_patterns_in_order() {
        let loader = MapLoader::new().with("d/b.tar", "").with("d/a.tar", "").with("e.tar", "");
        assert_eq!(loader.expand("d/*.tar"), ["d/a.tar", "d/b.tar"]);
        assert_eq!(loader.expand("{e,x}.tar"), ["e.tar"]);
        assert!(loader.expand("none").is_empty());
    }
}
