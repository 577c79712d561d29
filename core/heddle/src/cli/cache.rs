//! `heddle cache`: how much it holds, whether it is whole, what stays, and its way to other machines.

mod bundle;
mod gc;
mod pins;

use std::path::Path;

use heddle_cache::{Usage, Wait};
use serde_json::{Value as Json, json};

pub use self::gc::after_run;
use super::{
    args::{CacheCommand, CacheOptions, Common},
    exit::{Exit, Failure},
    home, output, runs,
};
use crate::exec::{RunRecord, RunsDir, Store};

/// Runs the command.
pub fn run(options: &CacheOptions, common: &Common) -> Result<Exit, Failure> {
    let home = home::here(common);
    let makes_one = matches!(options.command, CacheCommand::Import { .. });
    if !makes_one && !home.join("cache").is_dir() {
        return Err(Failure::Other(format!(
            "there is no cache in {}; name its folder with --home, or run from the folder of the experiment",
            home.display()
        )));
    }
    let open = |what: &str| Store::open(&home, what, if options.wait { Wait::Yes } else { Wait::No });
    match &options.command {
        CacheCommand::Du { json } => du(&open("cache du")?, &home, *json),
        CacheCommand::Verify => verify(&open("cache verify")?),
        CacheCommand::Clear => {
            let freed = open("cache clear")?.cache().clear().map_err(crate::exec::StoreError::from)?;
            output::result(&format!("removed {} artifacts, {}", freed.payloads, bytes(disk(&freed))));
            Ok(Exit::Done)
        }
        CacheCommand::Gc { max_size, dry, json } => {
            let asked = gc::Asked { budget: max_size.map(|size| size.0), dry: *dry, json: *json };
            gc::run(&open("cache gc")?, asked)
        }
        CacheCommand::Pin { run } => pins::pin(&open("cache pin")?, &record(&home, run)?),
        CacheCommand::Unpin { run } => pins::unpin(&open("cache unpin")?, run),
        CacheCommand::Export { run, file } => {
            bundle::export(&open("cache export")?, &record(&home, run)?, file)
        }
        CacheCommand::Import { file } => bundle::import(|| open("cache import"), &home, file),
    }
}

/// The record of the run that is meant.
fn record(home: &Path, wanted: &str) -> Result<RunRecord, Failure> {
    let runs = RunsDir::new(home);
    let ids = runs.ids().map_err(Failure::io(format!("listing {}", home.display())))?;
    let id = runs::find(&ids, wanted).map_err(Failure::Other)?;
    runs.read(id).map_err(Failure::io(format!("reading the record of run {id}")))
}

fn disk(usage: &Usage) -> u64 {
    usage.pack_bytes + usage.index_bytes
}

fn du(store: &Store, home: &Path, as_json: bool) -> Result<Exit, Failure> {
    let usage = store.cache().usage().map_err(crate::exec::StoreError::from)?;
    let pins = pins::list(store)?;
    if as_json {
        let document = json!({
            "home": home,
            "artifacts": usage.payloads,
            "artifact_bytes": usage.payload_bytes,
            "pack_bytes": usage.pack_bytes,
            "index_bytes": usage.index_bytes,
            "entries": usage.values,
            "pinned": pins.iter().map(pins::Pinned::json).collect::<Vec<Json>>(),
        });
        output::result(&document.to_string());
    } else {
        output::result(&format!(
            "{}: {} artifacts, {}; on disk {} in packs, {} index",
            home.display(),
            usage.payloads,
            bytes(usage.payload_bytes),
            bytes(usage.pack_bytes),
            bytes(usage.index_bytes)
        ));
        pins.iter().for_each(|pin| output::result(&pin.line()));
    }
    Ok(Exit::Done)
}

fn verify(store: &Store) -> Result<Exit, Failure> {
    let mut count = 0;
    let damages = store.cache().verify(&mut |_, all| count = all).map_err(crate::exec::StoreError::from)?;
    if damages.is_empty() {
        output::result(&format!("all {count} artifacts are as they were written"));
        return Ok(Exit::Done);
    }
    for damage in &damages {
        output::result(&damage.to_string());
    }
    output::result(&format!(
        "{} damaged and dropped; run the experiment again to make them anew",
        damages.len()
    ));
    Ok(Exit::Different)
}

/// Bytes for people, decimal.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}
