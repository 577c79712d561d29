//! Builders for parameters that name files or folders. They must exist when the experiment is checked; their content
//! enters a cache key, their path does not.

use serde_json::json;

use super::{
    docs::FieldDoc,
    from_value::Wrong,
    reader::Reader,
    value::{Value, ValueKind},
};
use crate::{paths::is_pattern, source::Span};

/// A file that a parameter names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// As the author wrote it; a pattern if it was one.
    pub typed: String,
    /// The resolved path of the one file.
    pub path: String,
    /// Where it is named.
    pub span: Span,
}

/// One file, about to be read.
#[must_use = "end with `required`, `or` or `optional`"]
pub struct FileField<'r, 'a> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
    help: &'static str,
    want: Want,
}

/// What a path has to be.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Want {
    File,
    Folder,
}

impl Want {
    fn ty(self) -> &'static str {
        match self {
            Self::File => "path of a file",
            Self::Folder => "path of a folder",
        }
    }
}

impl<'r, 'a> FileField<'r, 'a> {
    pub(super) fn new(
        reader: &'r mut Reader<'a>,
        name: &'static str,
        help: &'static str,
        want: Want,
    ) -> Self {
        Self { reader, name, help, want }
    }

    /// The file; an error if the key is missing.
    pub fn required(mut self) -> InputFile {
        self.document(None, true);
        let nowhere = InputFile { typed: String::new(), path: String::new(), span: self.reader.span() };
        let Some(entry) = self.reader.take(self.name) else {
            self.reader.missing(self.name, self.want.ty());
            return nowhere;
        };
        self.written(&entry.value).unwrap_or(nowhere)
    }

    /// The file, or a default, as a rule `embedded:...`.
    pub fn or(mut self, default: &str) -> InputFile {
        self.document(Some(default), false);
        let typed = default.to_owned();
        let fallback = InputFile { path: typed.clone(), typed, span: self.reader.span() };
        match self.reader.take(self.name) {
            Some(entry) => self.written(&entry.value).unwrap_or(fallback),
            None => {
                self.reader.reading.files.push((self.name.to_owned(), fallback.clone()));
                fallback
            }
        }
    }

    /// The file, if the key is there.
    pub fn optional(mut self) -> Option<InputFile> {
        self.document(None, false);
        let entry = self.reader.take(self.name)?;
        self.written(&entry.value)
    }

    fn written(self, value: &Value) -> Option<InputFile> {
        let found = match self.want {
            Want::Folder => folder(self.reader, value),
            Want::File => expand(self.reader, value).and_then(|mut files| match files.len() {
                1 => Ok(files.remove(0)),
                count => Err(Wrong::new(value, format!("matches {count} files, one is wanted"))),
            }),
        };
        match found {
            Ok(file) => {
                self.reader.reading.files.push((self.name.to_owned(), file.clone()));
                Some(file)
            }
            Err(wrong) => {
                self.reader.wrong(self.name, wrong, value);
                None
            }
        }
    }

    fn document(&mut self, default: Option<&str>, required: bool) {
        let (name, help, default, ty) = (self.name, self.help, default.map(Into::into), self.want.ty());
        let schema = json!({ "type": "string" });
        let doc = || FieldDoc { default, required, ..FieldDoc::value(name, help, ty.to_owned(), schema) };
        self.reader.document(doc);
    }
}

/// Several files, about to be read.
#[must_use = "end with `required`, `or` or `optional`"]
pub struct FilesField<'r, 'a> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
    help: &'static str,
}

impl<'r, 'a> FilesField<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, name: &'static str, help: &'static str) -> Self {
        Self { reader, name, help }
    }

    /// The files; an error if the key is missing.
    pub fn required(mut self) -> Vec<InputFile> {
        self.document(None, true);
        match self.reader.take(self.name) {
            Some(entry) => self.written(&entry.value),
            None => {
                self.reader.missing(self.name, "path or pattern, or an array of them");
                Vec::new()
            }
        }
    }

    /// The files, or those of default patterns.
    pub fn or(mut self, defaults: &[&str]) -> Vec<InputFile> {
        self.document(Some(defaults), false);
        if let Some(entry) = self.reader.take(self.name) {
            return self.written(&entry.value);
        }
        if self.reader.is_documenting() {
            return Vec::new();
        }
        let span = self.reader.span();
        let string = |text: &&str| Value::new(ValueKind::String((*text).to_owned()), span);
        self.written(&Value::new(ValueKind::Array(defaults.iter().map(string).collect()), span))
    }

    /// The files; none if the key is missing.
    pub fn optional(mut self) -> Vec<InputFile> {
        self.document(None, false);
        self.reader.take(self.name).map(|entry| self.written(&entry.value)).unwrap_or_default()
    }

    /// The files of a string or an array of strings, in the order of the patterns, each pattern's files sorted.
    fn written(&mut self, value: &Value) -> Vec<InputFile> {
        let patterns = match &value.kind {
            ValueKind::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        let mut files: Vec<InputFile> = Vec::new();
        for pattern in patterns {
            let found = match pattern.as_str().and_then(|text| text.strip_prefix('@')) {
                Some(list) => listed(self.reader, pattern, list),
                None => expand(self.reader, pattern),
            };
            match found {
                Ok(found) => {
                    files.extend(found);
                }
                Err(wrong) => self.reader.wrong(self.name, wrong, pattern),
            }
        }
        let name = self.name;
        self.reader.reading.files.extend(files.iter().map(|file| (name.to_owned(), file.clone())));
        files
    }

    fn document(&mut self, default: Option<&[&str]>, required: bool) {
        let (name, help, default) = (self.name, self.help, default.map(Into::into));
        let schema = json!({ "type": ["string", "array"], "items": { "type": "string" } });
        let ty = "path or pattern, or an array of them".to_owned();
        self.reader.document(|| FieldDoc { default, required, ..FieldDoc::value(name, help, ty, schema) });
    }
}

/// The path of a string as the author wrote it, and resolved.
fn resolve<'v>(reader: &Reader<'_>, value: &'v Value) -> Result<(&'v str, String), Wrong> {
    let typed = value.as_str().ok_or_else(|| Wrong::ty(value, "path"))?;
    if typed.is_empty() {
        return Err(Wrong::new(value, "the path is empty"));
    }
    Ok((typed, reader.env.loader.resolve(reader.env.sources.name(value.span.source), typed)))
}

/// The existing folder of one string.
fn folder(reader: &Reader<'_>, value: &Value) -> Result<InputFile, Wrong> {
    let (typed, path) = resolve(reader, value)?;
    if reader.env.loader.is_folder(&path) {
        return Ok(InputFile { typed: typed.to_owned(), path, span: value.span });
    }
    let is_file = !reader.env.loader.expand(&path).is_empty();
    let what = if is_file { "a file, and a folder is wanted:" } else { "no such folder:" };
    Err(Wrong::new(value, format!("{what} `{path}`")).help("paths are relative to the file that names them"))
}

/// The files that a text file names (`@list.txt`): a path or pattern a line, relative to it; empty lines and those
/// that begin with `#` say nothing.
fn listed(reader: &Reader<'_>, value: &Value, list: &str) -> Result<Vec<InputFile>, Wrong> {
    let loader = reader.env.loader;
    let path = loader.resolve(reader.env.sources.name(value.span.source), list);
    let wrong = |message: String| {
        Wrong::new(value, message)
            .help("`@list.txt` is a text file with a path or pattern a line, relative to it")
    };
    let bytes = loader.read(&path).map_err(|error| wrong(format!("`{path}` cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(format!("`{path}` is not UTF-8")))?;
    let mut files = Vec::new();
    for (line, pattern) in text.lines().map(str::trim).enumerate() {
        if pattern.is_empty() || pattern.starts_with('#') {
            continue;
        }
        let found = loader.expand(&loader.resolve(&path, pattern));
        if found.is_empty() {
            return Err(wrong(format!("`{path}`, line {}: no file matches `{pattern}`", line + 1)));
        }
        files.extend(found.into_iter().map(|path| InputFile {
            typed: pattern.to_owned(),
            path,
            span: value.span,
        }));
    }
    if files.is_empty() {
        return Err(wrong(format!("`{path}` names no file")));
    }
    Ok(files)
}

/// The existing files of one string; none is a mistake.
fn expand(reader: &Reader<'_>, value: &Value) -> Result<Vec<InputFile>, Wrong> {
    let (typed, resolved) = resolve(reader, value)?;
    let paths = reader.env.loader.expand(&resolved);
    if paths.is_empty() {
        let what = if is_pattern(typed) { "no file matches" } else { "no such file:" };
        return Err(Wrong::new(value, format!("{what} `{resolved}`"))
            .help("paths are relative to the file that names them"));
    }
    let file = |path| InputFile { typed: typed.to_owned(), path, span: value.span };
    Ok(paths.into_iter().map(file).collect())
}
