//! `data.join`: columns of other records, by a key.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow_schema::{DataType, FieldRef};
use arrow_select::{filter::filter_record_batch, interleave::interleave};
use heddle_data::{
    Manifest, ManifestError, ManifestWriter,
    manifest::{Added, ROWS, column_values, value_at},
    record::FIXED_COLUMNS,
};
use heddle_graph::{
    config::Reader,
    graph::{Arity, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{Records, gather::Gather, other_records_in, records_in, same_records};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct JoinRecords;

/// What becomes of a record without a partner.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Without {
    Drop,
    Keep,
    Fail,
}

struct ByKey {
    on: String,
    with_on: String,
    columns: Option<Vec<String>>,
    captions: bool,
    without: Without,
}

impl Kind<dyn Node, Models> for JoinRecords {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.join",
            version: 1,
            summary: "gives records the columns of other records with the same key",
            details: "A record takes the columns of the one record under `with` whose column `with-on` has the value of its column \
                      `on`. Images, sources and parts stay its own; a column that it has already is not replaced, and naming one is \
                      an error. `captions = true` takes the other's captions in place of its own. Two records of one key under \
                      `with` are an error. `records` has the records with a partner (and the others, with `without = \"keep\"`). Takes \
                      about 100 bytes for each record under `with`.",
            example: "[nodes.told]\nkind = \"data.join\"\nin = { records = \"pairs\", with = \"heldout\" }\non = \"id\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let on: String = r
            .field("on", "column of the records that is the key; `key`, or a path (`meta.id`)")
            .or("key".to_owned());
        let with_on: Option<String> =
            r.field("with-on", "its name under `with`; default: the same").optional();
        let columns: Option<Vec<String>> = r
            .field("columns", "columns that are taken; default: all that the records do not have")
            .optional();
        let captions =
            r.field("captions", "whether captions are taken too, in place of the records' own").or(false);
        let without = r
            .choice(
                "without",
                "what becomes of a record without a partner",
                &[
                    ("drop", Without::Drop, "it is left out"),
                    ("keep", Without::Keep, "it stays, without values in the new columns"),
                    ("fail", Without::Fail, "the node fails, and names it"),
                ],
            )
            .or("drop");
        let with_on = with_on.unwrap_or_else(|| on.clone());
        Box::new(ByKey { on, with_on, columns, captions, without })
    }
}

impl NodeSpec for ByKey {
    fn inputs(&self) -> Vec<InPort> {
        let mut ports = records_in("records that get columns");
        ports.push(other_records_in("with", Arity::One, "records whose columns they get"));
        ports
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for ByKey {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let Records { manifest: with, .. } = Records::read(cx.input("with")?)?;
        let taken = self.taken(&manifest, &with)?;
        let added = Added::new(manifest.schema(), taken.clone());
        let index = self.index(cx, &with)?;
        let mut out = ManifestWriter::new(cx.writer()?, added.schema.clone(), (*manifest.footer).clone())?;
        let mut alone = 0_u64;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let keys = keys(&batch, &self.on)?;
            let partners: Vec<Option<u32>> =
                keys.iter().map(|key| index.get(key.as_deref()?).copied()).collect();
            alone += partners.iter().filter(|partner| partner.is_none()).count() as u64;
            if self.without == Without::Fail
                && let Some(row) = partners.iter().position(Option::is_none)
            {
                return Err(self.no_partner(&batch, row, keys[row].as_deref()));
            }
            let batch = added.batch(&batch, &self.values(&with, &taken, &batch, &partners)?)?;
            let keep = |partner: &Option<u32>| Some(partner.is_some() || self.without == Without::Keep);
            let keep: BooleanArray = partners.iter().map(keep).collect();
            out.write(filter_record_batch(&batch, &keep).map_err(ManifestError::from)?)?;
        }
        cx.progress.note(format!("{} records, {alone} without a partner", out.rows()));
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

impl ByKey {
    /// The fields that are taken.
    fn taken(&self, manifest: &Manifest, with: &Manifest) -> Result<Vec<FieldRef>, NodeError> {
        let has = |name: &str| manifest.schema().field_with_name(name).is_ok();
        let own = |name: &str| FIXED_COLUMNS.contains(&name);
        let fields = with.schema().fields();
        let mut taken: Vec<FieldRef> = match &self.columns {
            None => fields.iter().filter(|field| !own(field.name()) && !has(field.name())).cloned().collect(),
            Some(names) => {
                let mut taken = Vec::with_capacity(names.len());
                for name in names {
                    if has(name) || own(name) {
                        return Err(NodeError::Other(format!(
                            "`columns` names `{name}`, which the records have already (`captions = true` takes captions)"
                        )));
                    }
                    let known = || {
                        let known =
                            fields.iter().map(|field| field.name().as_str()).filter(|name| !own(name));
                        known.collect::<Vec<_>>().join(", ")
                    };
                    let field = fields.iter().find(|field| field.name() == name).ok_or_else(|| {
                        NodeError::Other(format!(
                            "no record under `with` has a column `{name}`; there are {}",
                            known()
                        ))
                    })?;
                    taken.push(field.clone());
                }
                taken
            }
        };
        // A record without a partner has no value.
        taken = taken.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
        if self.captions {
            taken.extend(fields.iter().find(|field| field.name() == "captions").cloned());
        }
        Ok(taken)
    }

    /// The place of every record under `with`, by its key.
    fn index(&self, cx: &RunContext<'_>, with: &Manifest) -> Result<HashMap<String, u32>, NodeError> {
        if u32::try_from(with.len()).is_err() {
            return Err(NodeError::Other(format!("{} records under `with` are too many", with.len())));
        }
        let mut index = HashMap::with_capacity(with.len());
        for (number, batch) in with.batches().enumerate() {
            cx.check_cancelled()?;
            for (row, key) in keys(&batch?, &self.with_on)?.into_iter().enumerate() {
                let Some(key) = key else { continue };
                let place = (number * ROWS + row) as u32;
                if let Some(first) = index.insert(key.clone(), place) {
                    return Err(NodeError::Other(format!(
                        "two records under `with` have `{key}` in column `{}`: the ones at places {first} and {place}, from 0",
                        self.with_on
                    )));
                }
            }
        }
        Ok(index)
    }

    /// The partners' values.
    fn values(
        &self,
        with: &Manifest,
        taken: &[FieldRef],
        batch: &RecordBatch,
        partners: &[Option<u32>],
    ) -> Result<Vec<ArrayRef>, NodeError> {
        let mut gather = Gather::default();
        let mut place = |partner: &Option<u32>| {
            let place = partner.map(|row| gather.place(0, row as usize, |batch| with.batch(batch)));
            place.transpose()
        };
        let picks: Vec<Option<(usize, usize)>> =
            partners.iter().map(&mut place).collect::<Result<_, ManifestError>>()?;
        let batches = gather.batches;
        let column = |field: &FieldRef| -> Result<ArrayRef, ManifestError> {
            let own = || {
                batch.column_by_name(field.name()).filter(|_| FIXED_COLUMNS.contains(&field.name().as_str()))
            };
            // Behind the partners' columns, what a record without a partner has: its own captions, or nothing.
            let arrays: Vec<&dyn Array> = batches
                .iter()
                .filter_map(|batch| batch.column_by_name(field.name()))
                .map(AsRef::as_ref)
                .collect();
            let absent = match own() {
                Some(own) => own.clone(),
                None => new_null_array(field.data_type(), 1),
            };
            let at = |(row, pick): (usize, &Option<(usize, usize)>)| match pick {
                Some(pick) => *pick,
                None => (arrays.len(), if own().is_some() { row } else { 0 }),
            };
            let picks: Vec<(usize, usize)> = picks.iter().enumerate().map(at).collect();
            let arrays: Vec<&dyn Array> = arrays.iter().copied().chain([absent.as_ref()]).collect();
            Ok(interleave(&arrays, &picks)?)
        };
        Ok(taken.iter().map(column).collect::<Result<Vec<_>, ManifestError>>()?)
    }

    fn no_partner(&self, batch: &RecordBatch, row: usize, key: Option<&str>) -> NodeError {
        let name = keys(batch, "key").ok().and_then(|mut keys| keys[row].take()).unwrap_or_default();
        NodeError::Other(match key {
            Some(key) => {
                format!("record `{name}`: no record under `with` has `{key}` in column `{}`", self.with_on)
            }
            None => format!("record `{name}` has no value in column `{}`", self.on),
        })
    }
}

/// The values of a column as text; none where it is absent.
fn keys(batch: &RecordBatch, column: &str) -> Result<Vec<Option<String>>, NodeError> {
    let array = column_values(batch, column).ok_or_else(|| {
        let schema = batch.schema();
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        NodeError::Other(format!("no record has a column `{column}`; there are {}", known.join(", ")))
    })?;
    let plain =
        |ty: &DataType| ty.is_integer() || matches!(ty, DataType::Utf8 | DataType::Boolean | DataType::Null);
    if !plain(array.data_type()) {
        let message =
            format!("column `{column}` is {}, and a key is a text or a whole number", array.data_type());
        return Err(NodeError::Other(message));
    }
    let field = arrow_schema::Field::new(column, array.data_type().clone(), true);
    let text = |row| match value_at(&array, row, &field)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        other => Ok(Some(other.to_string())),
    };
    Ok((0..array.len()).map(text).collect::<Result<Vec<_>, ManifestError>>()?)
}
