//! Files: the disk and the data embedded in the program, under one naming.
//!
//! `embedded:emoji/train-0000.tar` names a file of the embedded pack; anything else is a path on disk.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use heddle_graph::source::Load;

/// The prefix of embedded files.
pub const EMBEDDED: &str = "embedded:";

/// The folder of the emoji pack within the embedded files.
const EMOJI: &str = "emoji/";

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

/// `None` for a path on disk, `Some(None)` for an embedded name that does not exist.
fn embedded(path: &str) -> Option<Option<&'static heddle_data::emoji::Embedded>> {
    let name = path.strip_prefix(EMBEDDED)?;
    Some(name.strip_prefix(EMOJI).and_then(heddle_data::emoji::find))
}

/// The name within the pack of an embedded shard; `None` for a path on disk.
pub fn embedded_shard(path: &str) -> Option<&str> {
    let name = path.strip_prefix(EMBEDDED)?;
    Some(name.strip_prefix(EMOJI).unwrap_or(name))
}

/// The disk and the embedded files, for the configuration stage.
pub struct Disk;

impl Load for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read(path)
    }

    fn resolve(&self, base_file: &str, path: &str) -> String {
        if path.starts_with(EMBEDDED) || Path::new(path).is_absolute() {
            return path.to_owned();
        }
        let base = Path::new(base_file).parent().unwrap_or(Path::new(""));
        tidy(&base.join(path)).to_string_lossy().into_owned()
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        let Some(embedded) = pattern.strip_prefix(EMBEDDED) else { return expand_on_disk(pattern) };
        let Some(matcher) = matcher(embedded) else { return Vec::new() };
        let names = heddle_data::emoji::files().iter().map(|file| format!("{EMOJI}{}", file.name));
        let mut found: Vec<String> =
            names.filter(|name| matcher.is_match(name)).map(|name| format!("{EMBEDDED}{name}")).collect();
        found.sort();
        found
    }
}

/// Folds `a/../b` and `./` away without asking the disk, so that messages show short paths.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}

/// A glob with `*`, `?`, `[..]`, `{a,b}` and `{0000..0003}`.
fn matcher(pattern: &str) -> Option<globset::GlobSet> {
    let mut set = globset::GlobSetBuilder::new();
    for pattern in expand_ranges(pattern) {
        set.add(globset::GlobBuilder::new(&pattern).literal_separator(true).build().ok()?);
    }
    set.build().ok()
}

/// `x-{0000..0002}.tar` as webdataset users write it becomes its three names.
fn expand_ranges(pattern: &str) -> Vec<String> {
    let parse = || {
        let open = pattern.find('{')?;
        let close = open + pattern[open..].find('}')?;
        let (from, to) = pattern[open + 1..close].split_once("..")?;
        let (first, last): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        // A hundred thousand shards is a petabyte; more is a typo.
        (first <= last && last - first < 100_000).then_some((open, close, first, last, from.len()))
    };
    let Some((open, close, first, last, width)) = parse() else { return vec![pattern.to_owned()] };
    let (head, tail) = (&pattern[..open], &pattern[close + 1..]);
    (first..=last).flat_map(|number| expand_ranges(&format!("{head}{number:0width$}{tail}"))).collect()
}

fn expand_on_disk(pattern: &str) -> Vec<String> {
    if Path::new(pattern).is_file() {
        return vec![pattern.to_owned()];
    }
    let mut found = Vec::new();
    for pattern in expand_ranges(pattern) {
        if !pattern.contains(['*', '?', '[', '{']) {
            if Path::new(&pattern).is_file() {
                found.push(pattern);
            }
            continue;
        }
        // Wildcards stand in the file name or in folders below the fixed part of the path.
        let fixed: PathBuf = Path::new(&pattern)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        if let Some(matcher) = matcher(&pattern) {
            let depth = Path::new(&pattern).components().count() - fixed.components().count();
            walk(&fixed, depth, &matcher, &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Files below `dir` that match, at most `depth` folders down.
fn walk(dir: &Path, depth: usize, matcher: &globset::GlobSet, found: &mut Vec<String>) {
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = fs::read_dir(here) else { return };
    for entry in entries.flatten() {
        let path = dir.join(entry.file_name());
        if path.is_dir() {
            if depth > 1 {
                walk(&path, depth - 1, matcher, found);
            }
        } else if matcher.is_match(&path) {
            found.push(path.to_string_lossy().into_owned());
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
}
