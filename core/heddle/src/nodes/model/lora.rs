//! The `lora` table of `model.llama` and `model.qllama`.

use std::collections::BTreeSet;

use heddle_graph::config::{FromValue, Reader, Value, ValueKind, Wrong};
use heddle_tensor::modules::{Lora, Projection};
use serde_json::Value as Json;

/// Names of projections, each once.
struct Projections(BTreeSet<Projection>);

impl Projections {
    fn names() -> [&'static str; 7] {
        Projection::ALL.map(Projection::name)
    }
}

impl FromValue for Projections {
    fn ty() -> String {
        Vec::<String>::ty()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let ValueKind::Array(items) = &value.kind else { return Err(Wrong::ty(value, &Self::ty())) };
        let mut projections = BTreeSet::new();
        for item in items {
            let ValueKind::String(word) = &item.kind else { return Err(Wrong::ty(item, &String::ty())) };
            let known = Projection::ALL.into_iter().find(|projection| projection.name() == *word);
            let projection = known.ok_or_else(|| Wrong::word(item, word, &Self::names()))?;
            if !projections.insert(projection) {
                return Err(Wrong::new(item, format!("`{word}` is there twice")));
            }
        }
        Ok(Self(projections))
    }

    fn to_json(&self) -> Json {
        self.0.iter().map(|projection| projection.name()).collect()
    }

    fn placeholder() -> Self {
        Self(BTreeSet::new())
    }

    fn schema() -> Json {
        serde_json::json!({ "type": "array", "items": { "enum": Self::names() }, "uniqueItems": true })
    }
}

/// Reads the table; none where it names no projection.
pub fn read_lora(r: &mut Reader<'_>) -> Option<Lora> {
    let lora = r.optional_table("lora", "pairs of thin matrices beside projections (LoRA)", |r| {
        let on: Projections = r
            .field(
                "on",
                "projections of self-attention and MLP: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; \
                 empty: no LoRA",
            )
            .required();
        let rank: usize = r.field("rank", "rows of A, columns of B").min(1).max(65_536).required();
        let alpha: Option<f64> =
            r.field("alpha", "B A counts alpha/rank; 2 x rank if absent, as in InternVL").positive().optional();
        let dropout: f64 = r
            .field("dropout", "share of the elements of a pair's input that training leaves out")
            .min(0.0)
            .must("below 1", |rate| *rate < 1.0)
            .or(0.0);
        Lora { on: on.0, rank, alpha: alpha.unwrap_or(2.0 * rank as f64), dropout }
    });
    lora.filter(|lora| !lora.on.is_empty())
}
