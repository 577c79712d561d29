//! `heddle cache`: how much it holds, whether it is whole, and emptying it.

use std::path::Path;

use heddle_cache::{Usage, Wait};
use serde_json::json;

use super::{
    args::{CacheCommand, CacheOptions, Common},
    exit::{Exit, Failure},
    home, output,
};
use crate::exec::Store;

/// Runs the command.
pub fn run(options: &CacheOptions, common: &Common) -> Result<Exit, Failure> {
    let home = home::here(common);
    if !home.join("cache").is_dir() {
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
    }
}

fn disk(usage: &Usage) -> u64 {
    usage.pack_bytes + usage.index_bytes
}

fn du(store: &Store, home: &Path, as_json: bool) -> Result<Exit, Failure> {
    let usage = store.cache().usage().map_err(crate::exec::StoreError::from)?;
    if as_json {
        let document = json!({
            "home": home,
            "artifacts": usage.payloads,
            "artifact_bytes": usage.payload_bytes,
            "pack_bytes": usage.pack_bytes,
            "index_bytes": usage.index_bytes,
            "entries": usage.values,
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
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}
