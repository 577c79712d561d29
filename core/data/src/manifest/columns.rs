//! Values of Arrow columns as JSON, for nodes that look at single records.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::*};
use arrow_schema::{DataType, Field};
use serde_json::{Map, Value};

use super::ManifestError;

/// Field metadata of a column whose texts are JSON, because its values are of several types.
pub(super) const JSON_TEXT: (&str, &str) = ("heddle", "json");

/// The value of a row; null if it has none.
///
/// # Errors
/// If the type has no form in JSON.
pub fn value_at(array: &dyn Array, row: usize, field: &Field) -> Result<Value, ManifestError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    if field.metadata().get(JSON_TEXT.0).is_some_and(|form| form == JSON_TEXT.1) {
        let text = array.as_string_opt::<i32>().map_or("null", |texts| texts.value(row));
        return serde_json::from_str(text).map_err(ManifestError::Spool);
    }
    plain(array, row)
}

macro_rules! number {
    ($array:expr, $row:expr, $ty:ty) => {
        $array.as_primitive::<$ty>().value($row).into()
    };
}

fn plain(array: &dyn Array, row: usize) -> Result<Value, ManifestError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => number!(array, row, Int8Type),
        DataType::Int16 => number!(array, row, Int16Type),
        DataType::Int32 => number!(array, row, Int32Type),
        DataType::Int64 => number!(array, row, Int64Type),
        DataType::UInt8 => number!(array, row, UInt8Type),
        DataType::UInt16 => number!(array, row, UInt16Type),
        DataType::UInt32 => number!(array, row, UInt32Type),
        DataType::UInt64 => number!(array, row, UInt64Type),
        DataType::Float32 => number!(array, row, Float32Type),
        DataType::Float64 => number!(array, row, Float64Type),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::List(_) => items(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(row))?,
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(array.columns()) {
                if column.is_valid(row) {
                    object.insert(field.name().clone(), plain(column, row)?);
                }
            }
            Value::Object(object)
        }
        // Times, decimals, binary and what else there is: as Arrow writes them.
        _ => arrow_cast::display::array_value_to_string(array, row)?.into(),
    })
}

fn items(list: &ArrayRef) -> Result<Value, ManifestError> {
    (0..list.len()).map(|row| plain(list, row)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// A column by name, or by a path into structs (`keywords.en`); `captions.language` and `captions.text` are lists.
pub fn column_values(batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    if let Some(array) = batch.column_by_name(name) {
        return Some(array.clone());
    }
    let (head, rest) = name.split_once('.')?;
    rest.split('.').try_fold(batch.column_by_name(head)?.clone(), |array, name| inner(&array, name))
}

/// A field of a struct, or of the structs in a list.
fn inner(array: &ArrayRef, name: &str) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Struct(_) => {
            let array = array.as_struct();
            let column = array.column_by_name(name)?;
            // A struct that is absent has no field either.
            match array.nulls() {
                None => Some(column.clone()),
                Some(nulls) => {
                    let nulls = arrow_buffer::NullBuffer::union(Some(nulls), column.nulls());
                    let data = column.to_data().into_builder().nulls(nulls).build().ok()?;
                    Some(arrow_array::make_array(data))
                }
            }
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let values = inner(list.values(), name)?;
            let field = Arc::new(Field::new("item", values.data_type().clone(), true));
            let list =
                arrow_array::ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned());
            Some(Arc::new(list.ok()?))
        }
        _ => None,
    }
}
