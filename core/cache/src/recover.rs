//! [`reconcile`]: makes index and packs agree when a cache is opened.
//!
//! In the usual case every pack is as long as the index says and nothing is read. Else, whichever is behind gives
//! way: entries behind the indexed end are checked and indexed, a torn tail is cut off, and places that are no
//! longer there are forgotten.

use std::fs::OpenOptions;

use crate::{
    append::{Appender, PACK_LIMIT_BYTES},
    error::CacheError,
    format::{ALIGN, HEADER_BYTES, Location, pack_header},
    index::Index,
    locations,
    pack::{Packs, map_file},
    scan::scan,
};

/// Publishes every pack up to where it is whole, and gives the writer that goes on behind the last.
pub(crate) fn reconcile(packs: &Packs, index: &Index) -> Result<Appender, CacheError> {
    let mut ends = locations::ends(index)?;
    let numbers = packs.list()?;
    let mut fit = None;
    let mut is_cut = false;
    for &pack in &numbers {
        is_cut |= ends.get(&pack).is_some_and(|end| shorter_than(packs, pack, *end));
        let (end, state) = reconcile_pack(packs, index, pack, ends.remove(&pack))?;
        packs.publish(pack, end);
        fit = (state == State::Sound && end < PACK_LIMIT_BYTES).then_some((pack, end));
    }
    let missing = ends;
    let next = numbers.iter().chain(missing.keys()).max().map_or(0, |last| last.saturating_add(1));
    for &pack in missing.keys() {
        // None of its entries are named if a compaction that was killed has just removed it.
        if forget_behind(index, pack, 0)? > 0 {
            tracing::warn!(
                "the cache's pack file {} is missing; its entries are lost",
                packs.path(pack).display()
            );
        }
        locations::set_end(index, pack, None)?;
    }
    if is_cut {
        // What is written behind a cut lies where the index on disk still names what was lost.
        index.flush()?;
    }
    Appender::new(packs, fit, next, PACK_LIMIT_BYTES)
}

fn shorter_than(packs: &Packs, pack: u32, end: u64) -> bool {
    packs.path(pack).metadata().is_ok_and(|meta| meta.len() < end)
}

/// Whether a pack can be appended to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// Its header is not ours: what it holds is read, but it is never written.
    Foreign,
}

/// Makes one pack agree with `indexed`, the end that the index knows; gives its readable end.
fn reconcile_pack(
    packs: &Packs,
    index: &Index,
    pack: u32,
    indexed: Option<u64>,
) -> Result<(u64, State), CacheError> {
    let path = packs.path(pack);
    let len = path.metadata().map_err(CacheError::io("read the size of", &path))?.len();
    let header = map_file(&path, len.min(HEADER_BYTES))?;
    let sound = header.is_some_and(|header| *header == pack_header(pack));
    let state = if sound { State::Sound } else { State::Foreign };
    let shown = path.display();
    if !sound {
        tracing::warn!("the cache's pack file {shown} has a damaged header; nothing more is written to it");
    }
    let mut from = indexed.unwrap_or(HEADER_BYTES);
    if len < from {
        if indexed.is_some() {
            tracing::warn!("the cache's pack file {shown} is cut at byte {len} of {from}; its end is lost");
            forget_behind(index, pack, len)?;
        }
        from = len.next_multiple_of(ALIGN);
    } else if len > from {
        from = index_tail(packs, index, pack, from, len)?;
    }
    if state == State::Foreign {
        // Searched once is enough, and it is not ours to cut.
        from = len;
    }
    if indexed != Some(from) {
        locations::set_end(index, pack, Some(from))?;
    }
    if len != from {
        cut(packs, pack, from)?;
    }
    Ok((from, state))
}

/// Indexes the whole entries in bytes `from..len`; gives the end of the last.
fn index_tail(packs: &Packs, index: &Index, pack: u32, from: u64, len: u64) -> Result<u64, CacheError> {
    let path = packs.path(pack);
    let Some(map) = map_file(&path, len)? else { return Ok(from) };
    let findings = scan(pack, &map, from);
    for at in &findings.damaged {
        tracing::warn!(
            "the cache's pack file {} has a torn or damaged entry at byte {at}; dropping it",
            path.display()
        );
    }
    if !findings.entries.is_empty() {
        let count = findings.entries.len();
        tracing::debug!("found {count} entries in {} that the index did not name", path.display());
        locations::record(index, &findings.entries)?;
    }
    Ok(findings.end)
}

/// Forgets the entries of `pack` that do not end by `len`; says how many there were.
fn forget_behind(index: &Index, pack: u32, len: u64) -> Result<usize, CacheError> {
    let behind = |location: &Location| location.pack == pack && location.end() > len;
    let mut lost = locations::all(index)?;
    lost.retain(|(_, location)| behind(location));
    for (digest, location) in &lost {
        locations::forget(index, digest, location)?;
    }
    Ok(lost.len())
}

/// Makes a pack exactly `len` bytes long: cuts what is torn, or pads what was cut within an entry.
fn cut(packs: &Packs, pack: u32, len: u64) -> Result<(), CacheError> {
    let path = packs.path(pack);
    let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(len));
    cut.map_err(CacheError::io("cut the torn end of", &path))
}
