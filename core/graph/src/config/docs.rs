//! [`FieldDoc`]: what a reader says of a field, for reference pages and for JSON Schema.

use serde_json::{Value as Json, json};

use super::from_value::plural;

/// A field of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDoc {
    /// Its key.
    pub name: &'static str,
    /// Its type in words, with bounds.
    pub ty: String,
    /// What holds without it.
    pub default: Option<Json>,
    /// The words that it may be, if it is a choice.
    pub choices: Vec<ChoiceDoc>,
    /// What it is for.
    pub help: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// The fields of the table that it is.
    pub nested: Vec<FieldDoc>,
    /// Further fields of the table that it is in, by the word that it is.
    pub variants: Vec<VariantDoc>,
    /// Why it does not count in cache keys.
    pub left_out: Option<&'static str>,
    /// What stands there.
    pub shape: FieldShape,
    /// JSON Schema of a plain value; see [`FieldDoc::shape`] for tables.
    pub schema: Json,
}

/// A word that a field may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceDoc {
    /// The word.
    pub value: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The fields that one word of a field brings with it.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantDoc {
    /// The word.
    pub value: &'static str,
    /// The fields.
    pub fields: Vec<FieldDoc>,
}

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldShape {
    /// A value.
    Value,
    /// A table with the `nested` fields.
    Table,
    /// The same, and its absence means something.
    OptionalTable,
    /// A table whose keys are the author's, each a table with the `nested` fields.
    Tables,
    /// A reference to a model graph.
    Graph,
}

impl FieldDoc {
    pub(super) fn value(name: &'static str, help: &'static str, ty: String, schema: Json) -> Self {
        Self {
            name,
            ty,
            default: None,
            choices: Vec::new(),
            help,
            required: false,
            nested: Vec::new(),
            variants: Vec::new(),
            left_out: None,
            shape: FieldShape::Value,
            schema,
        }
    }

    pub(super) fn table(
        name: &'static str,
        help: &'static str,
        nested: Vec<FieldDoc>,
        shape: FieldShape,
    ) -> Self {
        let ty = if shape == FieldShape::Tables { "table of tables" } else { "table" };
        let required = shape == FieldShape::Table && nested.iter().any(|field| field.required);
        Self {
            nested,
            shape,
            required,
            ..Self::value(name, help, ty.to_owned(), json!({ "type": "object" }))
        }
    }

    pub(super) fn map(name: &'static str, help: &'static str, ty: String, schema: Json) -> Self {
        let schema = json!({ "type": "object", "additionalProperties": schema });
        Self::value(name, help, format!("table of {}", plural(&ty)), schema)
    }

    pub(super) fn graph(name: &'static str, help: &'static str, required: bool) -> Self {
        let schema = json!({ "type": ["string", "object"] });
        Self {
            required,
            shape: FieldShape::Graph,
            ..Self::value(name, help, "model graph".to_owned(), schema)
        }
    }

    pub(super) fn variant(
        name: &'static str,
        help: &'static str,
        default: Option<&'static str>,
        variants: Vec<(&'static str, &'static str, Vec<FieldDoc>)>,
    ) -> Self {
        let words: Vec<&str> = variants.iter().map(|(word, ..)| *word).collect();
        let choices = variants.iter().map(|(value, help, _)| ChoiceDoc { value, help }).collect();
        let schema = json!({ "enum": words });
        Self {
            default: default.map(Into::into),
            required: default.is_none(),
            choices,
            variants: variants.into_iter().map(|(value, _, fields)| VariantDoc { value, fields }).collect(),
            ..Self::value(name, help, "word".to_owned(), schema)
        }
    }
}
