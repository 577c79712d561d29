//! `heddle data export`: a node's records in the form of another tool.

use std::{collections::BTreeMap, path::Path};

use heddle_data::{
    Manifest, Shards,
    export::{
        ClassFolders, ClipBenchmark, Coco, Export, ExportError, Item, Llava, Masks, Table, TableForm, Task,
        WebDataset,
    },
    record::FIXED_COLUMNS,
};
use serde_json::Value;

use super::{
    super::{
        args::{Common, DataExport, ExportFormat as Format},
        exit::{Exit, Failure},
        output,
        place::Place,
    },
    Opened, parquet,
};
use crate::exec::NodeError;

/// Records of a shard where the user does not say.
const SHARD_SIZE: u64 = 10_000;

/// CLIP's prompt.
const TEMPLATE: &str = "a photo of a {c}.";

/// Runs the command. The folder appears when it is complete.
pub fn run(options: &DataExport, common: &Common) -> Result<Exit, Failure> {
    check_options(options)?;
    let place = Place::of(&options.out)?;
    let opened = Opened::of(&options.of, common)?;
    let manifest = &opened.records.manifest;
    write(options, place.folder(), manifest, &opened.shards)?;
    place.publish()?;
    output::note(&format!("wrote {} records to {}", manifest.len(), options.out.display()));
    Ok(Exit::Done)
}

/// Refuses options that the form has no use for.
fn check_options(options: &DataExport) -> Result<(), Failure> {
    use Format as F;
    let given: [(&str, bool, &[Format]); 5] = [
        (
            "shard-size",
            options.shard_size.is_some(),
            &[F::Webdataset, F::Img2dataset, F::Parquet, F::ClipClassification, F::ClipRetrieval],
        ),
        ("class", options.class.is_some(), &[F::ClassFolders, F::ClipClassification]),
        ("template", !options.template.is_empty(), &[F::ClipClassification]),
        ("language", options.language.is_some(), &[F::Coco]),
        ("split", options.split.is_some(), &[F::Webdataset, F::ClipClassification, F::ClipRetrieval]),
    ];
    if options.format == F::Img2dataset
        && options.shard_size.is_some_and(|size| size > parquet::MOST_OF_A_TAR)
    {
        let most = parquet::MOST_OF_A_TAR;
        return Err(Failure::Other(format!(
            "img2dataset's keys count {most} records of a shard (`--shard-size`)"
        )));
    }
    match given.iter().find(|(_, given, forms)| *given && !forms.contains(&options.format)) {
        Some((name, ..)) => Err(Failure::Other(format!("`--{name}` means nothing to this format"))),
        None => match options.template.iter().find(|template| !template.contains("{c}")) {
            Some(template) => {
                let message = format!("the template `{template}` has no `{{c}}` for the name of a class");
                Err(Failure::Other(message))
            }
            None => Ok(()),
        },
    }
}

fn write(options: &DataExport, folder: &Path, manifest: &Manifest, shards: &Shards) -> Result<(), Failure> {
    let per_shard = options.shard_size.unwrap_or(SHARD_SIZE);
    let class = options.class.as_deref().unwrap_or("class");
    let split = |usual: &'static str| options.split.as_deref().unwrap_or(usual).to_owned();
    let table = |form| {
        let fields = manifest.schema().fields().iter().map(|field| field.name().clone());
        let own: Vec<String> = fields.filter(|name| !FIXED_COLUMNS.contains(&name.as_str())).collect();
        Table::new(folder, form, &own).map_err(failed)
    };
    let export: Box<dyn Export> = match options.format {
        Format::Img2dataset => return parquet::img2dataset(folder, manifest, shards, per_shard),
        Format::Parquet => return parquet::parquet(folder, manifest, shards, per_shard),
        Format::Webdataset => Box::new(WebDataset::new(folder, &split("data"), per_shard)),
        Format::Coco => Box::new(Coco::new(folder, options.language.as_deref())),
        Format::Llava => Box::new(Llava::new(folder)),
        Format::ClassFolders => Box::new(ClassFolders::new(folder, class)),
        Format::Masks => Box::new(Masks::new(folder)),
        Format::Csv => Box::new(table(TableForm::Csv)?),
        Format::Tsv => Box::new(table(TableForm::Tsv)?),
        Format::Jsonl => Box::new(table(TableForm::JsonLines)?),
        Format::ClipClassification => {
            let mut templates = options.template.clone();
            if templates.is_empty() {
                templates.push(TEMPLATE.to_owned());
            }
            let classes = classes(manifest, class)?;
            let task = Task::Classification { classes, column: class.to_owned(), templates };
            Box::new(ClipBenchmark::new(folder, &split("test"), task, per_shard))
        }
        Format::ClipRetrieval => {
            Box::new(ClipBenchmark::new(folder, &split("test"), Task::Retrieval, per_shard))
        }
    };
    each(export, manifest, shards)
}

fn each(mut export: Box<dyn Export>, manifest: &Manifest, shards: &Shards) -> Result<(), Failure> {
    for record in manifest.records() {
        let record = record.map_err(NodeError::from)?;
        let mut parts = Vec::with_capacity(record.parts.len());
        for (name, part) in &record.parts {
            parts.push((name.as_str(), shards.bytes(part).map_err(NodeError::data)?));
        }
        export.record(&Item { record: &record, parts }).map_err(failed)?;
    }
    export.finish().map_err(failed)
}

/// The names of the classes: in the order of the column `label` where each class has one of its own, else sorted.
fn classes(manifest: &Manifest, column: &str) -> Result<Vec<String>, Failure> {
    let mut labels: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for record in manifest.records() {
        let record = record.map_err(NodeError::from)?;
        let Some(Value::String(class)) = record.column(column) else { continue };
        let label = record.column("label").and_then(Value::as_u64);
        let known = labels.entry(class.clone()).or_insert(label);
        if *known != label {
            *known = None;
        }
    }
    let mut numbered: Vec<(u64, &String)> =
        labels.iter().filter_map(|(name, label)| label.map(|label| (label, name))).collect();
    numbered.sort_unstable();
    let counts = numbered.iter().zip(0..).all(|((label, _), place)| *label == place);
    Ok(if counts && numbered.len() == labels.len() {
        numbered.into_iter().map(|(_, name)| name.clone()).collect()
    } else {
        labels.into_keys().collect()
    })
}

fn failed(error: ExportError) -> Failure {
    match error {
        ExportError::Io { path, error } => Failure::io(format!("writing {}", path.display()))(error),
        other => Failure::Other(other.to_string()),
    }
}
