//! JSON Schema and documentation from the registry.

use heddle_graph::{config::FieldDoc, schema};

use crate::kinds::{MODEL_KINDS, PIPELINE_KINDS};

#[test]
fn experiment_schema() {
    let mut schema = schema::experiment(PIPELINE_KINDS, &());
    schema.sort_all_objects();
    insta::assert_json_snapshot!(schema);
}

#[test]
fn model_graph_schema_has_every_kind() {
    let schema = schema::model_graph(MODEL_KINDS, &());
    assert_eq!(schema["$defs"]["node"]["properties"]["kind"]["enum"].as_array().unwrap().len(), 3);
    let encoder = &schema["$defs"]["kind.model.encoder"];
    assert_eq!(encoder["additionalProperties"], false);
    assert_eq!(encoder["properties"]["width"]["default"], 64);
    assert_eq!(encoder["properties"]["depth"]["anyOf"][0]["maximum"], 100);
    assert!(schema["properties"].get("run").is_none());
}

#[test]
fn kinds_describe_themselves() {
    let train = schema::describe(PIPELINE_KINDS[2], &());
    let names: Vec<&str> = train.fields.iter().map(|field| field.name).collect();
    assert_eq!(names, ["graph", "steps", "batch", "log-every", "loss", "optimizer", "augment", "groups"]);
    let find =
        |fields: &[FieldDoc], name: &str| fields.iter().find(|field| field.name == name).unwrap().clone();
    assert!(find(&train.fields, "steps").required);
    assert_eq!(find(&train.fields, "steps").ty, "integer, at least 1");
    assert_eq!(find(&train.fields, "log-every").left_out, Some("logging changes nothing"));
    let rule = find(&find(&train.fields, "optimizer").nested, "kind");
    assert_eq!(rule.variants.iter().map(|variant| variant.fields.len()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(train.outputs.len(), 2);
}
