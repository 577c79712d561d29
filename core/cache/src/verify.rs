//! [`verify`]: hashes every payload and checks every value; what is damaged is named, and dropped from the index.

use std::{fmt, path::PathBuf};

use heddle_graph::digest::Digest;

use crate::{error::CacheError, index::Index, locations, pack::Packs, values};

/// A damaged entry, which is now a miss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The pack file that should hold the payload.
    pub pack: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The digest that the payload should have.
    pub digest: Digest,
    /// What is wrong with it.
    pub what: Defect,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The pack file is missing or ends before it.
    Missing,
    /// Its bytes have another digest.
    Changed,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Changed => "has changed",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pack, offset, digest, what } = self;
        write!(f, "{}, byte {offset}: payload {} {what}", pack.display(), digest.short())
    }
}

/// Checks everything, in the order of the packs; `progress` hears bytes done and bytes in total.
pub(crate) fn verify(
    packs: &Packs,
    index: &Index,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Damage>, CacheError> {
    let mut payloads = locations::all(index)?;
    payloads.sort_unstable_by_key(|(_, location)| *location);
    let total = payloads.iter().map(|(_, location)| location.len).sum();
    let mut done = 0;
    let mut damages = Vec::new();
    for (digest, location) in payloads {
        let what = match packs.read(&location)? {
            None => Some(Defect::Missing),
            Some(payload) => (Digest::of(&payload) != digest).then_some(Defect::Changed),
        };
        if let Some(what) = what {
            locations::forget(index, &digest, &location)?;
            damages.push(Damage { pack: packs.path(location.pack), offset: location.offset, digest, what });
        }
        done += location.len;
        progress(done, total);
    }
    check_values(index)?;
    Ok(damages)
}

/// Reads every value, which drops the damaged ones with a warning.
fn check_values(index: &Index) -> Result<(), CacheError> {
    for space in values::counts(index)?.keys() {
        let mut last = None;
        while let Some((key, _)) = values::next(index, space, last.as_deref())? {
            last = Some(key);
        }
    }
    Ok(())
}
