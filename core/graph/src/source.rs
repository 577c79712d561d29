//! Where text comes from: [`Sources`] holds every file that was read, [`Span`] points into one of them, and
//! [`Load`] is how this crate asks for a file.
//!
//! This crate never opens a file itself: the binary implements [`Load`] over the file system, tests use
//! [`crate::MapLoader`].

use std::{collections::HashMap, sync::Arc};

/// Names one text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A range of bytes in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// No place in any source, for what no file says.
    pub const NOWHERE: Self = Self { source: SourceId(u32::MAX), start: 0, end: 0 };
}

/// One text with its name.
#[derive(Debug, Clone)]
struct Text {
    name: Arc<str>,
    text: Arc<str>,
}

/// All texts that were read, in the order of reading. Command-line overrides are texts too, named `-S`.
///
/// Cloning is cheap per text: names and texts are shared.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    texts: Vec<Text>,
    by_name: HashMap<Arc<str>, Vec<SourceId>>,
}

impl Sources {
    /// No texts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text; the same text under the same name is kept once.
    pub fn add(&mut self, name: &str, text: &str) -> SourceId {
        let known = self.by_name.get(name).into_iter().flatten().copied();
        if let Some(id) = known.into_iter().find(|id| &*self.texts[id.0 as usize].text == text) {
            return id;
        }
        let id = SourceId(self.texts.len() as u32);
        let name: Arc<str> = name.into();
        self.texts.push(Text { name: name.clone(), text: text.into() });
        self.by_name.entry(name).or_default().push(id);
        id
    }

    /// The text last added under a name.
    pub fn find(&self, name: &str) -> Option<SourceId> {
        self.by_name.get(name)?.last().copied()
    }

    /// The name of a text: the path of a file, or `-S`.
    pub fn name(&self, id: SourceId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |text| &text.name)
    }

    /// The text itself.
    pub fn text(&self, id: SourceId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |text| &text.text)
    }

    /// Line and column of the first byte of a span, both from 1; columns count characters.
    pub fn line_col(&self, span: Span) -> (usize, usize) {
        let text = self.text(span.source);
        let start = floor_char(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// All texts with their names, in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|text| (&*text.name, &*text.text))
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// The nearest character boundary at or before a byte, inside the text.
pub(crate) fn floor_char(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// How the pure stages see files.
pub trait Load {
    /// The bytes of a resolved path, or a short reason why there are none (`no such file`).
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// A path as some file wrote it, made relative to the folder of that file; `embedded:...` stays as it is.
    fn resolve(&self, base_file: &str, path: &str) -> String;

    /// The existing files that match a resolved path, `*`/`?` glob or `{a..b}`/`{a,b}` pattern, sorted; empty if
    /// there are none.
    fn expand(&self, pattern: &str) -> Vec<String>;

    /// Whether a resolved path is a folder.
    fn is_folder(&self, path: &str) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let mut sources = Sources::new();
        let source = sources.add("a.toml", "é = 1\nb = 2\n");
        assert_eq!(sources.line_col(Span { source, start: 0, end: 1 }), (1, 1));
        assert_eq!(sources.line_col(Span { source, start: 3, end: 4 }), (1, 3));
        assert_eq!(sources.line_col(Span { source, start: 7, end: 8 }), (2, 1));
        assert_eq!(sources.line_col(Span { source, start: 99, end: 99 }), (3, 1));
    }

    #[test]
    fn equal_texts_are_kept_once() {
        let mut sources = Sources::new();
        let first = sources.add("-S", "a=1");
        let second = sources.add("-S", "a=2");
        assert_ne!(first, second);
        assert_eq!(sources.add("-S", "a=1"), first);
        assert_eq!(sources.len(), 2);
    }
}
