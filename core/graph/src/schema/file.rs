//! JSON Schema of the two kinds of files.

use serde_json::{Map, Value as Json, json};

use super::{
    describe::{KindDoc, describe},
    field,
};
use crate::{
    config::{
        CacheSettings, EXPERIMENT_KEYS, INPUT_TYPES, Keep, MODEL_KEYS, RunSettings, SCHEMA, Stored,
        document_fields,
    },
    graph::{InPort, Kind, NodeSpec, Place},
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Names of nodes, inputs and parameters.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// The schema of an experiment with these kinds of nodes.
pub fn experiment<N: NodeSpec + ?Sized, C: ?Sized>(kinds: &[&dyn Kind<N, C>], context: &C) -> Json {
    file("heddle experiment", &EXPERIMENT_KEYS, &docs(kinds, context), &Map::new())
}

/// The schema of a model graph with these kinds of nodes.
pub fn model_graph<N: NodeSpec + ?Sized, C: ?Sized>(kinds: &[&dyn Kind<N, C>], context: &C) -> Json {
    let choice = |words: Vec<&str>, description: &str| {
        let mut choice = param_or(json!({ "enum": words }));
        choice["description"] = description.into();
        choice
    };
    let mut common = Map::new();
    let share = "another node, of which this is another call with the same parameters";
    common.insert("share".to_owned(), json!({ "description": share, "type": "string" }));
    let cache = Keep::WORDS.iter().map(|(word, _)| *word).collect();
    let help = "whether its values are kept, one for each record, where it is frozen";
    common.insert("cache".to_owned(), choice(cache, help));
    let store = Stored::WORDS.iter().map(|(word, _)| *word).collect();
    let help = "how many bits of its values are kept: it keeps them wherever it is frozen, and rounds them";
    common.insert("store".to_owned(), choice(store, help));
    file("heddle model graph", &MODEL_KEYS, &docs(kinds, context), &common)
}

fn docs<N: NodeSpec + ?Sized, C: ?Sized>(kinds: &[&dyn Kind<N, C>], context: &C) -> Vec<KindDoc> {
    kinds.iter().map(|kind| describe(*kind, context)).collect()
}

/// `common`: what nodes of every kind may have.
fn file(title: &str, keys: &[&str], kinds: &[KindDoc], common: &Map<String, Json>) -> Json {
    let properties: Map<String, Json> = keys.iter().map(|key| ((*key).to_owned(), top_level(key))).collect();
    let mut definitions = Map::new();
    definitions.insert("param".to_owned(), param());
    definitions.insert("graph".to_owned(), graph());
    definitions.insert("link".to_owned(), link());
    definitions.insert("node".to_owned(), node(kinds));
    definitions.extend(kinds.iter().map(|kind| (definition(kind), of_kind(kind, common))));
    json!({
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// One key at the top level of either kind of file.
fn top_level(key: &str) -> Json {
    let strings = json!({ "type": ["string", "array"], "items": { "type": "string" } });
    let table = |inner: Json| json!({ "type": "object", "additionalProperties": inner });
    let (description, mut schema) = match key {
        "schema" => ("version of the grammar", json!({ "const": SCHEMA })),
        "extends" => ("files that this one is merged over, the later wins", strings),
        "seed" => ("seed of everything random", param_or(json!({ "type": "integer", "minimum": 0 }))),
        "params" => ("values for `${params.NAME}`", table(json!({}))),
        "graphs" => ("model graphs with names", table(json!({ "$ref": "#/$defs/graph" }))),
        "nodes" => ("the nodes", {
            json!({
                "type": "object",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": { "$ref": "#/$defs/node" },
            })
        }),
        "run" => ("resources; they enter no cache key", field::table(&document_fields(RunSettings::read))),
        "cache" => (
            "how much the cache may hold; it enters no cache key",
            field::table(&document_fields(CacheSettings::read)),
        ),
        "ablations" => ("named deltas on this experiment", table(json!({ "type": "object" }))),
        "sweeps" => ("named products of deltas", table(sweep())),
        "inputs" => ("what the graph is fed with", table(input())),
        _ => ("ports with names outside: `node` or `node.port`", table(json!({ "type": "string" }))),
    };
    schema["description"] = description.into();
    schema
}

fn sweep() -> Json {
    let lists = json!({ "type": "object" });
    let rows = json!({ "type": "array", "items": { "type": "object" } });
    json!({
        "type": "object",
        "properties": { "grid": lists, "zip": lists, "list": rows, "exclude": rows },
        "additionalProperties": false,
    })
}

/// An input of a model graph: a word, or a table with a word and its dimensions.
fn input() -> Json {
    let words: Vec<&str> = INPUT_TYPES.iter().map(|(word, ..)| *word).collect();
    let help: Vec<String> = INPUT_TYPES.iter().map(|(word, _, help)| format!("- `{word}`: {help}")).collect();
    let count = || param_or(json!({ "type": "integer", "minimum": 1 }));
    let size = json!({ "type": ["integer", "array"], "items": { "type": "integer", "minimum": 1 } });
    let table = json!({
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": param_or(json!({ "enum": words })),
            "size": param_or(size),
            "length": count(),
            "width": count(),
            "prefix": param_or(json!({ "type": "string" })),
            "blank": param_or(json!({ "type": "integer", "minimum": 0 })),
            "of": param_or(json!({ "enum": ["record", "other", "question"] })),
            "template": param_or(json!({ "type": "string" })),
            "system": param_or(json!({ "type": "string" })),
            "around": param_or(json!({ "type": "object" })),
        },
        "additionalProperties": false,
    });
    json!({ "description": help.join("\n"), "anyOf": [{ "enum": words }, table, { "$ref": "#/$defs/param" }] })
}

fn param() -> Json {
    json!({ "type": "string", "pattern": r"^\$\{params\.[^}]+\}$" })
}

fn param_or(schema: Json) -> Json {
    json!({ "anyOf": [schema, { "$ref": "#/$defs/param" }] })
}

fn graph() -> Json {
    json!({
        "description": "a path that ends in `.toml`, a name in `[graphs]`, `{ file, params, nodes }`, or a whole model graph",
        "type": ["string", "object"],
    })
}

/// The sources of a port.
fn link() -> Json {
    let name = json!({ "type": "string" });
    json!({ "anyOf": [
        name,
        { "type": "array", "items": name, "minItems": 1 },
        { "type": "object", "additionalProperties": name, "minProperties": 1 },
    ] })
}

/// Any node: its kind decides what else it has. A node that changes one of an extended file needs no kind.
fn node(kinds: &[KindDoc]) -> Json {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.spec.name).collect();
    let rule = |kind: &KindDoc| {
        json!({
            "if": { "properties": { "kind": { "const": kind.spec.name } }, "required": ["kind"] },
            "then": { "$ref": format!("#/$defs/{}", definition(kind)) },
        })
    };
    let rules: Vec<Json> = kinds.iter().map(rule).collect();
    let mut node = json!({ "type": "object", "properties": { "kind": { "enum": names } } });
    if !rules.is_empty() {
        node["allOf"] = rules.into();
    }
    node
}

fn definition(kind: &KindDoc) -> String {
    format!("kind.{}", kind.spec.name)
}

/// A node of one kind: `kind`, its links, its parameters, what is common to all, nothing else.
fn of_kind(kind: &KindDoc, common: &Map<String, Json>) -> Json {
    let mut properties = common.clone();
    properties.insert("kind".to_owned(), json!({ "const": kind.spec.name }));
    let mut required = vec!["kind"];
    let inner: Vec<&InPort> = kind.inputs.iter().filter(|port| port.place == Place::In).collect();
    if !inner.is_empty() {
        properties.insert("in".to_owned(), in_schema(&inner));
        if inner.iter().any(|port| port.arity.is_required()) {
            required.push("in");
        }
    }
    for port in kind.inputs.iter().filter(|port| port.place == Place::Key) {
        properties.insert(port.name.to_owned(), port_schema(port));
        if port.arity.is_required() {
            required.push(port.name);
        }
    }
    properties.extend(field::properties(&kind.fields));
    required.extend(field::required(&kind.fields));
    json!({
        "type": "object",
        "description": format!("{}\n\n{}", kind.spec.summary, kind.spec.details).trim(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// `in`: a source of the first port, or a table of ports.
fn in_schema(ports: &[&InPort]) -> Json {
    let by_port: Map<String, Json> =
        ports.iter().map(|port| (port.name.to_owned(), port_schema(port))).collect();
    let table = json!({ "type": "object", "properties": by_port, "additionalProperties": false });
    json!({ "description": "where its values come from", "anyOf": [
        { "type": "string" },
        { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        table,
        { "$ref": "#/$defs/param" },
    ] })
}

fn port_schema(port: &InPort) -> Json {
    let schema = if port.arity.takes_several() {
        json!({ "$ref": "#/$defs/link" })
    } else {
        json!({ "type": "string" })
    };
    json!({ "description": port.help, "anyOf": [schema, { "$ref": "#/$defs/param" }] })
}
