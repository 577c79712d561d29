//! Conditions on columns as experiments write them: `{ novel = false, vendor = ["noto", "twemoji"] }`.

use heddle_data::{Record, select::Filter};
use heddle_graph::config::{FromValue, Reader, Value, ValueKind, Wrong};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// Conditions that all must hold.
#[derive(Debug, Clone, Default)]
pub struct Filters(pub Vec<Filter>);

/// One value, or several of which one must equal.
#[derive(Debug, Clone)]
struct Accepted(Json);

impl FromValue for Accepted {
    fn ty() -> String {
        "string, number, boolean or array of them".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let plain = |value: &Value| !matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_));
        let fits = match &value.kind {
            ValueKind::Array(items) => items.iter().all(plain),
            _ => plain(value),
        };
        if fits { Ok(Self(value.to_json())) } else { Err(Wrong::ty(value, &Self::ty())) }
    }

    fn to_json(&self) -> Json {
        self.0.clone()
    }

    fn placeholder() -> Self {
        Self(Json::Null)
    }

    fn schema() -> Json {
        let plain = serde_json::json!({ "type": ["string", "number", "boolean"] });
        serde_json::json!({ "anyOf": [plain, { "type": "array", "items": plain }] })
    }
}

/// Reads a table of conditions.
pub fn read_filters(r: &mut Reader<'_>, name: &'static str, help: &'static str) -> Filters {
    let conditions: IndexMap<String, Accepted> = r.map(name, help);
    Filters(conditions.into_iter().map(|(column, accepted)| Filter::new(column, accepted.0)).collect())
}

impl Filters {
    /// Whether all conditions hold; a record without a column fails.
    pub fn pass(&self, record: &Record) -> bool {
        let holds = |filter: &Filter| {
            record.column(&filter.column).is_some_and(|value| filter.any_of.contains(value))
        };
        self.0.iter().all(holds)
    }
}
