//! Where the cache and the run records lie.

use std::path::{Path, PathBuf};

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
