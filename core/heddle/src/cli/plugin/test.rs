//! `heddle plugin test`: a plugin against a file of records and what they should give.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_json::ReaderBuilder;
use arrow_schema::{Field, Schema};
use heddle_plugin::{Batch, ColumnSpec, Isolation, Limits, Plugin, Session, Settings, World};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::load;
use crate::{
    cli::{
        args::PluginTest,
        exit::{Exit, Failure},
        output,
    },
    files,
};

/// A line of a test file: a config for what follows, or a record and what it should give.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    config: Option<Value>,
    record: Option<Map<String, Value>>,
    expect: Option<Value>,
}

/// Runs the command.
pub fn run(options: &PluginTest) -> Result<Exit, Failure> {
    let plugin = load(&options.file, options.stub_wasi)?;
    let text = files::read(&options.cases)
        .map_err(|reason| Failure::Other(format!("cannot read `{}`: {reason}", options.cases)))?;
    let text = String::from_utf8_lossy(&text);
    let (mut session, mut right, mut wrong) = (open(&plugin, Value::Object(Map::new())), 0, Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", options.cases, number + 1);
        let refused = |message: String| Failure::Other(format!("{place}: {message}"));
        let case: Case = serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
        if let Some(config) = case.config {
            let problems = plugin.check_config(&config);
            if let Some(problem) = problems.first() {
                return Err(refused(format!("config.{}: {}", problem.path.join("."), problem.message)));
            }
            session = open(&plugin, config);
        }
        let (Some(record), Some(expected)) = (case.record, case.expect) else { continue };
        let session = session.as_ref().map_err(|error| refused(error.clone()))?;
        let found = answer(session, &record).map_err(&refused)?;
        if found == expected {
            right += 1;
        } else {
            wrong.push(format!("{place}: expected {expected}, found {found}"));
        }
    }
    wrong.iter().for_each(|line| output::result(line));
    output::result(&format!("{right} right, {} wrong", wrong.len()));
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::Failed })
}

fn open(plugin: &Plugin, config: Value) -> Result<Session, String> {
    let settings = Settings { config, seed: 0, limits: Limits::default(), isolation: Isolation::Batch };
    plugin.open(settings).map_err(|error| error.to_string())
}

/// What a plugin gives for one record, in the words of a test file.
fn answer(session: &Session, record: &Map<String, Value>) -> Result<Value, String> {
    let description = session.plugin().description();
    let failed = |error: heddle_plugin::Failure| error.to_string();
    let batch = session.prepare(&batch(&description.reads, record)?).map_err(failed)?;
    Ok(match session.plugin().world() {
        World::Filter => {
            let code = session.filter(&batch).map_err(failed)?.value[0];
            match code.checked_sub(1) {
                None => "keep".into(),
                Some(reason) => description.reasons[usize::from(reason)].code.as_str().into(),
            }
        }
        World::Score => session.score(&batch).map_err(failed)?.value[0].into(),
        World::Dedup => session.dedup(&batch).map_err(failed)?.value.hashes.into(),
        World::Transform => {
            let columns = session.transform(&batch).map_err(failed)?.value;
            let mut cells = Map::new();
            for (spec, column) in description.writes.iter().zip(columns) {
                let field = Field::new(&spec.name, column.data_type().clone(), true);
                let value =
                    heddle_data::manifest::value_at(&column, 0, &field).map_err(|error| error.to_string())?;
                cells.insert(spec.name.clone(), value);
            }
            Value::Object(cells)
        }
        World::Fold => {
            let partial = session.fold(&batch).map_err(failed)?.value;
            session.finish([partial.as_slice()]).map_err(failed)?.value
        }
    })
}

/// A batch of one record; columns that it lacks are null or empty.
fn batch(reads: &[ColumnSpec], record: &Map<String, Value>) -> Result<Batch, String> {
    if let Some(name) = record.keys().find(|name| reads.iter().all(|spec| spec.name != **name)) {
        let known: Vec<&str> = reads.iter().map(|spec| spec.name.as_str()).collect();
        return Err(format!("the plugin does not read `{name}`; it reads {}", known.join(", ")));
    }
    let mut cells: BTreeMap<&str, Value> = BTreeMap::new();
    for spec in reads {
        let given = record.get(&spec.name).cloned();
        cells.insert(
            &spec.name,
            given.unwrap_or(if spec.many { Value::Array(Vec::new()) } else { Value::Null }),
        );
    }
    // A column of tags goes with a column of texts; left out, it is null for each of them.
    if let (Some(Value::Array(texts)), Some(Value::Array(tags))) =
        (cells.get("captions"), cells.get("captions.language"))
        && tags.is_empty()
    {
        let nulls = vec![Value::Null; texts.len()];
        cells.insert("captions.language", Value::Array(nulls));
    }
    let schema = Arc::new(Schema::new(reads.iter().map(ColumnSpec::field).collect::<Vec<_>>()));
    let columns: Vec<(String, ArrayRef)> = if reads.is_empty() {
        Vec::new()
    } else {
        let decoded = || -> Result<Option<RecordBatch>, arrow_schema::ArrowError> {
            let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder()?;
            decoder.serialize(&[&cells])?;
            decoder.flush()
        };
        let batch = decoded().map_err(|error| error.to_string())?.ok_or("no record")?;
        reads.iter().map(|spec| spec.name.clone()).zip(batch.columns().iter().cloned()).collect()
    };
    // Checked here, since a list of another length than its texts would shift the tags.
    let len = |name: &str| {
        let column = columns.iter().find(|(known, _)| known == name)?;
        Some(column.1.as_list_opt::<i32>()?.value(0).len())
    };
    if let (Some(texts), Some(tags)) = (len("captions"), len("captions.language"))
        && texts != tags
    {
        return Err(format!("{texts} captions and {tags} languages"));
    }
    Ok(Batch { index: 0, rows: 1, columns })
}
