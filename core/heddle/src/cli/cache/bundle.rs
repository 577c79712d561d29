//! `heddle cache export` and `heddle cache import`.

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
};

use super::bytes;
use crate::{
    cli::{
        exit::{Exit, Failure},
        output,
    },
    exec::{self, BundleError, Contents, Pin, RunRecord, Store, StoreError},
};

/// Writes what a run used; the file appears when it is complete.
pub fn export(store: &Store, record: &RunRecord, file: &Path) -> Result<Exit, Failure> {
    let what = || format!("writing {}", file.display());
    if file.symlink_metadata().is_ok() {
        return Err(Failure::Other(format!("`{}` is there already; nothing was written", file.display())));
    }
    let pin = Pin::of(record);
    if pin.keys.is_empty() {
        return Err(Failure::Other(format!(
            "no node of run {} has finished; there is nothing to write",
            record.id
        )));
    }
    let above = file.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let making = tempfile::Builder::new().prefix(".heddle-export-").tempfile_in(above);
    let mut making = making.map_err(Failure::io(what()))?;
    let mut out = BufWriter::new(making.as_file_mut());
    let written = exec::export(store, &record.id, &record.file, &pin.keys, &mut out);
    let written = written.map_err(|error| failed(what(), error))?;
    drop(out);
    making.as_file().sync_all().map_err(Failure::io(what()))?;
    let kept = making.persist_noclobber(file).map_err(|error| Failure::io(what())(error.error))?;
    #[cfg(unix)]
    {
        // A temporary file is its owner's alone.
        use std::os::unix::fs::PermissionsExt;
        kept.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(Failure::io(what()))?;
    }
    drop(kept);
    output::result(&format!("wrote {} to {}", words(&written), file.display()));
    Ok(Exit::Done)
}

/// Reads a file into the cache of `home`, making it if there is none.
pub fn import(
    open: impl FnOnce() -> Result<Store, StoreError>,
    home: &Path,
    file: &Path,
) -> Result<Exit, Failure> {
    let what = || format!("reading {}", file.display());
    let mut from = BufReader::new(File::open(file).map_err(Failure::io(what()))?);
    std::fs::create_dir_all(home).map_err(Failure::io(format!("making the folder {}", home.display())))?;
    let read = exec::import(&open()?, &mut from).map_err(|error| failed(what(), error))?;
    output::result(&format!("read {} into {}", words(&read), home.display()));
    Ok(Exit::Done)
}

fn failed(what: String, error: BundleError) -> Failure {
    match error {
        BundleError::Store(error) => Failure::Store(error),
        BundleError::Io(error) => Failure::io(what)(error),
        error => Failure::Other(format!("{what}: {error}")),
    }
}

fn words(contents: &Contents) -> String {
    let Contents { run, file, nodes, rows, payloads, bytes: size } = contents;
    let rows = if *rows > 0 { format!(" and {rows} rows") } else { String::new() };
    format!("run {run} of {file}: {nodes} nodes{rows}, {payloads} payloads, {}", bytes(*size))
}
