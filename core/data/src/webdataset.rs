//! Reads a webdataset shard's table of contents: which records there are and where their parts lie.
//!
//! A [`Shard`] enters, a [`Scan`] leaves. Members that follow each other and share a key form a record. Image
//! bytes are hashed, not decoded: that is for whoever asks for pixels. Nothing in an archive makes this panic;
//! what cannot be used is named in [`Scan::skipped`].

use std::{
    collections::{BTreeMap, HashSet},
    io::Cursor,
};

use serde_json::{Map, Value};

use crate::{
    digest,
    record::{Part, Record, SkipReason, Skipped},
    shard::Shard,
};

const BLOCK: u64 = 512;

/// Where the column `split` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SplitFrom {
    /// Nowhere but the records' own columns.
    #[default]
    Columns,
    /// The shard's name up to its number: `shift-openmoji-0000.tar` gives `shift-openmoji`.
    ShardName,
}

/// How a shard is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Records without an image are skipped (default) or kept.
    pub require_image: bool,
    /// Where the column `split` comes from; overwrites a column of that name.
    pub split_from: SplitFrom,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { require_image: true, split_from: SplitFrom::Columns }
    }
}

/// What a shard holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// Records in the shard's order.
    pub records: Vec<Record>,
    /// What was left out, in the shard's order.
    pub skipped: Vec<Skipped>,
}

/// Scans a shard. A torn archive gives the records before the tear; the record at the tear is dropped, since
/// nobody can tell whether it is complete.
pub fn scan(shard: &Shard, options: &ScanOptions) -> Scan {
    let mut scanner = Scanner::new(shard, options);
    let torn = scanner.read_members();
    match torn {
        Some(detail) => scanner.drop_group(SkipReason::TornArchive { detail }),
        None => scanner.close_group(),
    }
    scanner.scan
}

/// Members of one key, until the next key comes.
#[derive(Default)]
struct Group {
    key: String,
    last_member: String,
    parts: BTreeMap<String, Part>,
    columns: Map<String, Value>,
    texts: Vec<(&'static str, Value)>,
    broken: Option<(String, SkipReason)>,
}

struct Scanner<'a> {
    shard: &'a Shard,
    options: &'a ScanOptions,
    seen: HashSet<String>,
    group: Option<Group>,
    scan: Scan,
}

impl<'a> Scanner<'a> {
    fn new(shard: &'a Shard, options: &'a ScanOptions) -> Self {
        Self { shard, options, seen: HashSet::new(), group: None, scan: Scan::default() }
    }

    /// Reads every member; returns what tore the archive, if it is torn.
    fn read_members(&mut self) -> Option<String> {
        let bytes = self.shard.as_bytes();
        let mut archive = tar::Archive::new(Cursor::new(bytes));
        let entries = match archive.entries_with_seek() {
            Ok(entries) => entries,
            Err(error) => return Some(error.to_string()),
        };
        let mut end = 0;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(error.to_string()),
            };
            let (offset, len) = (entry.raw_file_position(), entry.size());
            let name = entry.path_bytes().into_owned();
            let Some(content) = slice(bytes, offset, len) else {
                let name = String::from_utf8_lossy(&name);
                return Some(format!("`{name}` should have {len} bytes"));
            };
            end = len.div_ceil(BLOCK).saturating_mul(BLOCK).saturating_add(offset);
            self.member(&name, entry.header().entry_type(), offset, content);
        }
        // tar closes an archive with blocks of zeros; without one, members may be missing.
        match slice(bytes, end, BLOCK) {
            Some(block) if block.iter().all(|byte| *byte == 0) => None,
            _ => Some("no end-of-archive block".into()),
        }
    }

    fn member(&mut self, name: &[u8], kind: tar::EntryType, offset: u64, content: &[u8]) {
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return;
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        let named =
            if kind.is_file() || kind.is_contiguous() { split_name(name) } else { Err(SkipReason::NotAFile) };
        let (key, extension) = match named {
            Ok(named) => named,
            Err(reason) => return self.skip(String::new(), shown, reason),
        };
        if self.group.as_ref().is_none_or(|group| group.key != key) {
            self.close_group();
            self.open_group(key, &shown);
        }
        let digest = digest::of(content);
        let path = String::new();
        let part = Part { shard: self.shard.digest, path, offset, len: content.len() as u64, digest };
        if let Some(group) = &mut self.group {
            group.add(shown, extension, part, content);
        }
    }

    fn open_group(&mut self, key: String, member: &str) {
        let mut group = Group { key, ..Group::default() };
        if !self.seen.insert(group.key.clone()) {
            group.broken = Some((member.to_owned(), SkipReason::DuplicateKey));
        }
        self.group = Some(group);
    }

    fn close_group(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        if let Some((member, reason)) = group.broken.take() {
            return self.skip(group.key, member, reason);
        }
        let mut columns = group.columns;
        columns.extend(group.texts.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if self.options.split_from == SplitFrom::ShardName {
            columns.insert("split".into(), split_of(&self.shard.name).into());
        }
        let record = Record::new(group.key, self.shard.digest, group.parts, columns).adopt_columns();
        if self.options.require_image && record.image().is_none() {
            return self.skip(record.key, group.last_member, SkipReason::MissingImage);
        }
        self.scan.records.push(record);
    }

    fn drop_group(&mut self, reason: SkipReason) {
        let group = self.group.take().unwrap_or_default();
        self.skip(group.key, group.last_member, reason);
    }

    fn skip(&mut self, key: String, member: String, reason: SkipReason) {
        let shard = self.shard.name.clone();
        self.scan.skipped.push(Skipped { shard, key, member, reason });
    }
}

impl Group {
    fn add(&mut self, member: String, extension: String, part: Part, content: &[u8]) {
        self.last_member.clone_from(&member);
        let parsed = if self.parts.contains_key(&extension) {
            Err(SkipReason::DuplicatePart)
        } else {
            self.read_columns(&extension, content)
        };
        self.parts.insert(extension, part);
        if let Err(reason) = parsed {
            self.broken.get_or_insert((member, reason));
        }
    }

    fn read_columns(&mut self, extension: &str, content: &[u8]) -> Result<(), SkipReason> {
        match extension {
            "json" => self.columns = parse_object(content)?,
            "txt" => self.texts.push(("txt", text(content)?.into())),
            "cls" => {
                let label = text(content)?;
                self.texts.push(("cls", label.parse::<i64>().map_or_else(|_| label.into(), Value::from)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Bytes `offset .. offset + len`, if all of them are there.
fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let (start, end) = (usize::try_from(offset).ok()?, usize::try_from(offset.checked_add(len)?).ok()?);
    bytes.get(start..end)
}

/// Splits a member's name into key and lower-case extension at the first dot of its last component. As in
/// webdataset, folders belong to the key.
fn split_name(name: &[u8]) -> Result<(String, String), SkipReason> {
    let name = std::str::from_utf8(name).map_err(|_| SkipReason::NoKey)?;
    let name = name.strip_prefix("./").unwrap_or(name);
    if name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|component| component == "..") {
        return Err(SkipReason::UnsafeName);
    }
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.').ok_or(SkipReason::NoKey)?;
    if dot == base || dot + 1 == name.len() {
        return Err(SkipReason::NoKey);
    }
    Ok((name[..dot].to_owned(), name[dot + 1..].to_ascii_lowercase()))
}

fn parse_object(content: &[u8]) -> Result<Map<String, Value>, SkipReason> {
    match serde_json::from_slice(content) {
        Ok(Value::Object(columns)) => Ok(columns),
        Ok(_) => Err(SkipReason::NotAnObject),
        Err(e) => Err(SkipReason::InvalidJson { line: e.line(), column: e.column(), message: e.to_string() }),
    }
}

fn text(content: &[u8]) -> Result<String, SkipReason> {
    let text = std::str::from_utf8(content).map_err(|_| SkipReason::NotText)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A shard's name without extension and without the number after its last dash.
fn split_of(shard_name: &str) -> &str {
    let stem = shard_name.split('.').next().unwrap_or(shard_name);
    match stem.rsplit_once('-') {
        Some((split, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => split,
        _ => stem,
    }
}

#[cfg(test)]
mod tests;
