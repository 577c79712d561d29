//! The Arrow types of JSON columns, found while rows go by.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, FieldRef};
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::columns::JSON_TEXT;

/// The deepest columns that become Arrow's lists and structs; readers of Arrow files take no schema of more than 64
/// tables within each other, and a level is two of them at most.
const DEPTH: usize = 24;

/// What the values of a column have been so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Shape {
    /// Nothing, or nothing but null.
    #[default]
    Nothing,
    Bool,
    Int,
    Unsigned,
    Float,
    Text,
    List(Box<Shape>),
    Object(IndexMap<String, Shape>),
    /// Several of these: kept as JSON text.
    Mixed,
}

impl Shape {
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Int,
            Value::Number(number) if number.is_u64() => Self::Unsigned,
            Value::Number(_) => Self::Float,
            Value::String(_) => Self::Text,
            Value::Array(items) => {
                let mut shape = Self::Nothing;
                items.iter().for_each(|item| shape.widen(Self::of(item)));
                Self::List(Box::new(shape))
            }
            // Arrow has no struct without fields.
            Value::Object(object) if object.is_empty() => Self::Mixed,
            Value::Object(object) => {
                Self::Object(object.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
        }
    }

    /// The least shape that holds both.
    pub fn widen(&mut self, other: Self) {
        let own = std::mem::take(self);
        *self = match (own, other) {
            (Self::Nothing, shape) | (shape, Self::Nothing) => shape,
            (own, other) if own == other => own,
            (Self::Int | Self::Float, Self::Int | Self::Float) => Self::Float,
            (Self::List(mut own), Self::List(other)) => {
                own.widen(*other);
                Self::List(own)
            }
            (Self::Object(mut own), Self::Object(other)) => {
                for (name, shape) in other {
                    own.entry(name).or_default().widen(shape);
                }
                Self::Object(own)
            }
            _ => Self::Mixed,
        };
    }

    /// Whether a part of it is mixed.
    fn has_mixed(&self) -> bool {
        match self {
            Self::Mixed => true,
            Self::List(inner) => inner.has_mixed(),
            Self::Object(fields) => fields.values().any(Self::has_mixed),
            _ => false,
        }
    }

    /// Lists and objects within each other.
    fn depth(&self) -> usize {
        match self {
            Self::List(inner) => 1 + inner.depth(),
            Self::Object(fields) => 1 + fields.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether the whole column is kept as JSON: it has no Arrow type, or one that is nested too deeply to be read again.
    fn is_text(&self) -> bool {
        self.has_mixed() || self.depth() > DEPTH
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Nothing => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Unsigned => DataType::UInt64,
            Self::Float => DataType::Float64,
            Self::Text | Self::Mixed => DataType::Utf8,
            Self::List(inner) => DataType::List(Arc::new(Field::new("item", inner.data_type(), true))),
            Self::Object(fields) => DataType::Struct(
                fields.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect(),
            ),
        }
    }
}

/// The shapes of all columns.
#[derive(Debug, Default)]
pub(super) struct Shapes(IndexMap<String, Shape>);

impl Shapes {
    pub fn see(&mut self, columns: &Map<String, Value>) {
        for (name, value) in columns {
            let shape = Shape::of(value);
            match self.0.get_mut(name) {
                Some(known) if *known == shape => {}
                Some(known) => known.widen(shape),
                None => {
                    self.0.insert(name.clone(), shape);
                }
            }
        }
    }

    pub fn fields(&self) -> Vec<FieldRef> {
        let field = |(name, shape): (&String, &Shape)| {
            if shape.is_text() {
                let json = HashMap::from([(JSON_TEXT.0.to_owned(), JSON_TEXT.1.to_owned())]);
                Arc::new(Field::new(name, DataType::Utf8, true).with_metadata(json))
            } else {
                Arc::new(Field::new(name, shape.data_type(), true))
            }
        };
        self.0.iter().map(field).collect()
    }

    /// Turns the values of mixed columns into their JSON text.
    pub fn settle(&self, columns: &mut Map<String, Value>) {
        for (name, value) in columns.iter_mut() {
            if !value.is_null() && self.0.get(name).is_some_and(Shape::is_text) {
                *value = value.to_string().into();
            }
        }
    }
}
