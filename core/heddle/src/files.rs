//! Files: the disk and the data embedded in the program, under one naming.
//!
//! `embedded:emoji/train-0000.tar` names a file of the embedded pack; anything else is a path on disk.

use std::{fs, path::Path};

use heddle_data::emoji::Embedded;
use heddle_graph::{
    paths::{self, EMBEDDED},
    source::Load,
};

/// The folder of the emoji pack within the embedded files.
const EMOJI: &str = "emoji/";
/// The folder of the example plugins within the embedded files.
const PLUGINS: &str = "plugins/";

macro_rules! plugins {
    ($($name:literal),* $(,)?) => {
        &[$(Embedded { name: $name, stored: include_bytes!(concat!("../../../plugins/prebuilt/", $name)) }),*]
    };
}

/// Reads a file whole.
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    match embedded(path) {
        Some(Some(file)) => file.bytes().map_err(|error| error.to_string()),
        Some(None) => Err("no such embedded file".to_owned()),
        None => fs::read(path).map_err(|error| error.to_string()),
    }
}

/// The name of a file without its folders and without a compression suffix.
pub fn name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let lower = name.to_ascii_lowercase();
    let packed = [".tar.gz", ".tgz"].iter().find(|suffix| lower.ends_with(*suffix));
    packed.map_or_else(|| name.to_owned(), |suffix| format!("{}.tar", &name[..name.len() - suffix.len()]))
}

/// The packed bytes of an embedded file: enough to tell it from another.
pub fn embedded_packed(path: &str) -> Option<&'static [u8]> {
    embedded(path).flatten().map(|file| file.stored)
}

/// The example plugins, built from `plugins/examples` and `plugins/templates/c` by `scripts/plugins-build.sh`.
static PLUGIN_FILES: &[Embedded] = plugins![
    "boilerplate.wasm",
    "caption-length.wasm",
    "caption-quality.wasm",
    "caption-rule.wasm",
    "caption-statistics.wasm",
    "gibberish.wasm",
    "image-shape.wasm",
    "language.wasm",
    "normalise-captions.wasm",
    "offensive-words.wasm",
    "phash-duplicates.wasm",
    "placeholder.wasm",
    "score-threshold.wasm",
];

/// All embedded files: folder and file.
fn embedded_files() -> impl Iterator<Item = (&'static str, &'static Embedded)> {
    let emoji = heddle_data::emoji::files().iter().map(|file| (EMOJI, file));
    emoji.chain(PLUGIN_FILES.iter().map(|file| (PLUGINS, file)))
}

/// `None` for a path on disk, `Some(None)` for an embedded name that does not exist.
fn embedded(path: &str) -> Option<Option<&'static Embedded>> {
    let name = path.strip_prefix(EMBEDDED)?;
    let found = embedded_files().find(|(folder, file)| name.strip_prefix(folder) == Some(file.name));
    Some(found.map(|(_, file)| file))
}

/// The bytes of an embedded file and its name; `None` for a path on disk.
pub fn embedded_bytes(path: &str) -> Option<Result<(&'static str, Vec<u8>), String>> {
    let file = match embedded(path)? {
        Some(file) => file,
        None => return Some(Err("no such embedded file".to_owned())),
    };
    Some(file.bytes().map(|bytes| (file.name, bytes)).map_err(|error| error.to_string()))
}

/// The disk and the embedded files, for the configuration stage.
pub struct Disk;

impl Load for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read(path)
    }

    fn resolve(&self, base_file: &str, path: &str) -> String {
        paths::resolve(base_file, path)
    }

    fn is_folder(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        let mut found: Vec<String> = match paths::expand_braces(pattern) {
            Some(globs) => globs.iter().flat_map(|glob| matching(glob)).collect(),
            None => Vec::new(),
        };
        found.sort();
        found.dedup();
        found
    }
}

/// The existing files that match a glob, embedded or on disk.
fn matching(glob: &str) -> Vec<String> {
    if let Some(name) = glob.strip_prefix(EMBEDDED) {
        let names = embedded_files().map(|(folder, file)| format!("{folder}{}", file.name));
        return names
            .filter(|known| paths::glob_matches(name, known))
            .map(|known| format!("{EMBEDDED}{known}"))
            .collect();
    }
    if !paths::is_pattern(glob) {
        return if Path::new(glob).is_file() { vec![glob.to_owned()] } else { Vec::new() };
    }
    // Wildcards stand in the file name or in folders below the fixed part of the path.
    let parts: Vec<&str> = glob.split('/').collect();
    let fixed = parts.iter().take_while(|part| !paths::is_pattern(part)).count();
    let root = if fixed == 0 { String::new() } else { format!("{}/", parts[..fixed].join("/")) };
    let mut found = Vec::new();
    walk(&root, parts.len() - fixed, glob, &mut found);
    found
}

/// Files below `root` (empty, or with a slash at its end) that match, at most `depth` folders down.
fn walk(root: &str, depth: usize, glob: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(if root.is_empty() { "." } else { root }) else { return };
    for entry in entries.flatten() {
        let path = format!("{root}{}", entry.file_name().to_string_lossy());
        if Path::new(&path).is_dir() {
            if depth > 1 {
                walk(&format!("{path}/"), depth - 1, glob, found);
            }
        } else if paths::glob_matches(glob, &path) {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_resolve_against_the_file_that_names_them() {
        assert_eq!(Disk.resolve("experiments/a.toml", "../graphs/x.toml"), "graphs/x.toml");
        assert_eq!(Disk.resolve("a.toml", "../x.toml"), "../x.toml");
        assert_eq!(Disk.resolve("dir/a.toml", "embedded:emoji/x.tar"), "embedded:emoji/x.tar");
    }

    #[test]
    fn ranges_and_globs_find_embedded_shards() {
        assert_eq!(Disk.expand("embedded:emoji/train-*.tar").len(), 3);
        assert_eq!(Disk.expand("embedded:emoji/train-{0000..0001}.tar").len(), 2);
        assert_eq!(Disk.expand("embedded:emoji/{val,test-id}-0000.tar").len(), 2);
        assert!(Disk.expand("embedded:emoji/nothing.tar").is_empty());
    }

    #[test]
    fn globs_find_files_on_disk() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        assert_eq!(Disk.expand(&format!("{root}/nodes/ev*/{{labels,tasks}}.rs")).len(), 2);
        assert_eq!(Disk.expand(&format!("{root}/files.rs")), [format!("{root}/files.rs")]);
    }
}
