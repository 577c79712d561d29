//! Checks what Arrow takes for granted of a file, before Arrow reads it: a damaged one would make it panic.
//!
//! What is in the values (offsets that fall, text that is not UTF-8) Arrow checks itself.

use arrow_ipc::{FieldNode, root_as_message};
use arrow_schema::{DataType, Schema};

use super::ManifestError;

/// The most values of a column that takes no bytes (nulls, structs): nothing else bounds what they become as JSON.
const WITHOUT_BYTES: i64 = 1 << 24;

/// The first bytes of a message, before its length.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Whether every column is of a type that a manifest may have.
pub(super) fn check_types(schema: &Schema) -> Result<(), ManifestError> {
    for field in schema.fields() {
        if !is_known(field.data_type()) {
            return Err(ManifestError::Column {
                column: field.name().clone(),
                expected: "of a type that a manifest may have",
            });
        }
    }
    Ok(())
}

/// Dictionaries have no place in a manifest; unions and run ends no reader here.
fn is_known(ty: &DataType) -> bool {
    match ty {
        DataType::Dictionary(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::ListView(_) | DataType::LargeListView(_) => false,
        DataType::FixedSizeBinary(width) => *width > 0,
        DataType::FixedSizeList(item, len) => *len > 0 && is_known(item.data_type()),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
            is_known(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
        _ => true,
    }
}

/// Whether the header of a batch describes columns of these types that lie within a body of so many bytes.
pub(super) fn check_batch(header: &[u8], body: usize, schema: &Schema) -> Result<(), ManifestError> {
    let wrong = |what: &str| ManifestError::Format(format!("a batch's header is damaged: {what}"));
    let prefix = if header.starts_with(&CONTINUATION) { 8 } else { 4 };
    let message = header.get(prefix..).ok_or_else(|| wrong("it is too short"))?;
    let message = root_as_message(message).map_err(|error| wrong(&error.to_string()))?;
    let batch = message.header_as_record_batch().ok_or_else(|| wrong("it is of no batch"))?;
    if batch.compression().is_some() {
        return Err(wrong("it is compressed"));
    }
    let buffers = batch.buffers().into_iter().flatten().map(|buffer| (buffer.offset(), buffer.length()));
    let mut places = Places {
        nodes: batch.nodes().into_iter().flatten(),
        buffers: buffers.collect::<Vec<_>>().into_iter(),
        variadic: batch.variadicBufferCounts().into_iter().flatten(),
        body,
    };
    let mut fields = schema.fields().iter();
    fields.try_for_each(|field| places.take(field.data_type())).map_err(wrong)
}

/// Bytes of an element of a column's first buffer behind the validity.
fn unit(ty: &DataType) -> usize {
    match ty {
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(..) => size_of::<i32>(),
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => size_of::<i64>(),
        DataType::Utf8View | DataType::BinaryView => size_of::<u128>(),
        ty => ty.primitive_width().unwrap_or(1),
    }
}

/// What is left of a header's lists; Arrow walks the columns in the same order.
struct Places<N, B, V> {
    nodes: N,
    buffers: B,
    variadic: V,
    body: usize,
}

impl<'a, N, B, V> Places<N, B, V>
where
    N: Iterator<Item = &'a FieldNode>,
    B: Iterator<Item = (i64, i64)>,
    V: Iterator<Item = i64>,
{
    /// Takes what a column of this type has, and what is inside of it.
    fn take(&mut self, ty: &DataType) -> Result<(), &'static str> {
        let node = self.nodes.next().ok_or("a column has no length")?;
        let (length, absent) = (node.length(), node.null_count());
        let takes_no_bytes = matches!(ty, DataType::Null | DataType::Struct(_));
        let most = if takes_no_bytes { WITHOUT_BYTES } else { i64::from(i32::MAX) };
        if !(0..=most).contains(&length) || !(0..=length).contains(&absent) {
            return Err("a column's length");
        }
        if *ty == DataType::Null {
            return Ok(());
        }
        let validity = self.buffer()?;
        if absent > 0 && validity.saturating_mul(8) < length as usize {
            return Err("a column's validity is too short");
        }
        let others = match ty {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 2,
            DataType::Utf8View | DataType::BinaryView => self
                .variadic
                .next()
                .and_then(|count| count.checked_add(1))
                .ok_or("a column has no buffers")?,
            DataType::Struct(_) | DataType::FixedSizeList(..) => 0,
            _ => 1,
        };
        let unit = unit(ty);
        for place in 0..others {
            // Offsets, views and numbers come first; Arrow takes them for whole ones.
            if !self.buffer()?.is_multiple_of(if place == 0 { unit } else { 1 }) {
                return Err("a buffer ends within a value");
            }
        }
        match ty {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::Map(item, _)
            | DataType::FixedSizeList(item, _) => self.take(item.data_type()),
            DataType::Struct(fields) => fields.iter().try_for_each(|field| self.take(field.data_type())),
            _ => Ok(()),
        }
    }

    /// The length of the next buffer, which lies in the body.
    fn buffer(&mut self) -> Result<usize, &'static str> {
        let (offset, length) = self.buffers.next().ok_or("a column has no buffer")?;
        let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
        match (usize::try_from(offset), usize::try_from(length)) {
            (Ok(_), Ok(length)) if end.is_some_and(|end| end <= self.body) => Ok(length),
            _ => Err("a buffer lies outside of the body"),
        }
    }
}
