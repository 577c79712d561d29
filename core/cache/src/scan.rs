//! [`scan`]: finds the whole entries in the bytes of a pack, whatever else lies between them.
//!
//! Used where the index does not know: behind its last entry after a crash, and over whole packs when it is lost.
//! Pure: bytes in, findings out.

use heddle_graph::digest::Digest;

use crate::format::{ALIGN, Location, read_entry_header};

/// What lies in a stretch of a pack.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Entries whose payload has the digest that their header says, in file order.
    pub(crate) entries: Vec<(Digest, Location)>,
    /// Offsets at which something else begins: a torn or damaged entry.
    pub(crate) damaged: Vec<u64>,
    /// Where the last whole entry ends, or where the search began.
    pub(crate) end: u64,
}

/// Searches pack number `pack` from offset `from`; `bytes` is the pack from its start.
///
/// Damage is stepped over: the search goes on at the next aligned place that holds a header. An entry counts only
/// if its digest fits, so a payload that happens to contain a pack file does no harm.
pub(crate) fn scan(pack: u32, bytes: &[u8], from: u64) -> Findings {
    let mut findings = Findings { end: from, ..Findings::default() };
    let mut at = from;
    let mut in_damage = false;
    while at < bytes.len() as u64 {
        let (next, whole) = match entry_at(pack, bytes, at) {
            Some((digest, location, true)) => {
                findings.entries.push((digest, location));
                findings.end = location.end();
                (location.end(), true)
            }
            // A whole header with a wrong payload still says where the next entry is.
            Some((_, location, false)) => (location.end(), false),
            None => (at + ALIGN, false),
        };
        if !whole && !in_damage {
            findings.damaged.push(at);
        }
        in_damage = !whole;
        at = next;
    }
    findings
}

/// The entry whose header stands at `at` and whose payload lies within `bytes`, and whether the payload is right.
fn entry_at(pack: u32, bytes: &[u8], at: u64) -> Option<(Digest, Location, bool)> {
    let header = bytes.get(usize::try_from(at).ok()?..)?;
    let (digest, len) = read_entry_header(header)?;
    let location = Location::after_header(pack, at, len)?;
    let offset = usize::try_from(location.offset).ok()?;
    let payload = bytes.get(offset..)?.get(..usize::try_from(len).ok()?)?;
    Some((digest, location, Digest::of(payload) == digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{HEADER_BYTES, entry_header, pack_header};

    fn pack_of(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = pack_header(0).to_vec();
        for payload in payloads {
            bytes.extend(entry_header(&Digest::of(payload), payload.len() as u64));
            bytes.extend(*payload);
            bytes.resize(bytes.len().next_multiple_of(ALIGN as usize), 0);
        }
        bytes
    }

    fn check(bytes: &[u8], expected: &[&[u8]], damaged: &[u64]) -> Findings {
        let findings = scan(0, bytes, HEADER_BYTES);
        let digests: Vec<_> = findings.entries.iter().map(|(digest, _)| *digest).collect();
        assert_eq!(digests, expected.iter().map(|payload| Digest::of(payload)).collect::<Vec<_>>());
        assert_eq!(findings.damaged, damaged);
        findings
    }

    #[test]
    fn every_cut_leaves_the_whole_entries_before_it() {
        let bytes = pack_of(&[b"one", b"", &[7; 100]]);
        for cut in 64..bytes.len() {
            let whole = [64 + 64 + 3, 64 + 128 + 64, 64 + 128 + 64 + 64 + 100];
            let found = scan(0, &bytes[..cut], HEADER_BYTES).entries.len();
            assert_eq!(found, whole.iter().filter(|&&end| end <= cut).count(), "cut at {cut}");
        }
        assert_eq!(check(&bytes, &[b"one", b"", &[7; 100]], &[]).end, bytes.len() as u64);
    }

    #[test]
    fn damage_costs_only_the_entry_it_is_in() {
        let mut header = pack_of(&[b"one", b"two", b"three"]);
        header[64 + 128 + 9] ^= 1;
        check(&header, &[b"one", b"three"], &[192]);
        let mut payload = pack_of(&[b"one", b"two", b"three"]);
        payload[64 + 128 + 64] ^= 1;
        check(&payload, &[b"one", b"three"], &[192]);
    }

    #[test]
    fn a_huge_length_ends_nothing() {
        let mut bytes = pack_of(&[b"one"]);
        bytes.extend(entry_header(&Digest::of(b""), u64::MAX - 200));
        check(&bytes, &[b"one"], &[192]);
    }
}
