//! Values of fields.

use std::fmt;

use crate::{GgufError, cursor::Cursor};

/// How deep arrays may lie within arrays; files in use have none within another.
const DEPTH: usize = 4;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Single precision.
    F32,
    /// A truth value, one byte.
    Bool,
    /// Text in UTF-8.
    Text,
    /// Values of one type.
    Array,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// Double precision.
    F64,
}

/// Every type at the place of its number in files, with its name and the least bytes that a value takes.
const TYPES: [(ValueType, &str, usize); 13] = [
    (ValueType::U8, "u8", 1),
    (ValueType::I8, "i8", 1),
    (ValueType::U16, "u16", 2),
    (ValueType::I16, "i16", 2),
    (ValueType::U32, "u32", 4),
    (ValueType::I32, "i32", 4),
    (ValueType::F32, "f32", 4),
    (ValueType::Bool, "bool", 1),
    (ValueType::Text, "text", 8),
    (ValueType::Array, "array", 12),
    (ValueType::U64, "u64", 8),
    (ValueType::I64, "i64", 8),
    (ValueType::F64, "f64", 8),
];

impl ValueType {
    fn read(cursor: &mut Cursor<'_>, field: &str) -> Result<Self, GgufError> {
        let tag = cursor.u32("the type of a value")?;
        let found = usize::try_from(tag).ok().and_then(|tag| TYPES.get(tag));
        found.map(|(ty, ..)| *ty).ok_or_else(|| GgufError::ValueType { field: field.to_owned(), tag })
    }

    fn least_bytes(self) -> usize {
        TYPES.iter().find(|(ty, ..)| *ty == self).map_or(1, |(.., bytes)| *bytes)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TYPES.iter().find(|(ty, ..)| ty == self).map_or("", |(_, name, _)| name))
    }
}

/// A value; text and arrays stay in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer of any size, with its type.
    Unsigned(ValueType, u64),
    /// A signed integer of any size, with its type.
    Signed(ValueType, i64),
    /// Single or double precision, with its type.
    Float(ValueType, f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Values of one type.
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// Its type in the file.
    pub fn ty(&self) -> ValueType {
        match self {
            Self::Unsigned(ty, _) | Self::Signed(ty, _) | Self::Float(ty, _) => *ty,
            Self::Bool(_) => ValueType::Bool,
            Self::Text(_) => ValueType::Text,
            Self::Array(_) => ValueType::Array,
        }
    }

    /// The value of an integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(_, value) => Some(value),
            Self::Signed(_, value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The value of a floating-point number.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Float(_, value) = *self { Some(value) } else { None }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = *self { Some(value) } else { None }
    }

    /// The text.
    pub fn as_text(&self) -> Option<&'a str> {
        if let Self::Text(text) = *self { Some(text) } else { None }
    }

    /// The array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Self::Array(array) = *self { Some(array) } else { None }
    }

    /// Reads a type and a value of it.
    pub(crate) fn read(cursor: &mut Cursor<'a>, field: &str) -> Result<Self, GgufError> {
        let ty = ValueType::read(cursor, field)?;
        Self::of_type(ty, cursor, field, 0)
    }

    fn of_type(ty: ValueType, cursor: &mut Cursor<'a>, field: &str, depth: usize) -> Result<Self, GgufError> {
        const WHAT: &str = "a value";
        Ok(match ty {
            ValueType::U8 => Self::Unsigned(ty, u8::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::U16 => Self::Unsigned(ty, u16::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::U32 => Self::Unsigned(ty, cursor.u32(WHAT)?.into()),
            ValueType::U64 => Self::Unsigned(ty, cursor.u64(WHAT)?),
            ValueType::I8 => Self::Signed(ty, i8::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::I16 => Self::Signed(ty, i16::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::I32 => Self::Signed(ty, i32::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::I64 => Self::Signed(ty, i64::from_le_bytes(cursor.array(WHAT)?)),
            ValueType::F32 => Self::Float(ty, f32::from_le_bytes(cursor.array(WHAT)?).into()),
            ValueType::F64 => Self::Float(ty, f64::from_le_bytes(cursor.array(WHAT)?)),
            ValueType::Bool => Self::Bool(cursor.array::<1>(WHAT)? != [0]),
            ValueType::Text => Self::Text(cursor.text(WHAT)?),
            ValueType::Array => Self::Array(Array::read(cursor, field, depth)?),
        })
    }
}

/// Values of one type, read from the file as they are asked for. All of them have been looked at once.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    /// The type of its elements.
    pub element: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(cursor: &mut Cursor<'a>, field: &str, depth: usize) -> Result<Self, GgufError> {
        if depth == DEPTH {
            return Err(GgufError::Depth { field: field.to_owned(), most: DEPTH });
        }
        let element = ValueType::read(cursor, field)?;
        let len = cursor.count("elements of an array", element.least_bytes())?;
        let before = cursor.clone();
        for _ in 0..len {
            Value::of_type(element, cursor, field, depth + 1)?;
        }
        let bytes = before.clone().take(cursor.at() - before.at(), "an array")?;
        Ok(Self { element, len, bytes })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut cursor) = (self.element, Cursor::new(self.bytes));
        // The elements have been read once, when the file was parsed.
        (0..self.len).map_while(move |_| Value::of_type(element, &mut cursor, "", 0).ok())
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.element, self.len)
    }
}
