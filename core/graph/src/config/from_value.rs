//! [`FromValue`]: what a parameter can be, how it is read, and what its documentation says.
//!
//! A kind that takes a union (a string or a table) implements this for its own type.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::value::{Value, ValueKind};
use crate::{source::Span, suggest};

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, in lower case.
    pub message: String,
    /// The value at fault, perhaps a part of the one that was read.
    pub span: Span,
    /// What would be right.
    pub help: Option<String>,
}

impl Wrong {
    /// A value of the wrong type: says what was found and what is right.
    pub fn ty(value: &Value, expected: &str) -> Self {
        let message = format!("expected {}, found {}", with_article(expected), value.found());
        Self { message, span: value.span, help: None }
    }

    /// Any other fault of a value.
    pub fn new(value: &Value, message: impl Into<String>) -> Self {
        Self { message: message.into(), span: value.span, help: None }
    }

    /// A word that is none of the known ones: lists them and names the nearest.
    pub fn word(value: &Value, word: &str, known: &[&str]) -> Self {
        let message = format!("`{word}` is not one of {}", suggest::list(known));
        Self { help: suggest::help(word, known.iter().copied()), ..Self::new(value, message) }
    }

    /// Sets what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// `arrays of strings` for `array of strings`.
pub(super) fn plural(noun: &str) -> String {
    match noun.split_once(" of ") {
        Some((head, rest)) => format!("{head}s of {rest}"),
        None => format!("{noun}s"),
    }
}

/// A type that a parameter can have.
pub trait FromValue: Sized + 'static {
    /// Its name in docs and messages, singular, without an article: `integer`, `array of strings`.
    fn ty() -> String;
    /// Reads it.
    fn from_value(value: &Value) -> Result<Self, Wrong>;
    /// The value as it enters a cache key: one form for every spelling (`1` and `1.0` of a float).
    fn to_json(&self) -> Json;
    /// Any valid value: reading goes on with it after a mistake, so that one pass finds all of them.
    fn placeholder() -> Self;
    /// JSON Schema of what [`FromValue::from_value`] takes.
    fn schema() -> Json;
}

/// Numbers, which can have bounds.
pub trait Number: FromValue + PartialOrd + Copy + std::fmt::Display {
    /// Zero.
    const ZERO: Self;
}

impl FromValue for bool {
    fn ty() -> String {
        "boolean".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        match value.kind {
            ValueKind::Bool(value) => Ok(value),
            _ => Err(Wrong::ty(value, "boolean")),
        }
    }

    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn placeholder() -> Self {
        false
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

/// Integers differ in their range alone.
macro_rules! integers {
    ($($int:ty),*) => {$(
        impl FromValue for $int {
            fn ty() -> String {
                "integer".to_owned()
            }

            fn from_value(value: &Value) -> Result<Self, Wrong> {
                let ValueKind::Int(number) = value.kind else { return Err(Wrong::ty(value, "integer")) };
                Self::try_from(number).map_err(|_| {
                    let message = format!("{number} is out of range");
                    Wrong::new(value, message).help(format!("integers from {} to {} fit here", Self::MIN, Self::MAX))
                })
            }

            fn to_json(&self) -> Json {
                (*self).into()
            }

            fn placeholder() -> Self {
                // Not zero: sizes divide one another.
                1
            }

            fn schema() -> Json {
                if Self::MIN == 0 { json!({ "type": "integer", "minimum": 0 }) } else { json!({ "type": "integer" }) }
            }
        }

        impl Number for $int {
            const ZERO: Self = 0;
        }
    )*};
}

integers!(u8, u16, u32, u64, usize, i32, i64);

impl FromValue for f64 {
    fn ty() -> String {
        "number".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        match value.kind {
            ValueKind::Float(number) if number.is_finite() => Ok(number),
            ValueKind::Float(number) => Err(Wrong::new(value, format!("{number} is not a finite number"))),
            ValueKind::Int(number) => Ok(number as f64),
            _ => Err(Wrong::ty(value, "number")),
        }
    }

    fn to_json(&self) -> Json {
        serde_json::Number::from_f64(*self).map_or_else(|| self.to_string().into(), Json::Number)
    }

    fn placeholder() -> Self {
        1.0
    }

    fn schema() -> Json {
        json!({ "type": "number" })
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;
}

impl FromValue for f32 {
    fn ty() -> String {
        f64::ty()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let wide = f64::from_value(value)?;
        let narrow = wide as Self;
        if narrow.is_finite() {
            Ok(narrow)
        } else {
            Err(Wrong::new(value, format!("{wide} is out of range")))
        }
    }

    fn to_json(&self) -> Json {
        f64::from(*self).to_json()
    }

    fn placeholder() -> Self {
        1.0
    }

    fn schema() -> Json {
        f64::schema()
    }
}

impl Number for f32 {
    const ZERO: Self = 0.0;
}

impl FromValue for String {
    fn ty() -> String {
        "string".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        value.as_str().map(str::to_owned).ok_or_else(|| Wrong::ty(value, "string"))
    }

    fn to_json(&self) -> Json {
        self.as_str().into()
    }

    fn placeholder() -> Self {
        String::new()
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn ty() -> String {
        format!("array of {}", plural(&T::ty()))
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        match &value.kind {
            ValueKind::Array(items) => items.iter().map(T::from_value).collect(),
            _ => Err(Wrong::ty(value, &Self::ty())),
        }
    }

    fn to_json(&self) -> Json {
        self.iter().map(T::to_json).collect()
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: FromValue, const N: usize> FromValue for [T; N] {
    fn ty() -> String {
        format!("array of {N} {}", plural(&T::ty()))
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let ValueKind::Array(items) = &value.kind else { return Err(Wrong::ty(value, &Self::ty())) };
        let items = items.iter().map(T::from_value).collect::<Result<Vec<T>, Wrong>>()?;
        let count = items.len();
        Self::try_from(items)
            .map_err(|_| Wrong::new(value, format!("expected {}, found {count}", with_article(&Self::ty()))))
    }

    fn to_json(&self) -> Json {
        self.iter().map(T::to_json).collect()
    }

    fn placeholder() -> Self {
        std::array::from_fn(|_| T::placeholder())
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "minItems": N, "maxItems": N })
    }
}

impl<T: FromValue> FromValue for IndexMap<String, T> {
    fn ty() -> String {
        format!("table of {}", plural(&T::ty()))
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let table = value.as_table().ok_or_else(|| Wrong::ty(value, &Self::ty()))?;
        table.iter().map(|(key, entry)| Ok((key.clone(), T::from_value(&entry.value)?))).collect()
    }

    fn to_json(&self) -> Json {
        let mut map: serde_json::Map<String, Json> =
            self.iter().map(|(key, value)| (key.clone(), value.to_json())).collect();
        map.sort_keys();
        Json::Object(map)
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

/// Any TOML value as it stands, for what a plugin reads itself.
impl FromValue for Json {
    fn ty() -> String {
        "value".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        Ok(value.to_json())
    }

    fn to_json(&self) -> Json {
        let mut sorted = self.clone();
        sorted.sort_all_objects();
        sorted
    }

    fn placeholder() -> Self {
        Json::Null
    }

    fn schema() -> Json {
        json!({})
    }
}
