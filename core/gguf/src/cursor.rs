//! A place in the file that moves forward and never beyond its end.

use crate::GgufError;

/// The rest of a file.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The place, from the start of the bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next bytes; `what` they belong to is told where they are not there.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], GgufError> {
        let end = self.at.checked_add(len);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or(GgufError::End { what, at: self.at })?;
        self.at += len;
        Ok(found)
    }

    /// The next bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| GgufError::End { what, at })
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Text with its length before it.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let at = self.at;
        let len = usize::try_from(self.u64(what)?).map_err(|_| GgufError::End { what, at })?;
        let at = self.at;
        str::from_utf8(self.take(len, what)?).map_err(|_| GgufError::Text { at })
    }

    /// A count of things that take at least `least` bytes each.
    pub fn count(&mut self, what: &'static str, least: usize) -> Result<usize, GgufError> {
        let count = self.u64(what)?;
        let fits = |count: &usize| *count <= self.left() / least;
        usize::try_from(count).ok().filter(fits).ok_or(GgufError::Count { what, count })
    }
}
