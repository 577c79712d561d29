//! [`Gguf`]: a file that has been looked over.

use std::collections::BTreeMap;

use crate::{
    GgufError, TensorInfo, Value,
    cursor::Cursor,
    dequantize::dequantize,
    tensor::{Entry, LEAST_BYTES, wrong},
};

/// Where data is aligned if the file does not say, bytes.
const ALIGNMENT: u64 = 32;

/// The least bytes of a field: its name's length, a type and a byte.
const LEAST_FIELD: usize = 8 + 4 + 1;

/// A GGUF file over its bytes.
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    version: u32,
    fields: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, TensorInfo>,
}

impl<'a> Gguf<'a> {
    /// Reads fields and the table of tensors, and checks that all data is there.
    ///
    /// # Errors
    /// [`GgufError`]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(4, "the magic number").ok() != Some(b"GGUF") {
            return Err(GgufError::Magic);
        }
        let version = cursor.u32("the version")?;
        if !matches!(version, 2 | 3) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = cursor.count("tensors", LEAST_BYTES)?;
        let field_count = cursor.count("fields", LEAST_FIELD)?;
        let fields = read_fields(&mut cursor, field_count)?;
        let alignment = alignment(&fields)?;
        let tensors = read_tensors(&mut cursor, tensor_count, alignment, bytes.len())?;
        Ok(Self { bytes, version, fields, tensors })
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All fields in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.fields.iter().map(|(name, value)| (*name, *value))
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        self.fields.get(name).copied()
    }

    /// A field of a type, which `read` gives and `wanted` names.
    ///
    /// # Errors
    /// [`GgufError::NoField`], [`GgufError::FieldType`]
    pub fn needed<T>(
        &self,
        name: &str,
        wanted: &'static str,
        read: impl Fn(&Value<'a>) -> Option<T>,
    ) -> Result<T, GgufError> {
        let value = self.field(name).ok_or_else(|| GgufError::NoField(name.to_owned()))?;
        read(&value).ok_or_else(|| GgufError::FieldType { name: name.to_owned(), found: value.ty(), wanted })
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&'a str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (*name, info))
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The elements of a tensor, row-major; of quantised ones what ggml makes of them, bit for bit.
    ///
    /// # Errors
    /// [`GgufError::Tensor`] if there is no such tensor, or if it has a type that is not read.
    pub fn dequantize(&self, name: &str) -> Result<Vec<f32>, GgufError> {
        let info = self.tensor(name).ok_or_else(|| wrong(name, "it is not there".to_owned()))?;
        let bytes = self.bytes.get(info.at.clone()).unwrap_or_default();
        dequantize(info.ty, bytes).ok_or_else(|| {
            wrong(name, format!("{} is not read; F32, F16, BF16, Q4_0, Q4_1 and Q8_0 are", info.ty))
        })
    }
}

fn read_fields<'a>(cursor: &mut Cursor<'a>, count: usize) -> Result<BTreeMap<&'a str, Value<'a>>, GgufError> {
    let mut fields = BTreeMap::new();
    for _ in 0..count {
        let name = cursor.text("a field")?;
        let value = Value::read(cursor, name)?;
        if fields.insert(name, value).is_some() {
            return Err(GgufError::Twice { what: "fields", name: name.to_owned() });
        }
    }
    Ok(fields)
}

fn alignment(fields: &BTreeMap<&str, Value<'_>>) -> Result<u64, GgufError> {
    let Some(value) = fields.get("general.alignment") else { return Ok(ALIGNMENT) };
    let alignment = value.as_u64().unwrap_or(0);
    let is_usable = alignment >= 8 && alignment.is_power_of_two();
    if is_usable { Ok(alignment) } else { Err(GgufError::Alignment(alignment)) }
}

/// Reads the table, behind which data starts at the next multiple of the alignment.
fn read_tensors<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
    alignment: u64,
    file_len: usize,
) -> Result<BTreeMap<&'a str, TensorInfo>, GgufError> {
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let entry = Entry::read(cursor)?;
        let name = entry.name;
        if entries.insert(name, entry).is_some() {
            return Err(GgufError::Twice { what: "tensors", name: name.to_owned() });
        }
    }
    let start = usize::try_from(alignment).ok().and_then(|by| cursor.at().checked_next_multiple_of(by));
    let start = start.ok_or(GgufError::Alignment(alignment))?;
    let place = |(name, entry): (&'a str, Entry<'a>)| Ok((name, entry.place(start, alignment, file_len)?));
    entries.into_iter().map(place).collect()
}
