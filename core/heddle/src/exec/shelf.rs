//! [`Shelf`]: a folder of records, each a JSON file in a folder of its own, named by the time.
//!
//! ```text
//! ABOVE/YYYYMMDD-HHMMSS-xxxx/NAME.json
//! ```
//!
//! Ids sort in the order in which they were made, whatever the clock does: one that went backwards goes on from the last id.
//! A record ends in `seal`, the digest of all before it. One that does not fit is read with a warning; records of earlier builds
//! have none.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use heddle_graph::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

const SEAL: &str = "seal";
/// Length of `YYYYMMDD-HHMMSS`.
const STAMP: usize = 15;

/// A folder of records of one sort.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    above: PathBuf,
    file: &'static str,
}

impl Shelf {
    /// The records `file` below `above`, which need not exist.
    pub(super) fn new(above: PathBuf, file: &'static str) -> Self {
        Self { above, file }
    }

    /// The folder of one record.
    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.above.join(id)
    }

    /// A new id, behind all that there are; makes the folder.
    pub(super) fn create(&self, now_unix: u64) -> io::Result<String> {
        let above = &self.above;
        fs::create_dir_all(above).map_err(|error| naming(above, &error))?;
        let now = i64::try_from(now_unix).map_err(io::Error::other)?;
        let now = jiff::Timestamp::from_second(now).map_err(io::Error::other)?;
        let now = now.strftime("%Y%m%d-%H%M%S").to_string();
        let last = folders(above)?.into_iter().filter(|name| is_id(name)).max();
        let stamp = last.map(|last| last[..STAMP].to_owned()).filter(|last| *last > now).unwrap_or(now);
        // Counting up keeps the folders of one second in their order.
        for count in 0..=0xffff {
            let id = format!("{stamp}-{count:04x}");
            match fs::create_dir(above.join(&id)) {
                Ok(()) => return Ok(id),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(naming(&above.join(id), &error)),
            }
        }
        Err(io::Error::other(format!("{} has no free id; remove old folders", above.display())))
    }

    /// Writes a record whole or not at all, also where the power fails.
    pub(super) fn write(&self, id: &str, record: &impl Serialize) -> io::Result<()> {
        let path = self.dir(id).join(self.file);
        let temporary = path.with_extension("json.tmp");
        let text = sealed(serde_json::to_value(record)?)?;
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            // Half a record is of no use; if it cannot be removed, the next one is written over it.
            let _ = fs::remove_file(&temporary);
            naming(&path, &error)
        })
    }

    /// Reads a record; warns of one that has changed since it was written.
    pub(super) fn read<T: DeserializeOwned>(&self, id: &str) -> io::Result<T> {
        let path = self.dir(id).join(self.file);
        let bytes = fs::read(&path).map_err(|error| naming(&path, &error))?;
        let damaged = |error: serde_json::Error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged: {error}; remove its folder and run the experiment again, the cache still has its results",
                    path.display()
                ),
            )
        };
        let mut json: Json = serde_json::from_slice(&bytes).map_err(damaged)?;
        let seal = json.as_object_mut().and_then(|record| record.shift_remove(SEAL));
        if seal.is_some_and(|seal| seal != digest(&json).unwrap_or_default()) {
            tracing::warn!(
                "{} is not as it was written, so that its numbers may be wrong; run the experiment again for a new record, \
                 the cache still has its results",
                path.display()
            );
        }
        serde_json::from_value(json).map_err(damaged)
    }

    /// The ids that have a record, oldest first.
    pub(super) fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = folders(&self.above)?;
        ids.retain(|id| self.dir(id).join(self.file).is_file());
        ids.sort();
        Ok(ids)
    }
}

/// The record with its seal, as text.
fn sealed(mut json: Json) -> io::Result<String> {
    let seal = digest(&json)?;
    if let Some(record) = json.as_object_mut() {
        record.insert(SEAL.to_owned(), seal.into());
    }
    Ok(serde_json::to_string_pretty(&json)?)
}

fn digest(json: &Json) -> io::Result<String> {
    Ok(Digest::of(&serde_json::to_vec(json)?).to_string())
}

/// The names in a folder, in no order; none if it is not there.
fn folders(above: &Path) -> io::Result<Vec<String>> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let list = || -> io::Result<Vec<String>> { fs::read_dir(above)?.map(|entry| entry.map(name)).collect() };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|error| naming(above, &error)),
    }
}

fn is_id(name: &str) -> bool {
    let shape = |(at, byte): (usize, u8)| match at {
        8 | STAMP => byte == b'-',
        _ if at < STAMP => byte.is_ascii_digit(),
        _ => byte.is_ascii_hexdigit(),
    };
    name.len() == STAMP + 5 && name.bytes().enumerate().all(shape)
}

/// The error with the path that it is about.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(dir: &Path) -> Shelf {
        Shelf::new(dir.join("runs"), "record.json")
    }

    #[test]
    fn ids_sort_by_when_they_were_made_also_where_the_clock_goes_backwards() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let shelf = shelf(dir.path());
        fs::create_dir_all(dir.path().join("runs/99999999-notes")).expect("writable");
        let times = [1_000, 2_000_000_000, 2_000_000_000, 0, 1_000, 4_000_000_000, 5];
        let ids = times.map(|now| shelf.create(now).expect("a new id"));
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(ids[0], "19700101-001640-0000");
        assert_eq!(ids[3], "20330518-033320-0002");
        assert!(shelf.create(u64::MAX).is_err());
    }

    #[test]
    fn a_record_that_was_cut_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let shelf = shelf(dir.path());
        let id = shelf.create(0).expect("a new id");
        let record = serde_json::json!({ "id": id, "loss": 0.1, "nodes": [1, 2] });
        shelf.write(&id, &record).expect("writable");
        assert_eq!(shelf.read::<Json>(&id).expect("just written"), record);
        let path = shelf.dir(&id).join("record.json");
        let text = fs::read_to_string(&path).expect("just written");
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).expect("writable");
            let error = shelf.read::<Json>(&id).expect_err("cut").to_string();
            assert!(
                error.contains("record.json is damaged") && error.contains("remove its folder"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_seal_fits_nothing_else() {
        let text = sealed(serde_json::json!({ "loss": 0.1, "big": u64::MAX })).expect("plain data");
        let fits = |text: &str| {
            let mut json: Json = serde_json::from_str(text).expect("JSON");
            let seal = json.as_object_mut().expect("an object").shift_remove(SEAL).expect("sealed");
            digest(&json).expect("plain data") == seal
        };
        assert!(fits(&text));
        assert!(!fits(&text.replace("0.1", "0.2")));
        assert!(!fits(&text.replace("loss", "lost")));
    }
}
