//! JSON Schema.

use serde_json::Value as Json;

use crate::util::Dir;

/// Every reference inside a schema leads somewhere.
fn check_references(schema: &Json, root: &Json) {
    match schema {
        Json::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Json::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            fields.values().for_each(|field| check_references(field, root));
        }
        Json::Array(items) => items.iter().for_each(|item| check_references(item, root)),
        _ => {}
    }
}

#[test]
fn schemas_are_json_and_name_every_kind() {
    let dir = Dir::empty();
    let kinds = dir.done(&["nodes"]).stdout;
    let (experiment, model) = kinds.split_once("In model graphs:").unwrap();
    for (of, kinds) in [("experiment", experiment), ("model", model)] {
        let schema = dir.done(&["schema", of]).json();
        check_references(&schema, &schema);
        let text = schema.to_string();
        let names: Vec<&str> =
            kinds.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(text.contains(&format!("\"{name}\"")), "{name} is not in the schema of {of} files");
        }
    }
}
