//! Diagnostics as text: `file:line:col`, the line, a caret, the help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    source::{Sources, Span, floor_char},
};

/// All diagnostics in file order, a blank line between them, ending in a newline.
pub fn render(diagnostics: &Diagnostics, sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.extend(renderer.render(&[report(diagnostic, sources)]).chars().map(without_c1));
        text.push_str("\n\n");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// One diagnostic as a report: a snippet for each source that it touches, its own first.
fn report<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let mut group =
        Level::ERROR.primary_title(printable(&diagnostic.message)).elements(snippets(diagnostic, sources));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    group
}

fn snippets<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let own = diagnostic.span.map(|span| (span, AnnotationKind::Primary, diagnostic.label.as_deref()));
    let others =
        diagnostic.related.iter().map(|(span, label)| (*span, AnnotationKind::Context, Some(label.as_str())));
    let marks: Vec<_> = own.into_iter().chain(others).collect();
    let mut ids: Vec<_> = Vec::new();
    for (span, ..) in &marks {
        if !ids.contains(&span.source) {
            ids.push(span.source);
        }
    }
    ids.iter()
        .map(|id| {
            let here = marks.iter().filter(|(span, ..)| span.source == *id);
            let annotations = here.map(|(span, kind, label)| {
                let (start, end) = in_text(*span, sources.text(*id));
                kind.span(start..end).label(label.map(printable))
            });
            Snippet::source(sources.text(*id)).path(printable(sources.name(*id))).annotations(annotations)
        })
        .collect()
}

/// The span cut to its first line and to character boundaries, so that a caret can stand under it.
fn in_text(span: Span, text: &str) -> (usize, usize) {
    let start = floor_char(text, span.start);
    let end = floor_char(text, span.end).max(start);
    let line = text[start..end].split(['\n', '\r']).next().map_or(end, |line| start + line.len());
    (start, line)
}

/// The renderer shows the control characters of a quoted line, but for those beyond ASCII, on which terminals act as
/// well: U+009B begins an escape sequence.
fn without_c1(c: char) -> char {
    if matches!(c, '\u{7f}'..='\u{9f}') { '\u{fffd}' } else { c }
}

/// Control characters of the user's text must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
