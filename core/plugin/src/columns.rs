//! Arrow columns on their way into a plugin.
//!
//! A batch's arrays enter, [`Held`] columns leave: what could be pointed at is pointed at, what had to be converted is
//! held beside it. Only the columns that a plugin declares are looked at.

use arrow_array::{
    Array, ArrayRef, GenericBinaryArray, GenericListArray, GenericStringArray, OffsetSizeTrait,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int64Type, UInt32Type, UInt64Type},
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field};

use crate::{
    abi::{BatchIn, ColumnIn, ColumnSpec, ColumnType, DictIn, PackedIn, ValuesIn},
    failure::FailureKind,
};

/// Records for a plugin: arrays of equal length by name.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its place among all batches, from 0.
    pub index: u64,
    /// Number of records.
    pub rows: usize,
    /// The columns that the plugin reads, in any order; others may be among them.
    pub columns: Vec<(String, ArrayRef)>,
}

impl ColumnType {
    /// The Arrow type of its values. A `Coded` column is one of plain strings here: the plugin's codes are made when it
    /// crosses.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bools => DataType::Boolean,
            Self::U32s => DataType::UInt32,
            Self::U64s => DataType::UInt64,
            Self::S64s => DataType::Int64,
            Self::F32s => DataType::Float32,
            Self::F64s => DataType::Float64,
            Self::Texts | Self::Coded => DataType::Utf8,
            Self::Blobs => DataType::Binary,
        }
    }
}

impl ColumnSpec {
    /// The column as an Arrow field, a list where a record may have several values. Values may be absent: a record whose
    /// batch failed has none.
    pub fn field(&self) -> Field {
        let value = self.ty.arrow();
        let cell = if self.many { DataType::new_list(value, true) } else { value };
        Field::new(&self.name, cell, true)
    }
}

/// One column, ready to cross.
pub(crate) struct Held {
    name: String,
    rows: Option<Vec<u32>>,
    validity: Option<Vec<u8>>,
    values: HeldValues,
}

enum HeldValues {
    Bools(Vec<u8>),
    U32s(ArrayRef),
    U64s(ArrayRef),
    S64s(ArrayRef),
    F32s(ArrayRef),
    F64s(ArrayRef),
    Texts(Offsets, ArrayRef),
    Blobs(Offsets, ArrayRef),
    Coded { codes: Vec<u32>, values: Vec<String> },
}

/// Offsets as unsigned numbers from 0; Arrow's own if they begin there and have 32 bits.
enum Offsets {
    Own,
    Shifted(Vec<u32>),
}

/// Converts the columns that a plugin reads.
pub(crate) fn hold(batch: &Batch, specs: &[ColumnSpec]) -> Result<Vec<Held>, FailureKind> {
    specs.iter().map(|spec| hold_one(batch, spec)).collect()
}

/// Columns as they cross; `columns` are of [`lower`].
pub(crate) fn batch_in<'a>(rows: usize, columns: &'a [ColumnIn<'a>]) -> BatchIn<'a> {
    BatchIn { rows: rows as u32, columns }
}

/// What points into held columns.
pub(crate) fn lower(held: &[Held]) -> Vec<ColumnIn<'_>> {
    held.iter()
        .map(|column| ColumnIn {
            name: &column.name,
            rows: column.rows.as_deref(),
            validity: column.validity.as_deref(),
            values: column.values.lower(),
        })
        .collect()
}

/// Digest of lowered columns: names, cells, validity, values.
pub(crate) fn digest(rows: usize, columns: &[ColumnIn<'_>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(&(rows as u64).to_le_bytes());
    for column in columns {
        field(column.name.as_bytes());
        field(bytemuck::cast_slice(column.rows.unwrap_or_default()));
        field(column.validity.unwrap_or_default());
        match &column.values {
            ValuesIn::Bools(values) => field(values),
            ValuesIn::U32s(values) => field(bytemuck::cast_slice(values)),
            ValuesIn::U64s(values) => field(bytemuck::cast_slice(values)),
            ValuesIn::S64s(values) => field(bytemuck::cast_slice(values)),
            ValuesIn::F32s(values) => field(bytemuck::cast_slice(values)),
            ValuesIn::F64s(values) => field(bytemuck::cast_slice(values)),
            ValuesIn::Texts(packed) | ValuesIn::Blobs(packed) => {
                field(bytemuck::cast_slice(packed.offsets));
                field(packed.bytes);
            }
            ValuesIn::Coded(dict) => {
                field(bytemuck::cast_slice(dict.codes));
                dict.values.iter().for_each(|value| field(value.as_bytes()));
            }
        }
    }
    *hasher.finalize().as_bytes()
}

fn hold_one(batch: &Batch, spec: &ColumnSpec) -> Result<Held, FailureKind> {
    let name = &spec.name;
    let Some((_, array)) = batch.columns.iter().find(|(known, _)| known == name) else {
        let known: Vec<&str> = batch.columns.iter().map(|(name, _)| name.as_str()).collect();
        return Err(FailureKind::Column(format!("it reads column `{name}`; there are {}", known.join(", "))));
    };
    if array.len() != batch.rows {
        let message = format!("column `{name}` has {} cells for {} records", array.len(), batch.rows);
        return Err(FailureKind::Column(message));
    }
    let (rows, values) = match array.data_type() {
        DataType::List(_) => cells(array.as_list::<i32>()),
        DataType::LargeList(_) => cells(array.as_list::<i64>()),
        _ if spec.many => (Some((0..=batch.rows as u32).collect()), array.clone()),
        _ => (None, array.clone()),
    };
    if rows.is_some() != spec.many {
        return Err(FailureKind::Column(format!(
            "column `{name}` has several values a record, it reads one"
        )));
    }
    let nulls = values.logical_nulls();
    if !spec.nullable && nulls.as_ref().is_some_and(|nulls| nulls.null_count() > 0) {
        let message = format!("column `{name}` has absent values, and the plugin does not take any");
        return Err(FailureKind::Column(message));
    }
    let validity = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| bytes_of(nulls.inner()));
    let wanted = |found: &DataType| {
        FailureKind::Column(format!("column `{name}` holds {found}, it reads {:?}", spec.ty).to_lowercase())
    };
    let values = convert(&values, spec.ty).ok_or_else(|| wanted(values.data_type()))?;
    Ok(Held { name: name.clone(), rows, validity, values })
}

/// Offsets from 0 and the values of a list column; an absent list is empty.
fn cells<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> (Option<Vec<u32>>, ArrayRef) {
    let offsets = list.value_offsets();
    let no_nulls = list.nulls().is_none_or(|nulls: &NullBuffer| nulls.null_count() == 0);
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    if no_nulls {
        let rows = offsets.iter().map(|offset| (offset.as_usize() - first) as u32).collect();
        return (Some(rows), list.values().slice(first, last - first));
    }
    // A list that is absent may still span values; they are left out.
    let mut rows = vec![0_u32];
    let mut taken = Vec::new();
    for row in 0..list.len() {
        if list.is_valid(row) {
            taken.extend((offsets[row].as_usize()..offsets[row + 1].as_usize()).map(|at| at as u64));
        }
        rows.push(taken.len() as u32);
    }
    let taken = arrow_array::UInt64Array::from(taken);
    let values = arrow_select::take::take(list.values(), &taken, None);
    // Places inside of the array can be taken.
    (Some(rows), values.unwrap_or_else(|_| list.values().slice(0, 0)))
}

fn bytes_of(bits: &BooleanBuffer) -> Vec<u8> {
    bits.iter().map(u8::from).collect()
}

/// The values in the type that a plugin reads: as they are, or wider; `None` if that loses something.
fn convert(values: &ArrayRef, ty: ColumnType) -> Option<HeldValues> {
    use DataType as D;
    let given = values.data_type();
    let cast = |to: &D| if given == to { Some(values.clone()) } else { arrow_cast::cast(values, to).ok() };
    let signed = matches!(given, D::Int8 | D::Int16 | D::Int32 | D::Int64);
    let narrow = matches!(given, D::UInt8 | D::UInt16 | D::UInt32);
    let texts = matches!(given, D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Dictionary(..));
    Some(match ty {
        _ if *given == D::Null => {
            return convert(&arrow_array::new_null_array(&ty.arrow(), values.len()), ty);
        }
        ColumnType::Bools if *given == D::Boolean => {
            HeldValues::Bools(bytes_of(values.as_boolean().values()))
        }
        ColumnType::U32s if narrow => HeldValues::U32s(cast(&D::UInt32)?),
        ColumnType::U64s if narrow || *given == D::UInt64 => HeldValues::U64s(cast(&D::UInt64)?),
        ColumnType::S64s if narrow || signed => HeldValues::S64s(cast(&D::Int64)?),
        ColumnType::F32s if matches!(given, D::Float16 | D::Float32) => HeldValues::F32s(cast(&D::Float32)?),
        ColumnType::F64s
            if narrow
                || matches!(given, D::Int8 | D::Int16 | D::Int32 | D::Float16 | D::Float32 | D::Float64) =>
        {
            HeldValues::F64s(cast(&D::Float64)?)
        }
        ColumnType::Texts if texts => {
            let array = cast(&D::Utf8)?;
            HeldValues::Texts(offsets_of(array.as_string::<i32>()), array)
        }
        ColumnType::Coded if texts => coded(cast(&D::Utf8)?.as_string::<i32>()),
        ColumnType::Blobs if matches!(given, D::Binary | D::LargeBinary | D::BinaryView) => {
            let array = cast(&D::Binary)?;
            HeldValues::Blobs(binary_offsets(array.as_binary::<i32>()), array)
        }
        _ => return None,
    })
}

fn offsets_of(array: &GenericStringArray<i32>) -> Offsets {
    shift(array.value_offsets())
}

fn binary_offsets(array: &GenericBinaryArray<i32>) -> Offsets {
    shift(array.value_offsets())
}

fn shift(offsets: &[i32]) -> Offsets {
    match offsets {
        [] => Offsets::Shifted(vec![0]),
        [0, ..] => Offsets::Own,
        [first, ..] => Offsets::Shifted(offsets.iter().map(|offset| (offset - first) as u32).collect()),
    }
}

fn coded(texts: &GenericStringArray<i32>) -> HeldValues {
    let mut places = std::collections::HashMap::new();
    let mut values: Vec<String> = Vec::new();
    let mut codes = Vec::with_capacity(texts.len());
    for at in 0..texts.len() {
        let text = if texts.is_valid(at) { texts.value(at) } else { "" };
        codes.push(*places.entry(text).or_insert_with(|| {
            values.push(text.to_owned());
            values.len() as u32 - 1
        }));
    }
    HeldValues::Coded { codes, values }
}

impl HeldValues {
    fn lower(&self) -> ValuesIn<'_> {
        match self {
            Self::Bools(bytes) => ValuesIn::Bools(bytes),
            Self::U32s(array) => ValuesIn::U32s(array.as_primitive::<UInt32Type>().values()),
            Self::U64s(array) => ValuesIn::U64s(array.as_primitive::<UInt64Type>().values()),
            Self::S64s(array) => ValuesIn::S64s(array.as_primitive::<Int64Type>().values()),
            Self::F32s(array) => ValuesIn::F32s(array.as_primitive::<Float32Type>().values()),
            Self::F64s(array) => ValuesIn::F64s(array.as_primitive::<Float64Type>().values()),
            Self::Coded { codes, values } => ValuesIn::Coded(DictIn { codes, values }),
            Self::Texts(offsets, array) => {
                let array = array.as_string::<i32>();
                ValuesIn::Texts(packed(offsets, array.value_offsets(), array.value_data()))
            }
            Self::Blobs(offsets, array) => {
                let array = array.as_binary::<i32>();
                ValuesIn::Blobs(packed(offsets, array.value_offsets(), array.value_data()))
            }
        }
    }
}

fn packed<'a>(offsets: &'a Offsets, own: &'a [i32], data: &'a [u8]) -> PackedIn<'a> {
    let (start, end) =
        (own.first().copied().unwrap_or(0) as usize, own.last().copied().unwrap_or(0) as usize);
    let offsets = match offsets {
        // Arrow's offsets are never negative, so their bits are those of the unsigned number.
        Offsets::Own => bytemuck::cast_slice(own),
        Offsets::Shifted(offsets) => offsets,
    };
    PackedIn { offsets, bytes: &data[start..end] }
}
