//! A batch's columns with their types, found once a batch.

use crate::{Batch, Column, Error, Values};

/// The column of this name.
fn find<'a>(batch: &'a Batch, name: &str) -> Result<&'a Column, Error> {
    let found = batch.columns.iter().find(|column| column.name == name);
    found.ok_or_else(|| Error::Data(format!("the batch has no column `{name}`")))
}

/// The places of a record's values.
#[derive(Clone, Copy)]
struct Cells<'a> {
    rows: Option<&'a [u32]>,
    validity: Option<&'a [u8]>,
}

impl<'a> Cells<'a> {
    fn of(column: &'a Column) -> Self {
        Self { rows: column.rows.as_deref(), validity: column.validity.as_deref() }
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        match self.rows {
            None => row..row + 1,
            Some(rows) => rows[row] as usize..rows[row + 1] as usize,
        }
    }

    fn is_valid(&self, at: usize) -> bool {
        self.validity.is_none_or(|validity| validity[at] != 0)
    }
}

/// A column of texts.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    cells: Cells<'a>,
    offsets: &'a [u32],
    text: &'a str,
}

impl<'a> Texts<'a> {
    /// The column of this name.
    pub fn of(batch: &'a Batch, name: &str) -> Result<Self, Error> {
        let column = find(batch, name)?;
        let Values::Texts(packed) = &column.values else {
            return Err(Error::Data(format!("column `{name}` holds no texts")));
        };
        // Once for all values, not once a value.
        let text = std::str::from_utf8(&packed.bytes);
        let text = text.map_err(|_| Error::Data(format!("column `{name}` is not UTF-8")))?;
        Ok(Self { cells: Cells::of(column), offsets: &packed.offsets, text })
    }

    /// The texts of a record; those that are absent are left out.
    pub fn cell(self, row: usize) -> impl Iterator<Item = &'a str> {
        self.cells
            .range(row)
            .filter(move |at| self.cells.is_valid(*at))
            .map(move |at| &self.text[self.offsets[at] as usize..self.offsets[at + 1] as usize])
    }

    /// The first text of a record.
    pub fn get(self, row: usize) -> Option<&'a str> {
        self.cell(row).next()
    }
}

/// A column of few distinct strings.
#[derive(Clone, Copy)]
pub struct Coded<'a> {
    cells: Cells<'a>,
    codes: &'a [u32],
    values: &'a [String],
}

impl<'a> Coded<'a> {
    /// The column of this name.
    pub fn of(batch: &'a Batch, name: &str) -> Result<Self, Error> {
        let column = find(batch, name)?;
        let Values::Coded(dict) = &column.values else {
            return Err(Error::Data(format!("column `{name}` is not coded")));
        };
        Ok(Self { cells: Cells::of(column), codes: &dict.codes, values: &dict.values })
    }

    /// The strings of a record, in step with another column's values: absent ones are `None`.
    pub fn cell(self, row: usize) -> impl Iterator<Item = Option<&'a str>> {
        self.cells
            .range(row)
            .map(move |at| self.cells.is_valid(at).then(|| self.values[self.codes[at] as usize].as_str()))
    }
}

/// A column with one number a record.
#[derive(Clone, Copy)]
pub struct Numbers<'a, T> {
    validity: Option<&'a [u8]>,
    values: &'a [T],
}

impl<T: Copy> Numbers<'_, T> {
    /// The number of a record, if it has one.
    pub fn get(&self, row: usize) -> Option<T> {
        let valid = self.validity.is_none_or(|validity| validity[row] != 0);
        valid.then(|| self.values.get(row).copied()).flatten()
    }
}

macro_rules! numbers {
    ($ty:ty, $variant:ident) => {
        impl<'a> Numbers<'a, $ty> {
            /// The column of this name.
            pub fn of(batch: &'a Batch, name: &str) -> Result<Self, Error> {
                let column = find(batch, name)?;
                match &column.values {
                    Values::$variant(values) => Ok(Self { validity: column.validity.as_deref(), values }),
                    _ => Err(Error::Data(format!("column `{name}` holds other numbers"))),
                }
            }
        }
    };
}

numbers!(u32, U32s);
numbers!(u64, U64s);
numbers!(f32, F32s);
numbers!(f64, F64s);

/// A column with a list of texts a record.
pub fn columns_of(name: &str, records: impl IntoIterator<Item = Vec<String>>) -> Column {
    let (mut rows, mut packed) = (vec![0], crate::Packed { offsets: vec![0], bytes: Vec::new() });
    for texts in records {
        for text in texts {
            packed.bytes.extend_from_slice(text.as_bytes());
            packed.offsets.push(packed.bytes.len() as u32);
        }
        rows.push(packed.offsets.len() as u32 - 1);
    }
    Column { name: name.to_owned(), rows: Some(rows), validity: None, values: Values::Texts(packed) }
}
