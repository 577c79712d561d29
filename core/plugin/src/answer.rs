//! Checks what plugins answer. Nothing that they give is used before it went through here.
//!
//! The functions are plain and take any bytes; fuzz targets call them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, UInt32Array,
    UInt64Array,
    builder::{BinaryBuilder, StringBuilder},
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::Field;

use crate::{
    abi::{Column, ColumnSpec, ColumnType, Dict, Keys, Packed, Values},
    text::printable,
};

/// What a plugin says of itself: the description, if everything in it is in order.
pub use crate::describe::check as description;

/// An answer that is not what was agreed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Too many or too few.
    #[error("{found} {what} for {expected} records")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many came.
        found: usize,
        /// How many are right.
        expected: usize,
    },
    /// A verdict without a reason.
    #[error("verdict {code} of record {record}; there are {reasons} reasons")]
    Code {
        /// The record within the batch.
        record: usize,
        /// The verdict.
        code: u8,
        /// Number of reasons.
        reasons: usize,
    },
    /// A score that is no number.
    #[error("the score of record {record} is {value}")]
    Score {
        /// The record within the batch.
        record: usize,
        /// What it is.
        value: String,
    },
    /// Offsets that fall, do not begin at 0 or end elsewhere.
    #[error("the offsets of {what} do not rise from 0 to {end}")]
    Offsets {
        /// Of what.
        what: String,
        /// Where they should end.
        end: usize,
    },
    /// Text that is not UTF-8.
    #[error("value {value} of column `{column}` is not UTF-8")]
    Utf8 {
        /// The column.
        column: String,
        /// The value.
        value: usize,
    },
    /// A value outside of its range.
    #[error("value {value} of column `{column}` is {found}")]
    Value {
        /// The column.
        column: String,
        /// The value.
        value: usize,
        /// What it is.
        found: String,
    },
    /// A column that was not declared.
    #[error("column `{0}` is not among those that it declares")]
    Undeclared(String),
    /// A column that was declared and is not there, or twice.
    #[error("column `{column}` is there {count} times")]
    Missing {
        /// The column.
        column: String,
        /// How often.
        count: usize,
    },
    /// A column of another type.
    #[error("column `{column}` is {found}, declared is {declared}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What was declared.
        declared: String,
    },
    /// Nulls where none are declared.
    #[error("column `{0}` has absent values and is not declared nullable")]
    Nulls(String),
    /// A result that is no JSON.
    #[error("the result is no JSON: {0}")]
    Json(String),
}

/// Verdicts: one a record, each 0 or a reason's number.
pub fn verdicts(codes: &[u8], rows: usize, reasons: usize) -> Result<(), BadAnswer> {
    count("verdicts", codes.len(), rows)?;
    match codes.iter().position(|code| usize::from(*code) > reasons) {
        None => Ok(()),
        Some(record) => Err(BadAnswer::Code { record, code: codes[record], reasons }),
    }
}

/// Scores: one a record, each a number.
pub fn scores(scores: &[f32], rows: usize) -> Result<(), BadAnswer> {
    count("scores", scores.len(), rows)?;
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(record) => Err(BadAnswer::Score { record, value: scores[record].to_string() }),
    }
}

/// Keys: offsets over all records and all hashes.
pub fn keys(keys: &Keys, rows: usize) -> Result<(), BadAnswer> {
    offsets(&keys.rows, rows, keys.hashes.len(), || "the records' hashes".into())
}

/// The columns of a transform, in the order of their declaration, as Arrow arrays.
pub fn columns(columns: &[Column], specs: &[ColumnSpec], rows: usize) -> Result<Vec<ArrayRef>, BadAnswer> {
    if let Some(column) = columns.iter().find(|column| specs.iter().all(|spec| spec.name != column.name)) {
        return Err(BadAnswer::Undeclared(printable(&column.name)));
    }
    let one = |spec: &ColumnSpec| {
        let mut found = columns.iter().filter(|column| column.name == spec.name);
        match (found.next(), found.count()) {
            (Some(given), 0) => column(given, spec, rows),
            (given, more) => Err(BadAnswer::Missing {
                column: spec.name.clone(),
                count: usize::from(given.is_some()) + more,
            }),
        }
    };
    specs.iter().map(one).collect()
}

fn count(what: &'static str, found: usize, expected: usize) -> Result<(), BadAnswer> {
    if found == expected { Ok(()) } else { Err(BadAnswer::Count { what, found, expected }) }
}

/// Offsets of `count` values: they rise from 0 to `end`.
fn offsets(offsets: &[u32], count: usize, end: usize, what: impl Fn() -> String) -> Result<(), BadAnswer> {
    let right = offsets.len() == count.saturating_add(1)
        && offsets.first() == Some(&0)
        && offsets.is_sorted()
        && offsets.last().is_some_and(|last| *last as usize == end)
        && i32::try_from(end).is_ok();
    if right { Ok(()) } else { Err(BadAnswer::Offsets { what: what(), end }) }
}

/// One column as an Arrow array with a cell a record.
fn column(given: &Column, spec: &ColumnSpec, rows: usize) -> Result<ArrayRef, BadAnswer> {
    let name = &spec.name;
    let found = type_of(&given.values);
    if found != spec.ty || given.rows.is_some() != spec.many {
        let form = |ty: ColumnType, many| format!("{ty:?}{}", if many { ", several a record" } else { "" });
        return Err(BadAnswer::Type {
            column: name.clone(),
            found: form(found, given.rows.is_some()),
            declared: form(spec.ty, spec.many),
        });
    }
    let count = match &given.values {
        Values::Bools(values) => values.len(),
        Values::U32s(values) => values.len(),
        Values::U64s(values) => values.len(),
        Values::S64s(values) => values.len(),
        Values::F32s(values) => values.len(),
        Values::F64s(values) => values.len(),
        Values::Texts(packed) | Values::Blobs(packed) => packed.offsets.len().saturating_sub(1),
        Values::Coded(dict) => dict.codes.len(),
    };
    match &given.rows {
        None if count != rows => {
            return Err(BadAnswer::Count { what: "values", found: count, expected: rows });
        }
        Some(starts) => offsets(starts, rows, count, || format!("the cells of column `{name}`"))?,
        None => {}
    }
    let nulls = match &given.validity {
        None => None,
        Some(validity) if validity.len() != count => {
            return Err(BadAnswer::Count { what: "validity bytes", found: validity.len(), expected: count });
        }
        Some(validity) => {
            zero_or_one(validity, name)?;
            Some(validity.iter().map(|byte| *byte == 1).collect::<NullBuffer>())
        }
    };
    if !spec.nullable && nulls.as_ref().is_some_and(|nulls| nulls.null_count() > 0) {
        return Err(BadAnswer::Nulls(name.clone()));
    }
    let valid = |at: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
    let values: ArrayRef = match &given.values {
        Values::Bools(values) => {
            zero_or_one(values, name)?;
            Arc::new(BooleanArray::new(values.iter().map(|byte| *byte == 1).collect(), nulls.clone()))
        }
        Values::U32s(values) => Arc::new(UInt32Array::new(values.clone().into(), nulls.clone())),
        Values::U64s(values) => Arc::new(UInt64Array::new(values.clone().into(), nulls.clone())),
        Values::S64s(values) => Arc::new(Int64Array::new(values.clone().into(), nulls.clone())),
        Values::F32s(values) => Arc::new(Float32Array::new(values.clone().into(), nulls.clone())),
        Values::F64s(values) => Arc::new(Float64Array::new(values.clone().into(), nulls.clone())),
        Values::Texts(packed) => texts(packed, name, &valid)?,
        Values::Blobs(packed) => blobs(packed, name, &valid)?,
        Values::Coded(dict) => coded(dict, name, &valid)?,
    };
    Ok(match &given.rows {
        None => values,
        Some(starts) => {
            let field = Arc::new(Field::new("item", values.data_type().clone(), true));
            let starts: Vec<i32> = starts.iter().map(|start| *start as i32).collect();
            Arc::new(ListArray::new(field, OffsetBuffer::new(starts.into()), values, None))
        }
    })
}

fn type_of(values: &Values) -> ColumnType {
    match values {
        Values::Bools(_) => ColumnType::Bools,
        Values::U32s(_) => ColumnType::U32s,
        Values::U64s(_) => ColumnType::U64s,
        Values::S64s(_) => ColumnType::S64s,
        Values::F32s(_) => ColumnType::F32s,
        Values::F64s(_) => ColumnType::F64s,
        Values::Texts(_) => ColumnType::Texts,
        Values::Coded(_) => ColumnType::Coded,
        Values::Blobs(_) => ColumnType::Blobs,
    }
}

fn zero_or_one(bytes: &[u8], column: &str) -> Result<(), BadAnswer> {
    match bytes.iter().position(|byte| *byte > 1) {
        None => Ok(()),
        Some(value) => Err(BadAnswer::Value {
            column: column.to_owned(),
            value,
            found: format!("{}, neither 0 nor 1", bytes[value]),
        }),
    }
}

/// The values of a packed column, once its offsets are right.
fn pieces<'a>(packed: &'a Packed, name: &str) -> Result<impl Iterator<Item = &'a [u8]>, BadAnswer> {
    let count = packed.offsets.len().saturating_sub(1);
    offsets(&packed.offsets, count, packed.bytes.len(), || format!("column `{name}`"))?;
    Ok(packed.offsets.windows(2).map(|pair| &packed.bytes[pair[0] as usize..pair[1] as usize]))
}

fn texts(packed: &Packed, name: &str, valid: &dyn Fn(usize) -> bool) -> Result<ArrayRef, BadAnswer> {
    let mut builder = StringBuilder::new();
    for (at, bytes) in pieces(packed, name)?.enumerate() {
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| BadAnswer::Utf8 { column: name.to_owned(), value: at })?;
        builder.append_option(valid(at).then_some(text));
    }
    Ok(Arc::new(builder.finish()))
}

fn blobs(packed: &Packed, name: &str, valid: &dyn Fn(usize) -> bool) -> Result<ArrayRef, BadAnswer> {
    let mut builder = BinaryBuilder::new();
    pieces(packed, name)?
        .enumerate()
        .for_each(|(at, bytes)| builder.append_option(valid(at).then_some(bytes)));
    Ok(Arc::new(builder.finish()))
}

fn coded(dict: &Dict, name: &str, valid: &dyn Fn(usize) -> bool) -> Result<ArrayRef, BadAnswer> {
    let mut builder = StringBuilder::new();
    for (at, code) in dict.codes.iter().enumerate() {
        match dict.values.get(*code as usize) {
            _ if !valid(at) => builder.append_null(),
            Some(text) => builder.append_value(text),
            None => {
                let found = format!("code {code} of {} strings", dict.values.len());
                return Err(BadAnswer::Value { column: name.to_owned(), value: at, found });
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}
