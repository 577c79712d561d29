//! What can be wrong with a file.

use crate::ValueType;

/// Why bytes do not read as GGUF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The file does not start as a GGUF file.
    #[error("not a GGUF file: it does not start with `GGUF`")]
    Magic,
    /// A version that is not read.
    #[error("GGUF version {0} is not read; versions 2 and 3 are, little-endian")]
    Version(u32),
    /// The file ends within something.
    #[error("the file ends within {what}, at byte {at}; was it cut short?")]
    End {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: usize,
    },
    /// The header counts more than the file can hold.
    #[error("the header counts {count} {what}, more than the file has room for")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many.
        count: u64,
    },
    /// Text that is not UTF-8.
    #[error("text at byte {at} is not UTF-8")]
    Text {
        /// Where it starts.
        at: usize,
    },
    /// A type of values that GGUF does not have.
    #[error("`{field}` has a value of the unknown type {tag}")]
    ValueType {
        /// The field.
        field: String,
        /// The type's number.
        tag: u32,
    },
    /// Arrays within arrays beyond reason.
    #[error("`{field}` has arrays within arrays, deeper than {most}")]
    Depth {
        /// The field.
        field: String,
        /// How deep they may be.
        most: usize,
    },
    /// A name stands twice.
    #[error("there are two {what} named `{name}`")]
    Twice {
        /// Fields or tensors.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `general.alignment` is no power of two.
    #[error("`general.alignment` is {0}; it has to be a power of two from 8 on")]
    Alignment(u64),
    /// A tensor's shape, type or place makes no sense.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A field that is needed is not there.
    #[error("there is no field `{0}`")]
    NoField(String),
    /// A field has another type than is needed.
    #[error("the field `{name}` is {found}, not {wanted}")]
    FieldType {
        /// The field.
        name: String,
        /// What it is.
        found: ValueType,
        /// What is needed.
        wanted: &'static str,
    },
}
