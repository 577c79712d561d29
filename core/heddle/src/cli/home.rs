//! Where the cache and the run records lie, and what a record says of the folder that a command was given in.

use std::path::{Component, Path, PathBuf};

use super::args::Common;

/// `--home` or HEDDLE_HOME, else `.heddle` beside the experiment.
pub fn of_experiment(common: &Common, file: &str) -> PathBuf {
    let beside = || Path::new(file).parent().unwrap_or(Path::new("")).join(".heddle");
    common.home.clone().unwrap_or_else(beside)
}

/// `--home` or HEDDLE_HOME, else the first of `.heddle` and `experiments/.heddle` that exists in this folder.
pub fn here(common: &Common) -> PathBuf {
    let usual = || {
        let candidates = [".heddle", "experiments/.heddle"];
        let found = candidates.iter().find(|dir| Path::new(dir).is_dir()).unwrap_or(&candidates[0]);
        PathBuf::from(found)
    };
    common.home.clone().unwrap_or_else(usual)
}

/// The current folder as seen from a home folder, for a record: the two may move together. Empty if it has no name.
pub fn working_folder(home: &Path) -> String {
    std::env::current_dir().map(|here| seen_from(home, &here).display().to_string()).unwrap_or_default()
}

/// A folder of a record as seen from the home folder; earlier builds wrote it from the root on.
pub fn seen_from(home: &Path, folder: &Path) -> PathBuf {
    let (home, to) = (real(home), real(folder));
    // Without a common root, on another drive, there is no way from one to the other.
    if folder.is_relative() || home.components().next() != to.components().next() {
        return folder.to_owned();
    }
    let common = home.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = home.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(common)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

/// Where a folder of a record lies.
pub fn place_of(home: &Path, folder: &str) -> PathBuf {
    real(home).join(folder)
}

/// The path from the root on, without links as far as it exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_record_is_found_from_the_home_folder() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = real(dir.path());
        for (home, folder, way) in [
            ("a/experiments/.heddle", "a", "../.."),
            ("a/.heddle", "a/.heddle", "."),
            ("scratch/home", "work/a", "../../work/a"),
            ("home", "home/below", "below"),
        ] {
            let (home, folder) = (root.join(home), root.join(folder));
            std::fs::create_dir_all(&home).and_then(|()| std::fs::create_dir_all(&folder)).expect("writable");
            assert_eq!(seen_from(&home, &folder), Path::new(way));
            assert_eq!(real(&place_of(&home, way)), folder);
            // As earlier builds wrote it.
            assert_eq!(place_of(&home, &folder.display().to_string()), folder);
            assert_eq!(seen_from(&home, Path::new(way)), Path::new(way));
        }
    }
}
