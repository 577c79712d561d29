//! [`Diagnostic`]: one mistake and its place; [`Problems`] collects them while reading goes on; [`Diagnostics`] is
//! the error that a stage ends with.
//!
//! Knows nothing of the terminal: [`render`](crate::render()) turns them into text.

use std::{collections::HashSet, fmt};

use crate::source::Span;

/// One mistake in the files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
    /// What stands there, in a few words.
    pub label: Option<String>,
    /// What would be right.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A mistake without a place yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, label: None, help: None, related: Vec::new() }
    }

    /// Sets the place; [`Span::NOWHERE`] is none.
    #[must_use]
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into().filter(|span| *span != Span::NOWHERE);
        self
    }

    /// Sets what stands at the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets what would be right, if that is known.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn related(mut self, span: impl Into<Option<Span>>, label: impl Into<String>) -> Self {
        if let Some(span) = span.into().filter(|span| *span != Span::NOWHERE) {
            self.related.push((span, label.into()));
        }
        self
    }
}

/// One or more mistakes, in the order of the files, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// The error for these mistakes; `None` if there are none.
    pub fn from_list(mut list: Vec<Diagnostic>) -> Option<Self> {
        let mut seen = HashSet::new();
        list.retain(|diagnostic| seen.insert(diagnostic.clone()));
        list.sort_by_key(|d| (d.span.is_none(), d.span));
        (!list.is_empty()).then_some(Self(list))
    }

    /// The mistakes of several stages or files as one error; `None` if there are none.
    pub fn join(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        Self::from_list(all.into_iter().flat_map(|diagnostics| diagnostics.0).collect())
    }

    /// The mistakes, in the order of the files.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many, at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The mistakes themselves.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<&str> = self.0.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        f.write_str(&messages.join("; "))
    }
}

impl std::error::Error for Diagnostics {}

/// Mistakes found so far. Reading goes on after each, so that one pass reports all of them.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    list: Vec<Diagnostic>,
    gaps: Gaps,
    raised: usize,
}

/// Where the files could not be understood. What is said about these places, or about something that is not
/// there, could follow from the gap and is not reported.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    places: Vec<Span>,
    /// Whether a part of a file, not just one value, is unknown.
    incomplete: bool,
}

impl Gaps {
    fn touch(&self, span: Span) -> bool {
        let end = |span: &Span| span.end.max(span.start + 1);
        let overlaps =
            |gap: &Span| gap.source == span.source && gap.start < end(&span) && span.start < end(gap);
        self.places.iter().any(overlaps)
    }
}

impl Problems {
    /// An empty list for a document that was read with these gaps.
    pub fn with_gaps(gaps: Gaps) -> Self {
        Self { gaps, ..Self::default() }
    }

    /// Adds a mistake, unless it follows from a gap.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.raised += 1;
        if !diagnostic.span.is_some_and(|span| self.gaps.touch(span)) {
            self.list.push(diagnostic);
        }
    }

    /// Adds a mistake of absence (something needed or named is not there): said only if every file was
    /// understood as a whole.
    pub fn absent(&mut self, diagnostic: Diagnostic) {
        if self.gaps.incomplete {
            self.raised += 1;
        } else {
            self.push(diagnostic);
        }
    }

    /// Adds a mistake that leaves a part of a file unknown.
    pub fn gap(&mut self, part: Span, diagnostic: Diagnostic) {
        self.gaps.incomplete = true;
        self.lost(part, diagnostic);
    }

    /// Adds a mistake that leaves one value unknown; nothing more is said about its place.
    pub fn lost(&mut self, value: Span, diagnostic: Diagnostic) {
        self.push(diagnostic);
        self.gaps.places.push(value);
    }

    /// Both: a value that is unknown because something that it names is not there.
    pub fn lost_if_absent(&mut self, value: Span, diagnostic: Diagnostic) {
        self.absent(diagnostic);
        self.gaps.places.push(value);
    }

    /// How many mistakes were found, reported or not. Only grows.
    pub fn raised(&self) -> usize {
        self.raised
    }

    /// Where the files could not be understood.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Takes the mistakes of another list.
    pub fn append(&mut self, other: Self) {
        self.raised += other.raised;
        self.list.extend(other.list);
        self.gaps.places.extend(other.gaps.places);
        self.gaps.incomplete |= other.gaps.incomplete;
    }

    /// The mistakes as an error, if there are any.
    pub fn into_diagnostics(self) -> Option<Diagnostics> {
        Diagnostics::from_list(self.list)
    }

    /// The value if nothing is wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Diagnostics> {
        self.into_diagnostics().map_or(Ok(value), Err)
    }
}
