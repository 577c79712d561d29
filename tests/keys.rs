//! What is in the keys: every parameter of every kind decides them, or is listed here with the reason why it does not.
//!
//! The registry is walked with a fixed set of values. Of each parameter at least two have to be accepted; they have to give different
//! keys, or the same one if the parameter is listed. A parameter for which no two values are found wants another line in [`SETTINGS`].

use std::collections::BTreeSet;

use heddle::{
    model::{Contents, Models},
    nodes::{KINDS, MODEL_KINDS},
    project::load_model,
};
use heddle_graph::{
    config::{FieldDoc, FieldShape, read_toml},
    digest::Digest,
    graph::{InPort, Kind, KindSpec, NodeSpec, Place, Source},
    paths,
    schema::describe,
    source::{Load, Sources},
};
use toml::{Table, Value};

use crate::{
    nodes::{MODEL_HEAD, framed_model},
    util::Dir,
};

/// What is in no artifact key.
const LEFT_OUT: &[(&str, &[&str], &str)] = &[
    ("features", &["batch"], "a record's features do not depend on its batch"),
    ("data.similarity", &["batch"], "a text's features do not depend on its batch"),
    ("eval.zero-shot", &["batch"], "a text's features do not depend on its batch"),
    ("eval.retrieval", &["batch"], "a text's features do not depend on its batch"),
    ("eval.classification", &["batch"], "a record's scores do not depend on its batch"),
    ("eval.matching", &["batch"], "a pair's scores do not depend on its batch"),
    ("eval.caption", &["batch"], "a record's caption does not depend on its batch"),
    ("eval.questions", &["batch"], "an answer does not depend on its batch"),
    ("train", &["keep-images"], "a picture is the same when it is decoded again"),
    (
        "train",
        &["checkpoint-minutes", "checkpoint-steps"],
        "a stage ends in the same bits wherever it was stopped",
    ),
    ("model.internvit", &["checkpoint"], "the results have the same bits"),
    ("model.llama", &["checkpoint"], "the results have the same bits"),
    ("model.qllama", &["checkpoint"], "the results have the same bits"),
];

/// The same of all kinds that run a plugin.
const LEFT_OUT_OF_PLUGINS: &[(&str, &str)] = &[
    ("isolation", "the answers of a plugin without state are the same"),
    ("limits.counters", "what a plugin counts is no result"),
    ("limits.deadline-ms", "a run that a deadline ended is not remembered"),
    ("limits.log-kib", "what a plugin logs is no result"),
];

/// What is in the artifact keys, and not in those of rows.
const LEFT_OUT_OF_ROWS: &[(&str, &str)] = &[("published", "a name within a file changes no value")];

/// What a parameter needs beside it, or cannot have beside it, for its values to be accepted: kind (`*` is any), keys of the example that
/// go, keys that come.
const SETTINGS: &[(&str, &[&str], &str)] = &[
    ("*", &[], "join = { file = 'j.jsonl', on = 'a' }"),
    ("*", &["folder"], "shards = 's.tar'"),
    ("*", &[], "temperature = 0.5\nbeams = 1"),
    ("*", &["languages"], "languages = ['a']"),
    ("*", &[], "lora = { on = ['q_proj'], rank = 4 }"),
    ("*", &[], "tasks = { a = { class = 'x' } }"),
    ("data.table", &[], "format = 'csv'"),
    ("data.parquet", &["shards"], ""),
    ("data.deduplicate", &[], "by = 'phash'"),
    ("data.mix", &["weights"], ""),
    ("data.sample", &["count"], ""),
    ("train", &[], "augment = { flip = 0.5 }\ngroups = { a = { match = ['b'] } }"),
    ("train", &[], "labels = { column = 'x' }"),
    ("train", &[], "text = { labels = { columns = ['x'] } }"),
    ("train", &[], "text = { columns = ['a', 'b'], labels = { columns = ['x'], language = 'a' } }"),
];

/// Of what no two values can be had here.
const FEW: &[(&str, &str)] = &[
    ("train optimizer.kind", "it has one word today"),
    (
        "model.llama context-tokens",
        "for rows, each needs a sequence of its own; it is in the canonical form as all others",
    ),
    (
        "loss.itm head",
        "for rows, the other value needs queries of width 2; it is in the canonical form as all others",
    ),
];

/// Values to try.
fn values(doc: &FieldDoc) -> Vec<Value> {
    let words = doc.choices.iter().map(|choice| Value::from(choice.value));
    let text = "v = [false, true, 0, 1, 2, 3, 4, 5, 7, 8, 12, 14, 16, 24, 28, 32, 56, 64, 100, 224, 300, 512, 1000, 32000,
        0.1, 0.25, 0.5, 0.9, 1.0, 1.5, 2.5, 10.0, -1.0, 'a', 'b', 'c.json', 'd.json', 'e.wasm', 'f.wasm', 'e', 'f/g', 'size(en) > 1', 'size(en) > 2',
        ['a'], ['b'], ['a', 'b'], [1, 2], [3, 4], [0.5, 0.25], [0.9, 0.95], [1, 2, 3], [4, 5, 6], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6],
        { a = 'b' }, { a = 'c' }, { a = 1 }, { a = 2 }, { a = 0.5 }, { a = true }, { a = false }, { en = ['a'] }, { en = ['b'] },
        ['en'], ['it'], ['q_proj'], ['v_proj'], { train = 0.9, val = 0.1 }, { train = 0.5, val = 0.5 },
        { en = ['a {}'] }, { en = ['b {}'] }, { a = ['a {}'] }, { a = ['b {}'] }]";
    let table: Table = text.parse().unwrap();
    let ty = doc.schema["type"].as_str().unwrap_or_default();
    let fits = |value: &Value| match ty {
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "boolean" => value.is_bool(),
        "string" => value.is_str(),
        "array" => value.is_array(),
        "object" => value.is_table(),
        _ => true,
    };
    words.chain(table["v"].as_array().unwrap().iter().filter(|value| fits(value)).cloned()).collect()
}

/// Every file and folder is there: those without an ending are folders. A plugin has no path, and so is not loaded: the program
/// compiles plugins, a test cannot.
struct Anything;

impl Load for Anything {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(b"{}".to_vec())
    }

    fn resolve(&self, base_file: &str, path: &str) -> String {
        if path.ends_with(".wasm") { String::new() } else { paths::resolve(base_file, path) }
    }

    fn is_folder(&self, path: &str) -> bool {
        !path.rsplit('/').next().unwrap_or(path).contains('.')
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        let is_folder = self.is_folder(pattern) && !pattern.is_empty();
        if is_folder { Vec::new() } else { vec![pattern.replace(['*', '?'], "0")] }
    }
}

/// A parameter, and what it hangs on: the words that have to stand elsewhere for it to be read.
struct Parameter<'a> {
    path: Vec<&'static str>,
    words: Vec<(Vec<&'static str>, &'static str)>,
    doc: &'a FieldDoc,
}

impl Parameter<'_> {
    fn name(&self) -> String {
        self.path.join(".")
    }
}

fn parameters<'a>(
    docs: &'a [FieldDoc],
    above: &[&'static str],
    words: &[(Vec<&'static str>, &'static str)],
) -> Vec<Parameter<'a>> {
    let mut found = Vec::new();
    for doc in docs {
        let path = [above, &[doc.name]].concat();
        match doc.shape {
            FieldShape::Value => found.push(Parameter { path: path.clone(), words: words.to_vec(), doc }),
            FieldShape::Table | FieldShape::OptionalTable => {
                found.extend(parameters(&doc.nested, &path, words))
            }
            FieldShape::Tables => found.extend(parameters(&doc.nested, &[&path[..], &["a"]].concat(), words)),
            // The graph's structure is in the key, as `model`; its own parameters are walked as those of its kinds.
            FieldShape::Graph => {}
        }
        for variant in &doc.variants {
            let words = [words, &[(path.clone(), variant.value)]].concat();
            found.extend(parameters(&variant.fields, above, &words));
        }
    }
    found
}

fn set(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry((*first).to_owned()).or_insert_with(|| Table::new().into());
            if !inner.is_table() {
                *inner = Table::new().into();
            }
            set(inner.as_table_mut().unwrap(), rest, value);
        }
        [] => {}
    }
}

/// The parameters of a kind's example, alone and with what [`SETTINGS`] adds.
fn bases(spec: &KindSpec, ports: &[InPort]) -> Vec<Table> {
    let example: Table = spec.example.parse().unwrap();
    let nodes = example["nodes"].as_table().unwrap();
    let mut base = nodes
        .values()
        .find(|node| node["kind"].as_str() == Some(spec.name))
        .unwrap()
        .as_table()
        .unwrap()
        .clone();
    let elsewhere = ports.iter().filter(|port| port.place == Place::Key).map(|port| port.name);
    for key in ["kind", "in"].into_iter().chain(elsewhere) {
        base.remove(key);
    }
    let more = SETTINGS.iter().filter(|(kind, ..)| ["*", spec.name].contains(kind)).map(|(_, gone, text)| {
        let mut merged = base.clone();
        gone.iter().for_each(|key| drop(merged.remove(*key)));
        merged.extend(text.parse::<Table>().unwrap());
        merged
    });
    std::iter::once(base.clone()).chain(more).collect()
}

/// What enters the key of what a reader gives: its values, and the files that it names, whose content counts.
fn key<N: NodeSpec + ?Sized, C: ?Sized>(kind: &dyn Kind<N, C>, context: &C, table: &Table) -> Option<String> {
    let text = toml::to_string(table).unwrap();
    let read = read_toml("x.toml", &text, &Anything, &mut Sources::new(), |reader| {
        kind.read(reader, context);
    });
    let (_, reading) = read.ok()?;
    let files: Vec<String> =
        reading.files.iter().map(|(field, file)| format!("{field}: {}", file.path)).collect();
    Some(format!("{} {files:?}", serde_json::to_string(&reading.canonical).unwrap()))
}

/// The keys that the values of a parameter give, by what stands beside it; those that were accepted.
fn keys_of(
    parameter: &Parameter<'_>,
    bases: &[Table],
    key: impl Fn(&Table) -> Option<String>,
) -> Vec<Vec<(Table, String)>> {
    let mut all: Vec<Vec<(Table, String)>> = Vec::new();
    for base in bases {
        let mut base = base.clone();
        parameter.words.iter().for_each(|(path, word)| set(&mut base, path, (*word).into()));
        let mut found: Vec<(Table, String)> = Vec::new();
        for value in values(parameter.doc) {
            let mut table = base.clone();
            set(&mut table, &parameter.path, value);
            found.extend(key(&table).map(|key| (table, key)));
            // Two that differ settle it; three that do not say enough of this base.
            if found.len() == 2 && found[0].1 != found[1].1 {
                return vec![found];
            }
            if found.len() > 2 {
                break;
            }
        }
        all.push(found);
    }
    all
}

/// What is wrong with a parameter: it decides no key and is not listed, or the other way round.
fn verdict(
    name: &str,
    listed: Option<&str>,
    said: Option<&str>,
    keys: &[Vec<(Table, String)>],
) -> Option<String> {
    if listed != said {
        return Some(format!("{name}: its kind says {said:?}, the table {listed:?}"));
    }
    let distinct =
        |keys: &Vec<(Table, String)>| keys.iter().map(|(_, key)| key).collect::<BTreeSet<_>>().len();
    let accepted = keys.iter().map(Vec::len).max().unwrap_or(0);
    let moves = keys.iter().any(|keys| distinct(keys) > 1);
    match (listed.is_some(), moves) {
        _ if accepted < 2 && FEW.iter().any(|(few, _)| *few == name) => None,
        _ if accepted < 2 => {
            Some(format!("{name}: {accepted} values were accepted; add what it needs to SETTINGS"))
        }
        (true, true) => Some(format!("{name} is listed as left out, and changes the key")),
        (false, false) => Some(format!("{name} is in no key, and not listed")),
        _ => None,
    }
}

fn listed(kind: &str, name: &str, runs_a_plugin: bool) -> Option<&'static str> {
    let own =
        LEFT_OUT.iter().find(|(of, names, _)| *of == kind && names.contains(&name)).map(|(.., why)| *why);
    let plugins = || LEFT_OUT_OF_PLUGINS.iter().find(|(of, _)| *of == name).map(|(_, why)| *why);
    own.or_else(|| runs_a_plugin.then(plugins).flatten())
}

fn walk<N: NodeSpec + ?Sized, C: ?Sized>(kind: &dyn Kind<N, C>, context: &C) -> (usize, Vec<String>) {
    let doc = describe(kind, context);
    let spec = doc.spec;
    let runs_a_plugin = doc.fields.iter().any(|field| field.name == "plugin");
    let bases = bases(&spec, &doc.inputs);
    let all = parameters(&doc.fields, &[], &[]);
    let wrong = all.iter().filter_map(|parameter| {
        let name = parameter.name();
        let keys = keys_of(parameter, &bases, |table| key(kind, context, table));
        if name == "plugin" {
            let named = |(_, key): &(Table, String)| key.contains("\"plugin: ");
            return keys.iter().flatten().next().is_none_or(|found| !named(found)).then_some(name);
        }
        verdict(
            &format!("{} {name}", spec.name),
            listed(spec.name, &name, runs_a_plugin),
            parameter.doc.left_out,
            &keys,
        )
    });
    let wrong = wrong.collect();
    (all.len(), wrong)
}

#[test]
fn every_parameter_is_in_the_key_or_listed() {
    let models = Models::default();
    let pipeline = KINDS.iter().map(|kind| walk(*kind, &models));
    let model = MODEL_KINDS.iter().map(|kind| walk(*kind, &()));
    let (counts, wrong): (Vec<usize>, Vec<Vec<String>>) = pipeline.chain(model).unzip();
    assert_eq!(wrong.concat(), Vec::<String>::new());
    assert!(counts.iter().sum::<usize>() > 250, "{counts:?}");
    let kinds: BTreeSet<&str> = KINDS
        .iter()
        .map(|kind| kind.spec().name)
        .chain(MODEL_KINDS.iter().map(|kind| kind.spec().name))
        .collect();
    assert!(LEFT_OUT.iter().all(|(kind, ..)| kinds.contains(kind)), "a kind in the table is none");
}

/// What the rows of a frozen part hang on, of a model graph in which one node has these parameters.
fn row_key(dir: &Dir, spec: &KindSpec, table: &Table) -> Option<String> {
    let example: Table = spec.example.parse().unwrap();
    let nodes = example["nodes"].as_table().unwrap();
    let (name, node) = nodes.iter().find(|(_, node)| node["kind"].as_str() == Some(spec.name)).unwrap();
    let mut node = node.as_table().unwrap().clone();
    node.extend(table.clone());
    let mut all = nodes.clone();
    all.insert(name.clone(), node.into());
    let nodes = Table::from_iter([("nodes".to_owned(), Value::from(all))]);
    dir.write("x.toml", framed_model(MODEL_HEAD, &toml::to_string(&nodes).unwrap()));
    let model = load_model(dir.path().join("x.toml").to_str()?, &[]).ok()?;
    let id = model.graph().find(name)?;
    let port = model.graph().node(id).outputs.first()?.name.clone();
    let contents =
        Contents { parameter: &|_| Some(Digest::of(b"bytes")), input: &|name| Digest::of(name.as_bytes()) };
    model.identity(&Source::Node { id, port }, &contents).map(|digest| digest.to_string())
}

#[test]
fn every_parameter_of_a_model_is_in_the_key_of_rows_or_listed() {
    let dir = Dir::empty();
    let mut wrong = Vec::new();
    for kind in MODEL_KINDS {
        let doc = describe(*kind, &());
        let bases = bases(&doc.spec, &doc.inputs);
        for parameter in parameters(&doc.fields, &[], &[]) {
            let name = parameter.name();
            let keys = keys_of(&parameter, &bases, |table| {
                key(*kind, &(), table)?;
                row_key(&dir, &doc.spec, table)
            });
            let artifact = listed(doc.spec.name, &name, false);
            let rows = LEFT_OUT_OF_ROWS.iter().find(|(of, _)| *of == name).map(|(_, why)| *why);
            let why = artifact.or(rows);
            wrong.extend(verdict(&format!("{} {name}", doc.spec.name), why, why, &keys));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
