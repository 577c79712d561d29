//! Builders for single values: [`Field`] with bounds and defaults, [`Choice`] of words.

use serde_json::{Map, Value as Json, json};

use super::{
    docs::{ChoiceDoc, FieldDoc},
    from_value::{FromValue, Number, Wrong},
    reader::Reader,
    value::Value,
};
use crate::suggest;

/// A bound on a value, with the words for it.
struct Bound<T> {
    words: String,
    holds: Box<dyn Fn(&T) -> bool>,
}

/// A value that is about to be read.
#[must_use = "end with `required`, `or` or `optional`"]
pub struct Field<'r, 'a, T> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
    help: &'static str,
    bounds: Vec<Bound<T>>,
    schema: Map<String, Json>,
    left_out: Option<&'static str>,
}

/// What stood under a key.
enum Found<T> {
    Nothing,
    Wrong,
    Value(T),
}

impl<'r, 'a, T: FromValue> Field<'r, 'a, T> {
    pub(super) fn new(reader: &'r mut Reader<'a>, name: &'static str, help: &'static str) -> Self {
        Self { reader, name, help, bounds: Vec::new(), schema: Map::new(), left_out: None }
    }

    /// Keeps the value out of cache keys, for a reason that `why` shows.
    pub fn not_in_key(mut self, reason: &'static str) -> Self {
        self.left_out = Some(reason);
        self
    }

    /// A condition of its own: `words` complete "must be ...".
    pub fn must(mut self, words: impl Into<String>, holds: impl Fn(&T) -> bool + 'static) -> Self {
        self.bounds.push(Bound { words: words.into(), holds: Box::new(holds) });
        self
    }

    /// The value; an error if the key is missing.
    pub fn required(mut self) -> T {
        self.document(None, true);
        match self.read() {
            Found::Value(value) => self.keep(value),
            Found::Wrong => T::placeholder(),
            Found::Nothing => {
                self.reader.missing(self.name, &T::ty());
                T::placeholder()
            }
        }
    }

    /// The value, or a default that counts as if it were written.
    pub fn or(mut self, default: T) -> T {
        self.document(Some(default.to_json()), false);
        match self.read() {
            Found::Value(value) => self.keep(value),
            Found::Wrong | Found::Nothing => self.keep(default),
        }
    }

    /// The value, if it is there. A missing one leaves no trace in the canonical form, so a later version of a
    /// kind can add a field without changing the keys of old files.
    pub fn optional(mut self) -> Option<T> {
        self.document(None, false);
        match self.read() {
            Found::Value(value) => Some(self.keep(value)),
            Found::Wrong | Found::Nothing => None,
        }
    }

    fn read(&mut self) -> Found<T> {
        let Some(entry) = self.reader.take(self.name) else { return Found::Nothing };
        match T::from_value(&entry.value).and_then(|value| self.check(value, &entry.value)) {
            Ok(value) => Found::Value(value),
            Err(wrong) => {
                self.reader.wrong(self.name, wrong, &entry.value);
                Found::Wrong
            }
        }
    }

    fn check(&self, value: T, written: &Value) -> Result<T, Wrong> {
        match self.bounds.iter().find(|bound| !(bound.holds)(&value)) {
            Some(bound) => {
                Err(Wrong::new(written, format!("must be {}, found {}", bound.words, written.to_json())))
            }
            None => Ok(value),
        }
    }

    fn keep(&mut self, value: T) -> T {
        match self.left_out {
            Some(reason) => self.reader.left_out(self.name, reason),
            None => self.reader.record(self.name, value.to_json()),
        }
        value
    }

    fn document(&mut self, default: Option<Json>, required: bool) {
        let (name, help, left_out) = (self.name, self.help, self.left_out);
        let words = self.bounds.iter().map(|bound| format!(", {}", bound.words)).collect::<String>();
        let extra = std::mem::take(&mut self.schema);
        self.reader.document(|| {
            let mut schema = T::schema();
            if let Json::Object(map) = &mut schema {
                map.extend(extra);
            }
            let ty = format!("{}{words}", T::ty());
            FieldDoc { default, required, left_out, ..FieldDoc::value(name, help, ty, schema) }
        });
    }
}

impl<T: Number> Field<'_, '_, T> {
    /// At least this.
    pub fn min(mut self, min: T) -> Self {
        self.schema.insert("minimum".to_owned(), min.to_json());
        self.must(format!("at least {min}"), move |value| *value >= min)
    }

    /// At most this.
    pub fn max(mut self, max: T) -> Self {
        self.schema.insert("maximum".to_owned(), max.to_json());
        self.must(format!("at most {max}"), move |value| *value <= max)
    }

    /// Both bounds, each included.
    pub fn range(self, range: std::ops::RangeInclusive<T>) -> Self {
        self.min(*range.start()).max(*range.end())
    }

    /// More than zero.
    pub fn positive(mut self) -> Self {
        self.schema.insert("exclusiveMinimum".to_owned(), T::ZERO.to_json());
        self.must("more than 0", |value| *value > T::ZERO)
    }
}

/// One of a few words, about to be read.
#[must_use = "end with `required`, `or` or `optional`"]
pub struct Choice<'r, 'a, T> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
    help: &'static str,
    choices: Vec<(&'static str, T, &'static str)>,
    left_out: Option<&'static str>,
}

impl<'r, 'a, T: Clone> Choice<'r, 'a, T> {
    pub(super) fn new(
        reader: &'r mut Reader<'a>,
        name: &'static str,
        help: &'static str,
        choices: Vec<(&'static str, T, &'static str)>,
    ) -> Self {
        Self { reader, name, help, choices, left_out: None }
    }

    /// Keeps the value out of cache keys, for a reason that `why` shows.
    pub fn not_in_key(mut self, reason: &'static str) -> Self {
        self.left_out = Some(reason);
        self
    }

    /// The chosen meaning; an error if the key is missing.
    pub fn required(mut self) -> T {
        self.document(None, true);
        match self.read() {
            Found::Value(at) => self.keep(at),
            Found::Wrong => self.choices[0].1.clone(),
            Found::Nothing => {
                self.reader.missing(self.name, &format!("word of {}", self.words()));
                self.choices[0].1.clone()
            }
        }
    }

    /// The chosen meaning, or that of a default word, which must be one of the choices.
    pub fn or(mut self, default: &'static str) -> T {
        self.document(Some(default.into()), false);
        let default = self.choices.iter().position(|(word, ..)| *word == default);
        match self.read() {
            Found::Value(at) => self.keep(at),
            Found::Wrong | Found::Nothing => self
                .keep(default.expect("the kind's own default is one of its choices, whatever the file says")),
        }
    }

    /// The chosen meaning, if the key is there.
    pub fn optional(mut self) -> Option<T> {
        self.document(None, false);
        match self.read() {
            Found::Value(at) => Some(self.keep(at)),
            Found::Wrong | Found::Nothing => None,
        }
    }

    fn read(&mut self) -> Found<usize> {
        let Some(entry) = self.reader.take(self.name) else { return Found::Nothing };
        let at = |text: &str| self.choices.iter().position(|(word, ..)| *word == text);
        let wrong = match entry.value.as_str().map(|text| (text, at(text))) {
            Some((_, Some(at))) => return Found::Value(at),
            Some((text, None)) => {
                let help = suggest::help(text, self.choices.iter().map(|(word, ..)| *word));
                let wrong = Wrong::new(&entry.value, format!("`{text}` is not one of {}", self.words()));
                Wrong { help, ..wrong }
            }
            None => Wrong::ty(&entry.value, "string").help(format!("one of {}", self.words())),
        };
        self.reader.wrong(self.name, wrong, &entry.value);
        Found::Wrong
    }

    fn words(&self) -> String {
        suggest::list(&self.choices.iter().map(|(word, ..)| *word).collect::<Vec<_>>())
    }

    fn keep(&mut self, at: usize) -> T {
        match self.left_out {
            Some(reason) => self.reader.left_out(self.name, reason),
            None => self.reader.record(self.name, self.choices[at].0.into()),
        }
        self.choices[at].1.clone()
    }

    fn document(&mut self, default: Option<Json>, required: bool) {
        let words: Vec<&str> = self.choices.iter().map(|(word, ..)| *word).collect();
        let doc = |(value, _, help): &(&'static str, T, &'static str)| ChoiceDoc { value, help };
        let choices = self.choices.iter().map(doc).collect();
        let (name, help, left_out) = (self.name, self.help, self.left_out);
        self.reader.document(|| FieldDoc {
            default,
            required,
            left_out,
            choices,
            ..FieldDoc::value(name, help, "word".to_owned(), json!({ "enum": words }))
        });
    }
}
