//! JSON Schema of the parameters of a kind.

use serde_json::{Map, Value as Json, json};

use crate::config::{FieldDoc, FieldShape};

/// The properties of a table with these fields; each also takes `"${params.NAME}"`.
pub(super) fn properties(fields: &[FieldDoc]) -> Map<String, Json> {
    let mut properties = Map::new();
    for field in fields {
        add(&mut properties, field.name, schema(field));
        for variant in &field.variants {
            for (name, schema) in self::properties(&variant.fields) {
                add(&mut properties, &name, schema);
            }
        }
    }
    properties
}

/// Fields of the same name in two variants may differ: either is accepted.
fn add(properties: &mut Map<String, Json>, name: &str, schema: Json) {
    match properties.get_mut(name) {
        Some(known) if *known != schema => *known = json!({ "anyOf": [known.take(), schema] }),
        Some(_) => {}
        None => {
            properties.insert(name.to_owned(), schema);
        }
    }
}

/// The names of the fields that must be there.
pub(super) fn required(fields: &[FieldDoc]) -> Vec<&'static str> {
    fields.iter().filter(|field| field.required).map(|field| field.name).collect()
}

/// A closed table with these fields.
pub(super) fn table(fields: &[FieldDoc]) -> Json {
    json!({
        "type": "object",
        "properties": properties(fields),
        "required": required(fields),
        "additionalProperties": false,
    })
}

fn schema(field: &FieldDoc) -> Json {
    let plain = match field.shape {
        FieldShape::Value => field.schema.clone(),
        FieldShape::Table | FieldShape::OptionalTable => table(&field.nested),
        FieldShape::Tables => json!({ "type": "object", "additionalProperties": table(&field.nested) }),
        FieldShape::Graph => json!({ "$ref": "#/$defs/graph" }),
    };
    let mut schema =
        json!({ "description": description(field), "anyOf": [plain, { "$ref": "#/$defs/param" }] });
    if let Some(default) = &field.default {
        schema["default"] = default.clone();
    }
    schema
}

/// The help of a field and of its words.
fn description(field: &FieldDoc) -> String {
    let mut text = field.help.to_owned();
    for choice in &field.choices {
        text.push_str(&format!("\n- `{}`: {}", choice.value, choice.help));
    }
    text
}
