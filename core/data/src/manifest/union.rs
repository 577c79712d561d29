//! Several manifests as one: a schema that holds the columns of all, and their batches fitted to it.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, StructArray, UInt32Array, cast::AsArray, new_null_array,
};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::{Footer, Manifest, ManifestError, columns::JSON_TEXT, fields::fixed_fields};

/// Two manifests that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum UnionError {
    /// A column has types that have nothing in common.
    #[error("column `{column}` is {first} in `{first_name}` and {second} in `{second_name}`")]
    Types {
        /// The column.
        column: String,
        /// The manifest that has it first.
        first_name: String,
        /// Its type there.
        first: String,
        /// Another that has it.
        second_name: String,
        /// Its type there.
        second: String,
    },
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What several manifests have in common.
#[derive(Debug)]
pub struct Union {
    /// The fixed columns, then all others in the order in which they come first.
    pub schema: SchemaRef,
    /// Shards of all, what all left out, and the steps of all, those of one manifest after those of another. Settings
    /// are the first one's.
    pub footer: Footer,
    /// Per manifest, the place in `footer` of each of its shards.
    shards: Vec<Vec<u32>>,
}

impl Union {
    /// Finds it; each manifest comes with its name for messages.
    ///
    /// # Errors
    /// [`UnionError::Types`].
    pub fn new(manifests: &[(&str, &Manifest)]) -> Result<Self, UnionError> {
        let mut own: Vec<(usize, FieldRef)> = Vec::new();
        let mut footer = Footer::default();
        let mut shards = Vec::with_capacity(manifests.len());
        for (place, (name, manifest)) in manifests.iter().enumerate() {
            for field in manifest.schema().fields().iter().filter(|field| !is_fixed(field)) {
                match own.iter_mut().find(|(_, known)| known.name() == field.name()) {
                    None => own.push((place, field.clone())),
                    Some((first, known)) => {
                        let both = both(known, field).ok_or_else(|| UnionError::Types {
                            column: field.name().clone(),
                            first_name: manifests[*first].0.to_owned(),
                            first: told(known),
                            second_name: (*name).to_owned(),
                            second: told(field),
                        })?;
                        *known = both;
                    }
                }
            }
            let other = &manifest.footer;
            shards.push(other.shards.iter().map(|info| footer.shard(info)).collect());
            footer.left.extend(&other.left);
            footer.steps.extend(other.steps.iter().cloned());
            if place == 0 {
                footer.settings.clone_from(&other.settings);
            }
        }
        let own = own.into_iter().map(|(_, field)| field);
        let fields: Vec<FieldRef> = fixed_fields().iter().cloned().chain(own).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), footer, shards })
    }

    /// A batch of the manifest at this place.
    ///
    /// # Errors
    /// If the batch names a shard that its manifest does not have.
    pub fn batch(&self, place: usize, batch: &RecordBatch) -> Result<RecordBatch, ManifestError> {
        let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
            Some(shards) if field.name() == "shard" => self.place_shards(place, shards),
            Some(array) => fit(array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn place_shards(&self, place: usize, shards: &ArrayRef) -> Result<ArrayRef, ManifestError> {
        let shards: &UInt32Array = shards.as_primitive();
        let unknown = || ManifestError::Format("a record of an unknown shard".into());
        let map = self.shards.get(place).ok_or_else(unknown)?;
        let moved = shards.values().iter().map(|shard| map.get(*shard as usize).copied().ok_or_else(unknown));
        Ok(Arc::new(UInt32Array::from(moved.collect::<Result<Vec<u32>, _>>()?)))
    }
}

fn is_fixed(field: &Field) -> bool {
    fixed_fields().iter().any(|known| known.name() == field.name())
}

fn told(field: &Field) -> String {
    if field.metadata().contains_key(JSON_TEXT.0) {
        "JSON of several types".to_owned()
    } else {
        field.data_type().to_string()
    }
}

/// The least field that holds both.
fn both(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    if a.metadata() != b.metadata() {
        return None;
    }
    let ty = widest(a.data_type(), b.data_type())?;
    Some(Arc::new(Field::new(a.name(), ty, true).with_metadata(a.metadata().clone())))
}

fn widest(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    let integer = |ty: &D| matches!(ty, D::UInt32 | D::Int64);
    let number = |ty: &D| integer(ty) || matches!(ty, D::Float32 | D::Float64);
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (D::Null, ty) | (ty, D::Null) => ty.clone(),
        (a, b) if integer(a) && integer(b) => D::Int64,
        (a, b) if number(a) && number(b) => D::Float64,
        (D::UInt32, D::UInt64) | (D::UInt64, D::UInt32) => D::UInt64,
        (D::List(a), D::List(b)) => {
            D::List(Arc::new(Field::new(a.name(), widest(a.data_type(), b.data_type())?, true)))
        }
        (D::Struct(a), D::Struct(b)) => {
            let mut fields: Vec<FieldRef> = a.iter().cloned().collect();
            for field in b {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    Some(known) => *known = both(known, field)?,
                    None => fields.push(field.clone()),
                }
            }
            // A field that one of them lacks is absent there.
            D::Struct(
                fields.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect(),
            )
        }
        _ => return None,
    })
}

/// An array in a type that [`widest`] found for it.
fn fit(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef, ManifestError> {
    Ok(match (array.data_type(), ty) {
        (given, ty) if given == ty => array.clone(),
        (DataType::Null, ty) => new_null_array(ty, array.len()),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = fit(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let given = array.as_struct();
            let column = |field: &FieldRef| match given.column_by_name(field.name()) {
                Some(column) => fit(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), array.len())),
            };
            let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, given.nulls().cloned())?)
        }
        (_, ty) => arrow_cast::cast(array, ty)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::{
        manifest::{RowWriter, ShardInfo, Step},
        record::Record,
    };

    fn manifest(shard: u8, rows: &[Value]) -> Manifest {
        let info = ShardInfo { name: format!("{shard}.tar"), digest: [shard; 32] };
        let mut footer = Footer::new(vec![ShardInfo { name: "unused.tar".into(), digest: [9; 32] }, info]);
        footer.steps.push(Step::new(format!("rule {shard}")));
        let mut writer = RowWriter::new(footer);
        for (place, row) in rows.iter().enumerate() {
            let Value::Object(columns) = row.clone() else { panic!("rows are objects") };
            let key = format!("{shard}/{place}");
            writer.push(Record::new(key, [shard; 32], [].into(), columns)).unwrap();
        }
        Manifest::open(arrow_buffer::Buffer::from(writer.finish(Vec::new()).unwrap())).unwrap()
    }

    fn rows(manifests: &[(&str, &Manifest)]) -> Result<Vec<String>, UnionError> {
        let union = Union::new(manifests)?;
        let mut writer =
            super::super::ManifestWriter::new(Vec::new(), union.schema.clone(), union.footer.clone())?;
        for (place, (_, manifest)) in manifests.iter().enumerate() {
            for batch in manifest.batches() {
                writer.write(union.batch(place, &batch?)?)?;
            }
        }
        let joined = Manifest::open(arrow_buffer::Buffer::from(writer.finish()?))?;
        let own = |record: Record| {
            let own = record.columns.iter().filter(|(name, _)| !["key", "source"].contains(&name.as_str()));
            let own: Map<String, Value> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
            format!("{} {} {}", record.key, record.shard[0], Value::Object(own))
        };
        Ok(joined.records().collect::<Result<Vec<_>, _>>()?.into_iter().map(own).collect())
    }

    #[test]
    fn columns_of_all_and_shards_that_stay_with_their_records() {
        let a = manifest(1, &[json!({ "n": 1, "tags": [1], "o": { "x": 1 } }), json!({ "n": null })]);
        let b = manifest(2, &[json!({ "n": 0.5, "tags": [0.5], "o": { "y": "why" }, "only": true })]);
        insta::assert_snapshot!(rows(&[("a", &a), ("b", &b), ("a", &a)]).unwrap().join("\n"), @r#"
        1/0 1 {"n":1.0,"tags":[1.0],"o":{"x":1}}
        1/1 1 {}
        2/0 2 {"n":0.5,"tags":[0.5],"o":{"y":"why"},"only":true}
        1/0 1 {"n":1.0,"tags":[1.0],"o":{"x":1}}
        1/1 1 {}
        "#);
        let union = Union::new(&[("a", &a), ("b", &b)]).unwrap();
        let names: Vec<&str> = union.footer.shards.iter().map(|shard| shard.name.as_str()).collect();
        assert_eq!(names, ["unused.tar", "1.tar", "2.tar"]);
        assert_eq!(union.footer.steps.len(), 2);
    }

    #[test]
    fn types_that_have_nothing_in_common_are_named() {
        let (a, b) = (manifest(1, &[json!({ "n": 1 })]), manifest(2, &[json!({ "n": "one" })]));
        let error = rows(&[("pairs", &a), ("web", &b)]).unwrap_err();
        assert_eq!(error.to_string(), "column `n` is Int64 in `pairs` and Utf8 in `web`");
    }
}
