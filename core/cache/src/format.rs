//! The bytes of a pack file: its header, the header of an entry, and [`Location`], where a payload lies.
//!
//! Every header is 64 bytes, little-endian, and ends in the CRC-32 of its first 60:
//!
//! ```text
//! pack     0..8 "HEDLPACK"   8..12 version   12..16 pack number                  16..60 zero   60..64 crc
//! entry    0..8 "HEDLBLOB"   8..16 payload length    16..48 BLAKE3 of the payload 48..60 zero   60..64 crc
//! ```
//!
//! Knows nothing of files or of the index.

use heddle_graph::digest::Digest;

/// Every header and payload starts at a multiple of this, so that a payload can be read as `f32` in place.
pub(crate) const ALIGN: u64 = 64;
/// Length of a pack's header, and of an entry's.
pub(crate) const HEADER_BYTES: u64 = 64;

const PACK_MAGIC: &[u8; 8] = b"HEDLPACK";
const ENTRY_MAGIC: &[u8; 8] = b"HEDLBLOB";
const VERSION: u32 = 1;

/// A header, ready to be written.
pub(crate) type Header = [u8; HEADER_BYTES as usize];

/// The header of pack number `pack`.
pub(crate) fn pack_header(pack: u32) -> Header {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(PACK_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&pack.to_le_bytes());
    seal(header)
}

/// The header that stands before a payload of `len` bytes.
pub(crate) fn entry_header(digest: &Digest, len: u64) -> Header {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(ENTRY_MAGIC);
    header[8..16].copy_from_slice(&len.to_le_bytes());
    header[16..48].copy_from_slice(digest.as_bytes());
    seal(header)
}

/// Reads an entry's header; `None` if these are not the bytes of one.
pub(crate) fn read_entry_header(bytes: &[u8]) -> Option<(Digest, u64)> {
    let header: &Header = bytes.first_chunk()?;
    if !header.starts_with(ENTRY_MAGIC) || seal(*header) != *header {
        return None;
    }
    let len = u64::from_le_bytes(*header[8..].first_chunk()?);
    Some((Digest::from_bytes(*header[16..].first_chunk()?), len))
}

/// Writes the checksum over the first 60 bytes into the last four.
fn seal(mut header: Header) -> Header {
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Where a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    /// Number of the pack.
    pub(crate) pack: u32,
    /// First byte of the payload, from the start of the pack; a multiple of [`ALIGN`].
    pub(crate) offset: u64,
    /// Length of the payload in bytes.
    pub(crate) len: u64,
}

impl Location {
    /// The payload behind the entry header at `header`; `None` if no file can be that long.
    pub(crate) fn after_header(pack: u32, header: u64, len: u64) -> Option<Self> {
        let offset = header.checked_add(HEADER_BYTES)?;
        Self { pack, offset, len }.checked()
    }

    /// Where the next entry's header may start.
    pub(crate) fn end(&self) -> u64 {
        (self.offset + self.len).next_multiple_of(ALIGN)
    }

    /// As bytes, for the index.
    pub(crate) fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.pack.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_le_bytes());
        bytes[12..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// The inverse of [`encode`](Self::encode); `None` for bytes that it cannot have made.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 20] = bytes.try_into().ok()?;
        let pack = u32::from_le_bytes(*bytes.first_chunk()?);
        let offset = u64::from_le_bytes(*bytes[4..].first_chunk()?);
        let len = u64::from_le_bytes(*bytes[12..].first_chunk()?);
        Self { pack, offset, len }.checked()
    }

    /// Refuses what [`end`](Self::end) could not compute, or what would not be aligned.
    fn checked(self) -> Option<Self> {
        let end = self.offset.checked_add(self.len)?.checked_next_multiple_of(ALIGN);
        (end.is_some() && self.offset.is_multiple_of(ALIGN)).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_notice_any_flipped_bit() {
        let header = entry_header(&Digest::of(b"x"), 1);
        assert_eq!(read_entry_header(&header), Some((Digest::of(b"x"), 1)));
        for bit in 0..header.len() * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_entry_header(&flipped), None, "bit {bit}");
        }
        assert_eq!(read_entry_header(&header[..63]), None);
    }

    #[test]
    fn locations_round_trip_and_refuse_nonsense() {
        let location = Location::after_header(3, 128, 65).expect("a possible place");
        assert_eq!((location.offset, location.end()), (192, 320));
        assert_eq!(Location::decode(&location.encode()), Some(location));
        assert_eq!(Location::decode(&Location { offset: 193, ..location }.encode()), None);
        assert_eq!(Location::after_header(0, 64, u64::MAX - 64), None);
    }
}
