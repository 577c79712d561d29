//! The table of tensors.

use std::{fmt, ops::Range};

use crate::{GgufError, cursor::Cursor};

/// The most dimensions of a tensor.
const DIMENSIONS: u32 = 4;

/// The least bytes of a tensor's entry: its name's length, no dimension, type and offset.
pub(crate) const LEAST_BYTES: usize = 8 + 4 + 4 + 8;

/// How elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// Single precision.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of single precision.
    BF16,
    /// Blocks of 32: a scale and 4 bits an element.
    Q4_0,
    /// Blocks of 32: a scale, a minimum and 4 bits an element.
    Q4_1,
    /// Blocks of 32: a scale and 8 bits an element.
    Q8_0,
    /// One of ggml's other types, by its number; such tensors are listed and not read.
    Other(u32),
}

impl TensorType {
    fn from_tag(tag: u32) -> Self {
        match tag {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::BF16,
            other => Self::Other(other),
        }
    }

    /// Elements and bytes of a block; none for types that are not read.
    pub fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 2 + 16),
            Self::Q4_1 => (32, 2 + 2 + 16),
            Self::Q8_0 => (32, 2 + 32),
            Self::Other(_) => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(tag) => write!(f, "ggml type {tag}"),
            known => write!(f, "{known:?}"),
        }
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How elements are stored.
    pub ty: TensorType,
    /// Sizes of the dimensions, the slowest first as in PyTorch (files have them the other way round).
    pub shape: Vec<usize>,
    /// Number of elements.
    pub len: usize,
    /// Where the bytes lie in the file; empty for types that are not read.
    pub(crate) at: Range<usize>,
}

/// An entry of the table, before it is known where data starts.
pub(crate) struct Entry<'a> {
    pub name: &'a str,
    shape: Vec<usize>,
    ty: TensorType,
    offset: u64,
}

impl<'a> Entry<'a> {
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, GgufError> {
        const WHAT: &str = "the table of tensors";
        let name = cursor.text(WHAT)?;
        let dimensions = cursor.u32(WHAT)?;
        if dimensions > DIMENSIONS {
            return Err(wrong(name, format!("{dimensions} dimensions, more than {DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = cursor.u64(WHAT)?;
            shape.push(usize::try_from(size).map_err(|_| wrong(name, format!("a dimension of {size}")))?);
        }
        shape.reverse();
        let ty = TensorType::from_tag(cursor.u32(WHAT)?);
        Ok(Self { name, shape, ty, offset: cursor.u64(WHAT)? })
    }

    /// The tensor in a file of `file_len` bytes whose data starts at `start`.
    pub fn place(self, start: usize, alignment: u64, file_len: usize) -> Result<TensorInfo, GgufError> {
        let Self { name, shape, ty, offset } = self;
        let len = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let len = len.ok_or_else(|| wrong(name, format!("the shape {shape:?} is too large")))?;
        let Some((elements, bytes)) = ty.block() else {
            return Ok(TensorInfo { ty, shape, len, at: 0..0 });
        };
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(elements) {
            return Err(wrong(name, format!("rows of {row} elements are no blocks of {elements} ({ty})")));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(wrong(name, format!("its offset {offset} is not aligned to {alignment}")));
        }
        let beyond = || wrong(name, "it ends beyond the file; was the file cut short?".to_owned());
        let from = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
        let to =
            (len / elements).checked_mul(bytes).zip(from).and_then(|(size, from)| from.checked_add(size));
        let (from, to) = from.zip(to).filter(|(_, to)| *to <= file_len).ok_or_else(beyond)?;
        Ok(TensorInfo { ty, shape, len, at: from..to })
    }
}

pub(crate) fn wrong(name: &str, reason: String) -> GgufError {
    GgufError::Tensor { name: name.to_owned(), reason }
}
